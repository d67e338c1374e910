"""The embedded model from nothing: auxiliary patches, then heads."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from nandlib.data.drawn.auxiliary import Drawing
from nandlib.errors import DataError
from nandlib.models.mini import save_heads
from nandlib.training.heads import PatchSet, collect_patches, train_heads


def write_patches(path: Path, *, seed: int, n_images: int, drawing: Drawing = "shared", progress: bool = True) -> None:
    """Draw and encode the auxiliary images; write the sampled patches of tower channels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(asdict(collect_patches(seed, n_images, progress, drawing)), path)


def write_heads(patches: Path, path: Path, *, seed: int, steps: int, drawing: Drawing = "shared", progress: bool = True) -> None:
    """Train the heads on the patches; write them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        found = PatchSet(**load_file(patches))
    except (SafetensorError, TypeError) as error:
        raise DataError(f"{patches} holds no patches ({error}): make them with 'nand patches'") from error
    save_heads(train_heads(found, seed=seed, drawing=drawing, steps=steps, progress=progress), path)
