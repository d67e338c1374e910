"""What the paper leaves open, choice by choice: every ambiguity set the other way, all else as the study has it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from tqdm.auto import tqdm

from nandlib.data.layouts import layout_of
from nandlib.data.manifest import build_manifest
from nandlib.errors import DataError
from nandlib.evaluation.protocol import delta_table, detector_table
from nandlib.method.detection import text_features
from nandlib.method.prompts import load_prompts
from nandlib.models import VisionLanguageModel
from nandlib.study.class_maps import ClassMaps, score_class
from nandlib.study.encoding import encode
from nandlib.study.model import model_of
from nandlib.study.open_study import OpenStudy
from nandlib.study.preset import ModelConfig, Study

DETECTOR = "aprilgan"  # the one whose map every choice bears on
PROJECTIONS = (Path("data/models/aprilgan/visa.safetensors"), Path("data/models/aprilgan/mvtec.safetensors"))
COLUMNS = ["choice", "value", "is_default", "auroc_before", "auroc_after", "delta", "difference", "n_improved", "n_groups"]


@dataclass(frozen=True)
class Variant:
    """One choice of the study set to one value; `config` is the whole preset with it."""

    choice: str
    value: str
    is_default: bool
    config: Study


Choices = dict[str, dict[str, dict[str, Any]]]  # choice → value → what it changes in the preset


def _of_the_rule(n_layers: int) -> Choices:
    """Softmax and layers."""
    last, early = n_layers - 1, tuple(range(n_layers // 2))
    return {
        "temperature": {
            "the model's own": {"nand.temperature": None},
            "1": {"nand.temperature": 1.0},
            "1/0.07": {"nand.temperature": 1 / 0.07},
            "100": {"nand.temperature": 100.0},
        },
        "layers to one A_sup": {
            "mean": {"nand.layer_aggregation": "mean"},
            "sum clipped to 1": {"nand.layer_aggregation": "clipped_sum"},
            "raw sum": {"nand.layer_aggregation": "sum"},
            "maximum": {"nand.layer_aggregation": "max"},
        },
        "layers of A_sup": {
            "all": {"nand.layers": None},
            "first half": {"nand.layers": early},
            "last one": {"nand.layers": (last,)},
        },
        "softmax of f_add against": {
            "normal": {"nand.softmax_against": ("normal",)},
            "abnormal": {"nand.softmax_against": ("abnormal",)},
            "normal and abnormal": {"nand.softmax_against": ("normal", "abnormal")},
        },
    }


def _of_the_texts(study: Study) -> Choices:
    """Phrases, and how they become one feature."""
    return {
        "class name in f_nor and f_abn": {
            "verbatim": {"prompts.class_name": "verbatim"},
            "cleaned": {"prompts.class_name": "cleaned"},
        },
        "mean of text features": {
            "unit norm first": {"prompts.average": "normalised"},
            "as they are": {"prompts.average": "raw_mean"},
        },
        "a group of several types": {
            "phrases of all": {"prompts.group_text": "union"},
            "name of the group": {"prompts.group_text": "group_name"},
        },
        "phrases": {
            study.prompts.file: {},
            "type_name": {"prompts.file": "type_name"},
            "type_templates": {"prompts.file": "type_templates"},
        },
    }


def _of_the_maps() -> Choices:
    """Size, interpolation, floor, image score."""
    return {
        "map size": {"256": {"nand.map_size": 256}, "518": {"nand.map_size": 518}},
        "interpolation": {
            "logits": {"nand.resize": "logits"},
            "probabilities": {"nand.resize": "probabilities"},
        },
        "corners in the interpolation": {
            "aligned": {"nand.align_corners": True},
            "not aligned": {"nand.align_corners": False},
        },
        "floor of A": {
            "none": {"nand.base_normalisation": "none"},
            "training-normal": {"nand.base_normalisation": "train_normal"},
        },
        "image score": {
            "maximum": {"nand.image_score": "max"},
            "mean of the top 0.1%": {"nand.image_score": "topk_mean", "nand.top_fraction": 0.001},
            "maximum and whole image": {"nand.image_score": "max_plus_image"},
        },
    }


def _of_the_files(study: Study, other_projections: Sequence[Path]) -> Choices:
    """Precision, projections and images, where there is a choice."""
    choices: Choices = {}
    if study.model.name == "clip":
        choices["precision"] = {"float32": {"model.precision": "float32"}, "autocast": {"model.precision": "autocast"}}
    if other_projections and study.model.weights is not None:
        choices["projections"] = {study.model.weights.stem: {}} | {path.stem: {"model.weights": path} for path in other_projections}
    if study.data.exclude_types:
        kept = {"data.exclude_types": (), "data.abnormal_types": (*study.data.abnormal_types, *study.data.exclude_types)}
        choices["images of " + ", ".join(study.data.exclude_types)] = {"left out": {}, "kept as abnormal": kept}
    return choices


def variants(study: Study, n_layers: int, own_temperature: float, other_projections: Sequence[Path] = ()) -> list[Variant]:
    """Every value of every choice, as whole presets.

    Args:
        study: The preset that is varied.
        n_layers: Of its vision-language model.
        own_temperature: The model's.
        other_projections: Files of projections that were trained on other data.
    """
    known = study.nand.temperature is None  # else the model's own is another choice
    choices = _of_the_rule(n_layers) | _of_the_texts(study) | _of_the_maps() | _of_the_files(study, other_projections)
    found = []
    for choice, values in choices.items():
        for value, changes in values.items():
            config = change(study, changes)
            same = config == study or (known and changes.get("nand.temperature") == own_temperature)
            found.append(Variant(choice, value, same, config))
    return found


def change(study: Study, changes: dict[str, Any]) -> Study:
    """The preset with other values at dotted keys."""
    for key, value in changes.items():
        section, name = key.split(".")
        study = study.model_copy(update={section: getattr(study, section).model_copy(update={name: value})})
    return study


def sensitivity(study: OpenStudy, progress: bool = True) -> pd.DataFrame:
    """Mean Δ AUROC of APRIL-GAN for every value of every choice.

    Every image is encoded once a precision and file of projections; all the rest follows from its similarities with the texts of
    all variants.

    Args:
        study: An open study whose manifest has been written.
        progress: Show a progress bar.

    Returns:
        Columns `COLUMNS`: AUROC before and after and Δ (mean over classes, percent), the difference of Δ from the study's own
        choices (points), how many groups improve.
    """
    study = OpenStudy(study.root, change(study.config, {"nand.method": "nand"}))  # every choice is one of the paper's rule
    other = [path for path in PROJECTIONS if study.config.model.name == "clip" and (study.root / path).is_file()]
    other = [path for path in other if path != study.config.model.weights]
    own = model_of(study)
    every = variants(study.config, own.n_layers, own.temperature, other)
    models: list[tuple[ModelConfig, VisionLanguageModel]] = []
    for config in (variant.config.model for variant in every):
        if config not in [known for known, _ in models]:
            same = config == study.config.model
            models.append((config, own if same else model_of(OpenStudy(study.root, study.config.model_copy(update={"model": config})))))
    configs: list[Study] = []  # different ones: every choice has the study itself among its values
    for variant in every:
        if variant.config not in configs:
            configs.append(variant.config)
    scores: list[list[pd.DataFrame]] = [[] for _ in configs]
    for class_name in tqdm(study.classes(), desc="sensitivity", disable=not progress):
        for k, frame in _class_scores(study, class_name, configs, models):
            scores[k].append(frame)
    tables = [detector_table(delta_table(pd.concat(parts, ignore_index=True), precision=False)).iloc[0] for parts in scores]
    rows = []
    for variant in every:
        means = tables[configs.index(variant.config)]
        rows.append([variant.choice, variant.value, variant.is_default, *means[["auroc_before", "auroc_after", "delta"]], 0.0])
        rows[-1] += [int(means["n_improved"]), int(means["n_groups"])]
    frame = pd.DataFrame(rows, columns=COLUMNS)
    own = frame.loc[frame["is_default"], "delta"]
    if own.empty:
        raise DataError("no variant is the study's own: its preset has values that the sensitivity study does not know")
    return frame.assign(difference=frame["delta"] - own.iloc[0])


def _class_scores(
    study: OpenStudy, class_name: str, configs: list[Study], models: list[tuple[ModelConfig, VisionLanguageModel]]
) -> Iterator[tuple[int, pd.DataFrame]]:
    """Number of each preset and its scores for one class."""
    rows = {"test": _all_rows(study, class_name), "train": study.rows(class_name, "train")}
    paths = {split: [study.images / name for name in frame["image"]] for split, frame in rows.items()}
    groups = study.test_groups()[class_name]
    known = {config: load_prompts(config) for config in {config.prompts for config in configs}}
    prompts = [known[config.prompts] for config in configs]
    sentences = [one.of_class(class_name, groups) for one in prompts]
    for model_config, model in models:
        members = [k for k, config in enumerate(configs) if config.model == model_config]
        order = dict[tuple[str, ...], int]()  # average and sentences → number
        features = []
        for average, one_of_them in {prompts[k].config.average: prompts[k] for k in members}.items():
            alike = [k for k in members if prompts[k].config.average == average]
            new = list(dict.fromkeys(tuple(one) for k in alike for one in sentences[k].values()))
            order |= {(average, *one): len(order) + n for n, one in enumerate(new)}
            features.append(text_features(model, new, one_of_them))
        stacked = torch.cat(features)
        cos, grid = encode(paths, model, stacked)
        for k in members:
            config = configs[k]
            columns = [order[(config.prompts.average, *one)] for one in sentences[k].values()]
            kept = ~rows["test"]["type"].isin(config.data.exclude_types).to_numpy()
            own = {split: values[:, columns] for split, values in cos.items()}
            own |= {split: own[split][kept] for split in ("test", "test_image")}
            maps = ClassMaps(class_name, config.nand, own, list(sentences[k]), grid, model.temperature)
            yield k, score_class(maps, rows["test"][kept].reset_index(drop=True), (DETECTOR,))


def _all_rows(study: OpenStudy, class_name: str) -> pd.DataFrame:
    """Test rows of a class with the images of left-out types, which are in no group."""
    data = study.config.data
    if not data.exclude_types:
        return study.rows(class_name)
    everything = {"classes": (class_name,), "exclude_classes": (), "exclude_types": ()}
    present = {item.type for item in layout_of(study.images, data.layout).items(study.images, class_name)}
    everything["abnormal_types"] = tuple(t for t in (*data.abnormal_types, *data.exclude_types) if t in present)
    manifest, _ = build_manifest(study.images, data.model_copy(update=everything), study.grouping, progress=False)
    return manifest[manifest["split"] == "test"].reset_index(drop=True)
