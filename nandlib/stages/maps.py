"""Maps of the detectors that are not functions of the similarities: WinCLIP and PatchCore."""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import nandlib.detectors.base
import nandlib.detectors.patchcore
import nandlib.detectors.winclip
import nandlib.manifest
import nandlib.models.base
import nandlib.models.mini
import nandlib.operators
import nandlib.store
from nandlib.config import Detector
from nandlib.detectors.base import TorchDetector
from nandlib.detectors.patchcore import PatchCore
from nandlib.detectors.winclip import ClipWinClip, WinClip, WindowEncoder
from nandlib.errors import DataError
from nandlib.manifest import load_image
from nandlib.operators import resize_map
from nandlib.store import batches, content, digest, image_paths, sources, splits, update
from nandlib.study import OpenStudy


def write_maps(study: OpenStudy, progress: bool = True) -> None:
    """Anomaly maps of WinCLIP and PatchCore: ``test`` (and ``train``) ``(N, S, S)`` float32, a file a detector and class."""
    for family, build in (("winclip", _build_winclip), ("patchcore", _build_patchcore)):
        names = [name for name in study.config.detectors if name.startswith(family)]
        _write_family(study, family, names, build, progress)


def _write_family(
    study: OpenStudy,
    family: str,
    names: list[Detector],
    build: Callable[[OpenStudy, str, list[Detector]], dict[str, TorchDetector]],
    progress: bool,
) -> None:
    config, size = study.config, study.config.nand.map_size
    code = sources(
        sys.modules[__name__],
        nandlib.store,
        nandlib.manifest,
        nandlib.operators,
        nandlib.models.base,
        nandlib.models.mini,
        nandlib.detectors.base,
        nandlib.detectors.winclip,
        nandlib.detectors.patchcore,
    )
    backbone = config.patchcore.backbone_weights
    weights = content([study.weights] + ([study.root / backbone] if backbone else []))

    def fingerprint(class_name: str) -> str:
        images = [content(image_paths(study, class_name, split)) for split in ("train", "test")]
        parameters = (config.model.model_dump(), getattr(config, family).model_dump(), size, names, splits(study))
        return digest(code, weights, parameters, class_name, images)

    def compute(class_name: str) -> tuple[dict[str, Tensor], dict[str, str]]:
        detectors = build(study, class_name, names)
        tensors: dict[str, Tensor] = {}
        preprocess = next(iter(detectors.values())).preprocess
        for split in splits(study):
            maps: dict[str, list[Tensor]] = {name: [] for name in detectors}
            for batch in batches(image_paths(study, class_name, split), preprocess):
                for name, detector in detectors.items():
                    maps[name].append(resize_map(detector.maps(batch).float(), (size, size)))
            tensors |= {f"{name}/{split}": torch.cat(parts) for name, parts in maps.items()}
        return tensors, {}

    with torch.no_grad():
        update(study.data / "maps" / family, study.classes() if names else [], fingerprint, compute, progress)


def _build_winclip(study: OpenStudy, class_name: str, names: list[Detector]) -> dict[str, TorchDetector]:
    references = {name: _references(study, class_name, int(name[-1])) for name in names}
    if study.config.model.name == "clip":
        return {name: ClipWinClip(class_name, shots) for name, shots in references.items()}
    encoder = WindowEncoder(study.model, study.config.winclip.grid)
    return {name: WinClip(encoder, class_name, shots) for name, shots in references.items()}


def _references(study: OpenStudy, class_name: str, shots: int) -> list[Image.Image]:
    """The first `shots` of the class's training-normal images in a seeded random order."""
    paths = image_paths(study, class_name, "train")
    if len(paths) < shots:
        raise DataError(f"winclip_{shots} needs {shots} training-normal images of class '{class_name}', there are {len(paths)}")
    order = np.random.default_rng([study.config.winclip.seed, *class_name.encode()]).permutation(len(paths))
    return [load_image(paths[k]) for k in order[:shots]]


def _build_patchcore(study: OpenStudy, class_name: str, names: list[Detector]) -> dict[str, TorchDetector]:
    normals = [load_image(path) for path in image_paths(study, class_name, "train")]
    config = study.config.patchcore
    if config.backbone_weights is not None:
        config = config.model_copy(update={"backbone_weights": study.root / config.backbone_weights})
    return {name: PatchCore(study.model, normals, config) for name in names}
