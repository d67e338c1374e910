"""Detectors as the stages of a study have fitted them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from nandlib.detectors.aprilgan import AprilGan
from nandlib.detectors.base import TorchDetector
from nandlib.detectors.config import TOGETHER, TRAINED_NAMES, family_of
from nandlib.detectors.fitted import FittedDetector
from nandlib.detectors.patchcore import PatchCore
from nandlib.detectors.trained import TRAINED
from nandlib.detectors.winclip import WinClip
from nandlib.errors import PresetError
from nandlib.models import VisionLanguageModel
from nandlib.study.images import image_paths
from nandlib.study.model import placement
from nandlib.study.open_study import OpenStudy
from nandlib.study.shots import normal_shots, window_encoder


def fitted_detectors(study: OpenStudy, name: str, model: VisionLanguageModel, classes: Sequence[str]) -> dict[str, TorchDetector]:
    """Class → APRIL-GAN, WinCLIP, PatchCore (fitted again: its memory is not kept) or a trained detector, read from its state.

    Raises:
        ModelError: If a state is missing: the stage ``maps`` writes it.
        PresetError: If there is no such detector.
    """
    if name in TOGETHER:
        one = _trained(study, name, model, classes[0])
        return {class_name: one.of_class(class_name) for class_name in classes}
    return {class_name: _of_class(study, name, model, class_name) for class_name in classes}


def patchcore_of(study: OpenStudy, model: Callable[[], VisionLanguageModel], class_name: str) -> PatchCore:
    """PatchCore by the study's settings, fitted on a class; the model is asked for where it lends its backbone."""
    config = study.resolved(study.config.patchcore)
    lent = model() if config.backbone_weights is None else None
    return PatchCore(lent, image_paths(study, class_name, "train"), config, placement(study))


def state_path(study: OpenStudy, name: str, class_name: str) -> Path:
    """Where the stage ``maps`` keeps the state of a trained detector: one of a class, or one of all (`TOGETHER`)."""
    return study.states / f"{name if name in TOGETHER else f'{name}_{class_name}'}.safetensors"


def _trained(study: OpenStudy, name: str, model: VisionLanguageModel, class_name: str) -> FittedDetector[Any]:
    config = study.resolved(study.config.trained.of(name))
    weights = {key: getattr(config, key) for key in config.weight_fields}
    return TRAINED[name].load(state_path(study, name, class_name), model, device=study.config.model.device, **weights)


def _of_class(study: OpenStudy, name: str, model: VisionLanguageModel, class_name: str) -> TorchDetector:
    if name in TRAINED_NAMES:
        return _trained(study, name, model, class_name)
    if name == "patchcore":
        return patchcore_of(study, lambda: model, class_name)
    if family_of(name) not in ("aprilgan", "winclip"):
        raise PresetError(f"detectors: nothing builds '{name}': nandlib/study/fitted.py")
    shots = normal_shots(study, class_name, name)
    if family_of(name) == "winclip":
        return WinClip(window_encoder(study, lambda: model), class_name, shots)
    return AprilGan(model, study.prompts, class_name, study.config.nand, shots)
