"""A gallery: images of one kind with everything that does not depend on the texts, computed once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from nandlib.data.images import ImageLike, as_image, load_mask
from nandlib.data.maps import Detector, MapFolder, check_maps
from nandlib.detectors.fit import fit_detector, shots
from nandlib.detectors.patchcore import PatchCore
from nandlib.errors import DataError, ModelError
from nandlib.evaluation.decisions import FALSE_ALARMS
from nandlib.method.batches import mean_token
from nandlib.method.config import METHODS, NandConfig, PromptConfig
from nandlib.method.descriptors import Descriptors
from nandlib.method.examples import residuals
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
        normal_scores: Detector → image scores of normal images, or None where there are none.
        model, prompts, nand: Of the study.
        normal_token: With which `nand_plus` is calibrated; None without normal images.
        images: The images themselves, or their paths: an example is seen in several positions.
        describe: By which examples are compared; None without normal images, or where the model has no descriptors.
        residuals: ``(N, C, h, w)``: how every patch differs from what is normal (`nandlib.method.examples`); None where `describe` is.
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
    normal_scores: dict[str, np.ndarray | None]
    model: VisionLanguageModel
    prompts: PromptSet
    nand: NandConfig
    normal_token: Tensor | None
    images: Sequence[ImageLike]
    describe: Descriptors | None
    residuals: Tensor | None
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
        images = image_paths(study, class_name)
        describe, differences = _residuals(model, images, normals)
        return cls(
            noun=class_name,
            names=[name.removeprefix(f"{class_name}/test/") for name in rows["image"]],
            groups=[group or STAYS for group in rows["group"]],
            pictures=pictures,
            masks=[load_mask(study.images / mask, (SIDE, SIDE)) if mask else None for mask in rows["mask"]],
            features=features,
            base=base,
            normal_scores={name: maps.normal_scores(name) for name in base},
            model=model,
            prompts=study.prompts,
            nand=study.config.nand,
            normal_token=mean_token(model, normals) if normals else None,
            images=images,
            describe=describe,
            residuals=differences,
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
        detectors: Mapping[str, Detector] | None = None,
        nand: NandConfig = NandConfig(),
        progress: Progress = lambda done, total: None,
    ) -> Gallery:
        """One's own images: name → image. With some normal images examples can be shown, and `nand_plus` be chosen.

        The detectors are one's own, by name, or those of the study: with normal images PatchCore and few-shot WinCLIP too.

        Raises:
            DataError: If there is no image, or one cannot be read.
        """
        if not images:
            raise DataError("no image was given")
        pictures, features = _encode(model, list(images.values()), progress)
        if detectors is None:
            names = ["aprilgan", "winclip_0", *(("winclip_1", "patchcore") if normals else ())]
            detectors = {name: fit_detector(name, model, noun=noun, normals=normals, nand=nand) for name in names}
        describe, differences = _residuals(model, list(images.values()), normals)
        side = (nand.map_size, nand.map_size)
        base = {name: _maps(detector, list(images.values()), side) for name, detector in detectors.items()}
        return cls(
            noun=noun,
            names=list(images),
            groups=[""] * len(images),
            pictures=pictures,
            masks=[None] * len(images),
            features=features,
            base=base,
            normal_scores={name: _normal_scores(detector, normals[shots(name) :], side) for name, detector in detectors.items()},
            model=model,
            prompts=load_prompts(PromptConfig(file="aprilgan")),
            nand=nand,
            normal_token=mean_token(model, normals) if normals else None,
            images=list(images.values()),
            describe=describe,
            residuals=differences,
            phrases={},
        )

    @property
    def methods(self) -> tuple[str, ...]:
        """Rules that can be chosen: one that is calibrated needs normal images."""
        rules = {method: self.nand.model_copy(update={"method": method}) for method in METHODS}
        return tuple(method for method, nand in rules.items() if self.normal_token is not None or not nand.calibrated)

    def threshold(self, detector: str) -> float:
        """The 95 % quantile of normal images' scores; the largest score of all images where there are none."""
        scores = self.normal_scores[detector]
        return float(self.base[detector].max()) if scores is None else conformal_threshold(scores, FALSE_ALARMS)[0]

    @cached_property
    def layer_mean(self) -> ImageFeatures:
        """The features with their layers averaged: all that `nand_plus` asks of them."""
        return ImageFeatures(self.features.tokens.mean(1, keepdim=True), self.features.image, self.features.grid)


def _encode(model: VisionLanguageModel, images: Sequence[ImageLike], progress: Progress) -> tuple[list[np.ndarray], ImageFeatures]:
    pictures, tokens, whole = [], [], []
    for k, image in enumerate(map(as_image, images)):
        features = model.encode_image(model.preprocess(image)[None])
        pictures.append(np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR)))
        tokens.append(features.tokens.cpu())  # those of all images: they may not fit on a GPU
        whole.append(features.image)
        progress(k + 1, len(images))
    return pictures, ImageFeatures(torch.cat(tokens), torch.cat(whole), features.grid)


def _maps(detector: Detector, images: Sequence[ImageLike], side: tuple[int, int]) -> Tensor:
    maps = check_maps(detector(images), len(images), type(detector).__name__)
    return torch.cat([_of_side(torch.from_numpy(single)[None], side) for single in maps])


def _of_side(maps: Tensor, side: tuple[int, int]) -> Tensor:
    """Maps ``(N, H, W)`` of one size; larger ones keep their peaks, and so their scores."""
    return resize_map(F.adaptive_max_pool2d(maps, [min(pair) for pair in zip(maps.shape[-2:], side, strict=True)]), side)


def _normal_scores(detector: Detector, normals: Sequence[ImageLike], side: tuple[int, int]) -> np.ndarray | None:
    """Of images that are no references. Of PatchCore, each without its own part of the memory, which takes two images; of a folder of maps,
    and of no image, none are known."""
    if isinstance(detector, MapFolder) or len(normals) <= isinstance(detector, PatchCore):
        return None
    if isinstance(detector, PatchCore):
        return image_score(_of_side(detector.normal_maps(range(len(normals))), side)).numpy()
    return image_score(_maps(detector, normals, side)).numpy()


@torch.no_grad()
def _residuals(
    model: VisionLanguageModel, images: Sequence[ImageLike], normals: Sequence[ImageLike]
) -> tuple[Descriptors, Tensor] | tuple[None, None]:
    """The model's own descriptors, and ``(N, C, h, w)`` from them; None where it has none, or nothing normal is known."""
    if not normals:
        return None, None
    describe = Descriptors(no_detector, model, normals)
    try:
        found = describe(images)
    except ModelError:
        return None, None
    return describe, torch.stack([residuals(own.flatten(1).T, describe.normal).T.view_as(own) for own in found])


def no_detector(images: Sequence[ImageLike]) -> list[np.ndarray]:
    """In place of a detector whose maps are computed already."""
    raise DataError("the gallery's maps are computed already")
