"""A model by its name."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from nandlib.errors import ModelError, PresetError, nearest
from nandlib.memory import keep_freed_memory
from nandlib.models.base import Placement, VisionLanguageModel, own_randomness, why_not


@own_randomness()  # what networks begin with is replaced
def load_model(
    name: str = "mini",
    weights: str | Path | None = None,
    placement: Placement = Placement(),
    clip_weights: str | Path | None = None,
) -> VisionLanguageModel:
    """The model called `name` with its weights.

    The embedded model of the package is loaded once a process, for all who ask for it: it is frozen, and detectors and texts that share
    it share passes. From here on the process keeps the large blocks of memory that it frees (`nandlib.memory`): passes are faster.

    Args:
        name: ``"mini"`` (embedded) or ``"clip"`` (APRIL-GAN on CLIP ViT-L/14@336).
        weights: File of the trained projections; None: those that come with the package, for ``"mini"``.
        placement: Device and precision.
        clip_weights: CLIP's own weights, for ``"clip"``.

    Raises:
        PresetError: If there is no model of that name.
        ModelError: If the weights are missing or do not fit, or the device cannot be used.
    """
    keep_freed_memory()
    if why := why_not(placement.device):
        raise ModelError(f"device '{placement.device}' cannot be used here: {why}")
    if name == "mini":
        if clip_weights is not None:
            raise ModelError("the model 'mini' has no CLIP: leave clip_weights out, or load 'clip'")
        return _embedded(placement) if weights is None else _mini(Path(weights), placement)
    if name == "clip":
        from nandlib.models.clip import ClipModel

        if weights is None or clip_weights is None:
            missing = "weights: the file of the trained projections" if weights is None else "clip_weights: CLIP ViT-L/14@336's own weights"
            raise ModelError(f"the model 'clip' needs {missing}")
        return ClipModel.load(Path(weights), Path(clip_weights), placement)
    raise PresetError(f"unknown model '{name}': {nearest(name, ('mini', 'clip'))}")


@lru_cache(maxsize=2)
def _embedded(placement: Placement) -> VisionLanguageModel:
    return _mini(None, placement)


def _mini(weights: Path | None, placement: Placement) -> VisionLanguageModel:
    from nandlib.models.mini import MiniModel

    return MiniModel.load(weights, placement)
