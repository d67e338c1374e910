"""The vision-language model of a study."""

from __future__ import annotations

from nandlib.errors import PresetError
from nandlib.models import Placement, VisionLanguageModel, load_model
from nandlib.models.base import why_not
from nandlib.models.precision import measured_precision
from nandlib.study.open_study import OpenStudy


def placement(study: OpenStudy) -> Placement:
    """Where and how precisely the networks run; ``precision: auto`` is decided by measuring here.

    Raises:
        PresetError: If torch cannot use the device here.
    """
    model = study.config.model
    if why := why_not(model.device):
        raise PresetError(f"studies/{study.name}.yaml: model.device: {model.device} cannot be used here ({why}): 'cpu' always can")
    return Placement(model.device, measured_precision(model.device) if model.precision == "auto" else model.precision, model.compiled)


def model_of(study: OpenStudy) -> VisionLanguageModel:
    """Load the model that the preset names: keep it, since every call loads it anew.

    Raises:
        ModelError: If its weights are missing or do not fit.
        PresetError: See `placement`.
    """
    model = study.config.model
    weights, clip_weights = (path and study.resolve(path) for path in (model.weights, model.clip_weights))
    return load_model(model.name, weights, placement(study), clip_weights)
