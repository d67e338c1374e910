"""Detectors as the stages of a study have fitted them."""

from __future__ import annotations

from collections.abc import Sequence

from nandlib.detectors.aprilgan import AprilGan
from nandlib.detectors.base import TorchDetector
from nandlib.detectors.config import TOGETHER, TRAINED_NAMES
from nandlib.detectors.patchcore import PatchCore
from nandlib.detectors.trained import TRAINED
from nandlib.detectors.winclip import WinClip
from nandlib.models import VisionLanguageModel
from nandlib.study.images import image_paths
from nandlib.study.open_study import OpenStudy
from nandlib.study.shots import normal_shots, window_encoder


def fitted_detectors(study: OpenStudy, name: str, model: VisionLanguageModel, classes: Sequence[str]) -> dict[str, TorchDetector]:
    """Class → APRIL-GAN, WinCLIP, PatchCore (fitted again: its memory is not kept) or a trained detector, read from its state.

    Raises:
        ModelError: If a state is missing: the stage ``maps`` writes it.
    """
    if name in TOGETHER:
        one = TRAINED[name].load(study.states / f"{name}.safetensors", model)
        return {class_name: one.of_class(class_name) for class_name in classes}
    return {class_name: _of_class(study, name, model, class_name) for class_name in classes}


def _of_class(study: OpenStudy, name: str, model: VisionLanguageModel, class_name: str) -> TorchDetector:
    if name in TRAINED_NAMES:
        return TRAINED[name].load(study.states / f"{name}_{class_name}.safetensors", model)
    if name == "patchcore":
        return PatchCore(model, image_paths(study, class_name, "train"), study.config.patchcore)
    shots = normal_shots(study, class_name, name)
    if name.startswith("winclip"):
        return WinClip(window_encoder(study, lambda: model), class_name, shots)
    return AprilGan(model, study.prompts, class_name, study.config.nand, shots)
