"""What detectors need beyond the similarities: maps of WinCLIP and PatchCore, reference distances of few-shot APRIL-GAN."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from nandlib.data.images import load_image
from nandlib.detectors.aprilgan import ReferenceDistance
from nandlib.detectors.base import TorchDetector
from nandlib.detectors.config import DetectorName
from nandlib.detectors.patchcore import PatchCore
from nandlib.detectors.winclip import ClipWindowEncoder, WinClip, WindowEncoder
from nandlib.errors import DataError
from nandlib.method.operators import resize_map
from nandlib.models import VisionLanguageModel
from nandlib.study.fingerprint import content, digest, source_code, weight_contents
from nandlib.study.images import batches, image_paths, some_normals, splits
from nandlib.study.model import model_of, placement
from nandlib.study.open_study import OpenStudy
from nandlib.study.store import update

Model = Callable[[], VisionLanguageModel]
Build = Callable[[str, list[DetectorName]], dict[str, TorchDetector]]  # of one class: detector → its maps
CODE = ("nandlib.detectors.aprilgan", "nandlib.detectors.patchcore", "nandlib.detectors.winclip", "nandlib.study.images")  # that compute


def write_maps(study: OpenStudy, progress: bool = True) -> None:
    """``test`` (and ``train``) maps ``(N, S, S)`` float32, one file a family of detectors and class; PatchCore's ``normals`` as well."""
    model = cache(lambda: model_of(study))  # loaded when the first class needs it
    families: dict[str, Callable[[OpenStudy, Model], Build]] = {"aprilgan": _few_shot, "winclip": _winclip, "patchcore": _patchcore}
    for family, builder in families.items():
        names: list[DetectorName] = [name for name in study.config.detectors if name.startswith(family) and name != "aprilgan"]
        _write_family(study, family, names, builder(study, model), progress)


def _write_family(study: OpenStudy, family: str, names: list[DetectorName], build: Build, progress: bool) -> None:
    config, size = study.config, study.config.nand.map_size
    code, weights = source_code(__name__, *CODE), weight_contents(study, "model", family)
    parameters = {
        "aprilgan": (config.winclip.seed, config.nand.align_corners),
        "winclip": config.winclip.model_dump(),
        "patchcore": config.patchcore.model_dump(),
    }[family]

    def fingerprint(class_name: str) -> str:
        images = [content(image_paths(study, class_name, split)) for split in ("train", "test")]
        return digest(code, weights, config.model.model_dump(), parameters, size, names, splits(study), class_name, images)

    def compute(class_name: str) -> tuple[dict[str, Tensor], dict[str, str]]:
        return _class_maps(study, class_name, build(class_name, names)), {}

    with torch.no_grad():
        update(study.data / "maps" / family, study.classes() if names else [], fingerprint, compute, progress)


def _class_maps(study: OpenStudy, class_name: str, detectors: dict[str, TorchDetector]) -> dict[str, Tensor]:
    """``<detector>/<split>``, and ``<detector>/normals`` of PatchCore."""
    size, tensors = (study.config.nand.map_size,) * 2, dict[str, Tensor]()
    preprocess = next(iter(detectors.values())).preprocess
    for split in splits(study):
        maps: dict[str, list[Tensor]] = {name: [] for name in detectors}
        for batch in batches(image_paths(study, class_name, split), preprocess):
            for name, detector in detectors.items():
                maps[name].append(resize_map(detector.maps(batch).float(), size))
        tensors |= {f"{name}/{split}": torch.cat(parts) for name, parts in maps.items()}
    count = len(image_paths(study, class_name, "train"))
    for name, detector in detectors.items():
        if isinstance(detector, PatchCore) and count > 1:
            tensors[f"{name}/normals"] = resize_map(detector.normal_maps(some_normals(count)).float(), size)
    return tensors


def _few_shot(study: OpenStudy, model: Model) -> Build:
    def build(class_name: str, names: list[DetectorName]) -> dict[str, TorchDetector]:
        return {name: ReferenceDistance(model(), _references(study, class_name, name), study.config.nand) for name in names}

    return build


def _winclip(study: OpenStudy, model: Model) -> Build:
    @cache
    def encoder() -> WindowEncoder | ClipWindowEncoder:
        config = study.config.winclip
        if study.config.model.name == "clip":
            assert config.weights is not None  # checked when the study was registered
            return ClipWindowEncoder(study.resolve(config.weights), placement(study))
        return WindowEncoder(model(), config.grid)

    def build(class_name: str, names: list[DetectorName]) -> dict[str, TorchDetector]:
        return {name: WinClip(encoder(), class_name, _references(study, class_name, name)) for name in names}

    return build


def _references(study: OpenStudy, class_name: str, detector: DetectorName) -> list[Image.Image]:
    """The first training-normal images of a class in a seeded random order, as many as the detector's name says."""
    paths, shots = image_paths(study, class_name, "train"), int(detector.split("_")[1])
    if len(paths) < shots:
        raise DataError(f"{detector} needs {shots} training-normal images of class '{class_name}', there are {len(paths)}")
    order = np.random.default_rng([study.config.winclip.seed, *class_name.encode()]).permutation(len(paths))
    return [load_image(paths[k]) for k in order[:shots]]


def _patchcore(study: OpenStudy, model: Model) -> Build:
    config = study.config.patchcore
    if config.backbone_weights is not None:
        config = config.model_copy(update={"backbone_weights": study.resolve(config.backbone_weights)})

    def build(class_name: str, names: list[DetectorName]) -> dict[str, TorchDetector]:
        lent = model() if config.backbone_weights is None else None
        return {name: PatchCore(lent, image_paths(study, class_name, "train"), config, placement(study)) for name in names}

    return build
