"""What few-shot detectors of a study are given: normal images of a class, and an encoder of windows."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from nandlib.data.images import load_image
from nandlib.detectors.winclip import ClipWindowEncoder, WindowEncoder
from nandlib.errors import DataError, PresetError
from nandlib.models import VisionLanguageModel
from nandlib.models.base import Placement
from nandlib.study.images import image_paths
from nandlib.study.model import placement
from nandlib.study.open_study import OpenStudy


def window_encoder(study: OpenStudy, model: Callable[[], VisionLanguageModel]) -> WindowEncoder | ClipWindowEncoder:
    """What WinCLIP sees windows with: the embedded model, or its own CLIP.

    Raises:
        PresetError: If its weights are not named.
    """
    config = study.config.winclip
    if study.config.model.name != "clip":
        return WindowEncoder(model(), config.grid)
    if config.weights is None:
        raise PresetError(f"studies/{study.name}.yaml: winclip.weights is missing: the full-size study needs the file's path")
    return _own_encoder(study.resolve(config.weights), placement(study))


@lru_cache(maxsize=1)  # large, and the same for all classes and shots
def _own_encoder(weights: Path, placed: Placement) -> ClipWindowEncoder:
    return ClipWindowEncoder(weights, placed)


def normal_shots(study: OpenStudy, class_name: str, detector: str) -> list[Image.Image]:
    """The first training-normal images of a class in a seeded random order, as many as the detector's name says.

    Raises:
        DataError: If there are fewer.
    """
    paths, shots = image_paths(study, class_name, "train"), int(detector.partition("_")[2] or 0)
    if len(paths) < shots:
        raise DataError(f"{detector} needs {shots} training-normal images of class '{class_name}', there are {len(paths)}")
    order = np.random.default_rng([study.config.winclip.seed, *class_name.encode()]).permutation(len(paths))
    return [load_image(paths[k]) for k in order[:shots]]
