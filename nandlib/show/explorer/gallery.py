"""A gallery: images of one kind with everything that does not depend on the texts, computed once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from nandlib.data.images import ImageLike, as_image, load_mask
from nandlib.detectors.fit import fit_detector
from nandlib.detectors.patchcore import PatchCore
from nandlib.errors import DataError
from nandlib.evaluation.decisions import FALSE_ALARMS
from nandlib.method.batches import mean_token
from nandlib.method.config import NandConfig, PromptConfig
from nandlib.method.operators import image_score, resize_map
from nandlib.method.prompts import PromptSet, load_prompts
from nandlib.method.threshold import conformal_threshold
from nandlib.models import ImageFeatures, VisionLanguageModel
from nandlib.study.class_maps import ClassMaps
from nandlib.study.images import image_paths, some_normals
from nandlib.study.model import model_of
from nandlib.study.open_study import OpenStudy

SIDE = 256  # of the pictures that are shown
STAYS = "always abnormal"  # in place of a group, for types that are in none
Progress = Callable[[int, int], None]  # images done, images in all


@dataclass(frozen=True)
class Gallery:
    """Images of one kind, with everything that does not depend on the texts.

    Attributes:
        noun: What the images show.
        names: Of the N images.
        groups: ``good``, an anomaly group, `STAYS`, or empty where nobody knows.
        pictures: RGB uint8 ``(SIDE, SIDE, 3)`` each.
        masks: bool ``(SIDE, SIDE)``, or None: of good images, and where there is none.
        features: Of all images, on every layer.
        base: Detector → anomaly maps ``(N, S, S)``.
        thresholds: Detector → a threshold from normal images: the 95 % quantile of their scores; the largest score of all images
            where there are none.
        model, prompts, nand: Of the study.
        normal_token: With which `nand_plus` is calibrated; None without normal images.
        phrases: Group → the study's phrases for it.
        encoded: Text features by their sentences, so that none is encoded twice.
    """

    noun: str
    names: list[str]
    groups: list[str]
    pictures: list[np.ndarray]
    masks: list[np.ndarray | None]
    features: ImageFeatures
    base: dict[str, Tensor]
    thresholds: dict[str, float]
    model: VisionLanguageModel
    prompts: PromptSet
    nand: NandConfig
    normal_token: Tensor | None
    phrases: Mapping[str, tuple[str, ...]]
    encoded: dict[tuple[str, ...], Tensor] = field(default_factory=dict, repr=False)

    @classmethod
    def of_study(cls, study: OpenStudy, class_name: str, progress: Progress = lambda done, total: None) -> Gallery:
        """The test images of one class, with the maps that the study has stored.

        Raises:
            DataError: If the study has not been run.
        """
        maps, rows, model = ClassMaps.of(study, class_name), study.rows(class_name), model_of(study)
        pictures, features = _encode(model, image_paths(study, class_name), progress)
        train = image_paths(study, class_name, "train")
        normals = [train[k] for k in some_normals(len(train))]
        base: dict[str, Tensor] = {name: maps.base(name) for name in study.config.detectors}
        scores = {name: maps.normal_scores(name) for name in base}
        return cls(
            noun=class_name,
            names=[name.removeprefix(f"{class_name}/test/") for name in rows["image"]],
            groups=[group or STAYS for group in rows["group"]],
            pictures=pictures,
            masks=[load_mask(study.images / mask, (SIDE, SIDE)) if mask else None for mask in rows["mask"]],
            features=features,
            base=base,
            thresholds={name: _threshold(scores[name], maps_of) for name, maps_of in base.items()},
            model=model,
            prompts=study.prompts,
            nand=study.config.nand,
            normal_token=mean_token(model, normals) if normals else None,
            phrases={g: tuple(study.prompts.group_phrases(class_name, g, t)) for g, t in study.test_groups()[class_name].items()},
        )

    @classmethod
    def of_images(
        cls,
        images: Mapping[str, ImageLike],
        model: VisionLanguageModel,
        *,
        noun: str = "object",
        normals: Sequence[ImageLike] = (),
        nand: NandConfig = NandConfig(),
        progress: Progress = lambda done, total: None,
    ) -> Gallery:
        """One's own images: name → image. With some normal images PatchCore, few-shot WinCLIP and `nand_plus` can be chosen too.

        Raises:
            DataError: If there is no image, or one cannot be read.
        """
        if not images:
            raise DataError("no image was given")
        pictures, features = _encode(model, list(images.values()), progress)
        names = ["aprilgan", "winclip_0", *(("winclip_1", "patchcore") if normals else ())]
        detectors = {name: fit_detector(name, model, noun=noun, normals=normals, nand=nand) for name in names}
        side = (nand.map_size, nand.map_size)
        base = {n: resize_map(torch.from_numpy(d(list(images.values()))), side) for n, d in detectors.items()}
        known = {n: image_score(torch.from_numpy(d(normals))).numpy() for n, d in detectors.items() if normals and n != "patchcore"}
        if len(normals) > 1:
            patchcore = detectors["patchcore"]
            assert isinstance(patchcore, PatchCore)  # by its name
            known["patchcore"] = image_score(patchcore.normal_maps(range(len(normals)))).numpy()
        return cls(
            noun=noun,
            names=list(images),
            groups=[""] * len(images),
            pictures=pictures,
            masks=[None] * len(images),
            features=features,
            base=base,
            thresholds={name: _threshold(known.get(name), maps) for name, maps in base.items()},
            model=model,
            prompts=load_prompts(PromptConfig(file="aprilgan")),
            nand=nand,
            normal_token=mean_token(model, normals) if normals else None,
            phrases={},
        )

    @property
    def methods(self) -> tuple[str, ...]:
        """Rules that can be chosen: `nand_plus` needs normal images."""
        return ("nand", "nand_plus") if self.normal_token is not None or not self.nand.plus.calibrate else ("nand",)

    @cached_property
    def layer_mean(self) -> ImageFeatures:
        """The features with their layers averaged: all that `nand_plus` asks of them."""
        return ImageFeatures(self.features.tokens.mean(1, keepdim=True), self.features.image, self.features.grid)


def _encode(model: VisionLanguageModel, images: Sequence[ImageLike], progress: Progress) -> tuple[list[np.ndarray], ImageFeatures]:
    pictures, tokens, whole = [], [], []
    for k, image in enumerate(map(as_image, images)):
        features = model.encode_image(model.preprocess(image)[None])
        pictures.append(np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR)))
        tokens.append(features.tokens)
        whole.append(features.image)
        progress(k + 1, len(images))
    return pictures, ImageFeatures(torch.cat(tokens), torch.cat(whole), features.grid)


def _threshold(normal_scores: np.ndarray | None, maps: Tensor) -> float:
    return float(maps.max()) if normal_scores is None else conformal_threshold(normal_scores, FALSE_ALARMS)[0]
