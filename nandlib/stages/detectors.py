"""The detectors that are trained here, on a whole study: the protocol by both rules, and what they cost, beside PatchCore in one run."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from nandlib.data.images import as_image
from nandlib.detectors.base import TorchDetector
from nandlib.detectors.fit import TRAINED
from nandlib.detectors.fitted import FittedDetector
from nandlib.detectors.patchcore import PatchCore
from nandlib.detectors.training import Run
from nandlib.evaluation.origin import group_origins
from nandlib.evaluation.protocol import auroc, check_identity, identity_residuals
from nandlib.evaluation.uncertainty import protocol_tables
from nandlib.method.config import NandConfig
from nandlib.method.operators import resize_map
from nandlib.models import VisionLanguageModel
from nandlib.study.class_maps import ClassMaps, score_class
from nandlib.study.images import image_paths
from nandlib.study.model import model_of
from nandlib.study.open_study import OpenStudy

RULES = ("nand", "nand_plus")
TOGETHER = ("uniad", "onenip")  # one model for all classes
TIMED, REPEATS = 8, 3  # images, passes
COST = ["detector", "train_s", "image_ms", "backbone_ratio", "state_mb", "peak_gb", "auroc_map", "auroc_official"]


def write_detectors(study: OpenStudy, names: Sequence[str] = tuple(TRAINED), progress: bool = True) -> pd.DataFrame:
    """Train detectors on a study's normal images, and write ``detectors/``: ``scores.csv.gz`` (image scores before and after every group,
    by the paper's rule), ``deltas.csv``, ``base_auroc.csv``, ``detectors.csv`` (means by both rules, with intervals) and ``cost.csv``.

    PatchCore takes part, so that every number has its neighbour from the same run. The study's similarities must have been computed.

    Args:
        study: The study.
        names: Of trained detectors.
        progress: Show the progress of training.

    Returns:
        ``cost.csv``, columns `COST`: seconds to train on all classes, milliseconds an image (and how many times the backbone's bare
        pass), megabytes of state (PatchCore: its memory), the process's largest memory so far, and ordinary image AUROC A0 by the
        maximum of the map and by the official score, in percent, mean over classes.
    """
    model, maps, costs = model_of(study), dict[str, dict[str, Tensor]](), []
    for name in (*names, "patchcore"):
        start, trained = time.perf_counter(), _fit(name, study, model, progress)
        seconds = time.perf_counter() - start
        maps[name] = {class_name: _maps(one, study, class_name) for class_name, one in trained.items()}
        costs.append((name, seconds, *_speed(trained, study, model), _state(trained), _peak(), *_a0(trained, maps[name], study)))
    rules = {rule: study.config.nand.model_copy(update={"method": rule}) for rule in RULES}
    frames = {
        rule: pd.concat([_scores(study, class_name, maps, rule_config) for class_name in study.classes()], ignore_index=True)
        for rule, rule_config in rules.items()
    }
    tables = {rule: protocol_tables(frame, group_origins(study)) for rule, frame in frames.items()}
    first = tables["nand"]
    check_identity(identity_residuals(first["deltas"], first["base_auroc"], frames["nand"]))
    study.write_scores(frames["nand"], "detectors/scores.csv.gz")
    study.write_csv(first["deltas"], "detectors/deltas.csv")
    study.write_csv(first["base_auroc"], "detectors/base_auroc.csv")
    study.write_csv(
        pd.concat([own["detectors"].assign(rule=rule) for rule, own in tables.items()], ignore_index=True), "detectors/detectors.csv"
    )
    cost = pd.DataFrame(costs, columns=COST).round({"train_s": 1, "image_ms": 1, "backbone_ratio": 2, "state_mb": 2, "peak_gb": 2})
    study.write_csv(cost, "detectors/cost.csv")
    return cost


def _fit(name: str, study: OpenStudy, model: VisionLanguageModel, progress: bool) -> dict[str, TorchDetector]:
    """Class → the detector that answers for it."""
    normals = {class_name: image_paths(study, class_name, "train") for class_name in study.classes()}
    if name == "patchcore":
        return {class_name: PatchCore(model, own, study.config.patchcore) for class_name, own in normals.items()}
    kept, kind = study.data / "detectors", TRAINED[name]
    kept.mkdir(parents=True, exist_ok=True)
    if name in TOGETHER:
        one = _trained(kind, normals, model, kept / name, progress)
        return {class_name: one.of_class(class_name) for class_name in normals}
    return {key: _trained(kind, {key: own}, model, kept / f"{name}_{key}", progress) for key, own in normals.items()}


def _trained(
    kind: type[FittedDetector[Any]], normals: Mapping[str, Sequence[Path]], model: VisionLanguageModel, stem: Path, progress: bool
) -> FittedDetector[Any]:
    """Trained and saved; a training that was stopped is gone on with."""
    unfinished = stem.with_suffix(".pt")
    found = kind.fit(normals, model, run=Run(unfinished, progress))
    found.save(stem.with_suffix(".safetensors"))
    unfinished.unlink()
    return found


def _batches(detector: TorchDetector, study: OpenStudy, class_name: str) -> Iterator[Tensor]:
    paths = image_paths(study, class_name)
    for start in range(0, len(paths), TIMED):
        yield torch.stack([detector.preprocess(as_image(path)) for path in paths[start : start + TIMED]])


@torch.no_grad()
def _maps(detector: TorchDetector, study: OpenStudy, class_name: str) -> Tensor:
    size = (study.config.nand.map_size,) * 2
    return torch.cat([resize_map(detector.maps(batch).float(), size) for batch in _batches(detector, study, class_name)])


@torch.no_grad()
def _speed(trained: Mapping[str, TorchDetector], study: OpenStudy, model: VisionLanguageModel) -> tuple[float, float]:
    """Milliseconds an image from its tensor to its map, and that over the backbone's bare pass: medians of passes in turn."""
    class_name, detector = next(iter(trained.items()))
    batch, times = next(_batches(detector, study, class_name)), []
    for _ in range(REPEATS + 1):  # the first warms up
        pair = []
        for run in (model.tower, detector.maps):
            start = time.perf_counter()
            run(batch.clone())  # the tower remembers the tensor itself
            pair.append(time.perf_counter() - start)
        times.append(pair)
    bare, whole = np.median(times[1:], axis=0)
    return 1000 * float(whole) / len(batch), float(whole / bare)


def _state(trained: Mapping[str, TorchDetector]) -> float:
    tensors: dict[int, Tensor] = {}
    for one in trained.values():
        own = one.tensors.values() if isinstance(one, FittedDetector) else [one.memory] if isinstance(one, PatchCore) else []
        tensors |= {tensor.data_ptr(): tensor for tensor in own}
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()) / 1e6


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def _a0(trained: Mapping[str, TorchDetector], maps: Mapping[str, Tensor], study: OpenStudy) -> tuple[float, float]:
    """Image AUROC by the maximum of the map, and by the official score (PatchCore: the same), mean over classes."""
    found = []
    for class_name, detector in trained.items():
        label, scores = study.rows(class_name, "test")["group"] != "good", maps[class_name].amax((1, 2)).numpy()
        official = detector.image_scores(image_paths(study, class_name)) if isinstance(detector, FittedDetector) else scores
        found.append((auroc(label, scores), auroc(label, official)))
    first, second = np.mean(found, axis=0)
    return float(first), float(second)


def _scores(study: OpenStudy, class_name: str, maps: Mapping[str, Mapping[str, Tensor]], nand: NandConfig) -> pd.DataFrame:
    own = {f"{name}/test": found[class_name] for name, found in maps.items()}
    known = ClassMaps.of(study, class_name).with_stored(own)
    return score_class(known, study.rows(class_name), list(maps), nand)
