"""Images as a camera under worse conditions would take them: darker, blurred, seen from elsewhere, noisy, each at five strengths."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any
from unittest.mock import patch

import numpy as np
from PIL import Image

from nandlib.errors import DataError, nearest

STRENGTHS = (1, 2, 3, 4, 5)
DARKER = (0.1, 0.2, 0.3, 0.4, 0.5)  # of the full range, taken off
BLUR = (0.004, 0.008, 0.012, 0.016, 0.020)  # Gaussian σ, of the image's longer side
VIEW = (0.01, 0.02, 0.03, 0.04, 0.05)  # deviation of what corners are moved by, of the sides
NOISE = (0.02, 0.04, 0.06, 0.08, 0.10)  # deviation, of the full range


@cache
def _library() -> Any:
    with patch.dict(os.environ, NO_ALBUMENTATIONS_UPDATE="1"):  # while it is imported it would look for news of itself on the network
        import albumentations

    return albumentations


def _illumination(strength: int, side: int) -> Any:
    return _library().RandomBrightnessContrast(brightness_limit=(-DARKER[strength - 1],) * 2, contrast_limit=(0, 0), p=1)


def _blur(strength: int, side: int) -> Any:
    return _library().GaussianBlur(sigma_limit=(BLUR[strength - 1] * side,) * 2, blur_limit=0, p=1)


def _view(strength: int, side: int) -> Any:
    return _library().Perspective(scale=(VIEW[strength - 1],) * 2, border_mode=4, p=1)  # 4: the border mirrored, as OpenCV numbers it


def _noise(strength: int, side: int) -> Any:
    return _library().GaussNoise(std_range=(NOISE[strength - 1],) * 2, mean_range=(0, 0), p=1)


PERTURBATIONS: Mapping[str, Callable[[int, int], Any]] = {"illumination": _illumination, "blur": _blur, "view": _view, "noise": _noise}


def perturbed(image: Image.Image, name: str, strength: int, seed: int = 0) -> Image.Image:
    """One image under one perturbation of `PERTURBATIONS`.

    Args:
        image: RGB.
        name: Of the perturbation.
        strength: 1 to 5; 0: the image as it is.
        seed: Of what is drawn: corners and noise.

    Raises:
        DataError: If there is no such perturbation or strength.
    """
    if name not in PERTURBATIONS:
        raise DataError(f"no perturbation '{name}': {nearest(name, PERTURBATIONS)}")
    if strength not in (0, *STRENGTHS):
        raise DataError(f"strength {strength} of '{name}': 1 to {STRENGTHS[-1]}, or 0 for none")
    if not strength:
        return image
    pixels = np.asarray(image.convert("RGB"))
    change = _library().Compose([PERTURBATIONS[name](strength, max(image.size))], seed=seed)
    return Image.fromarray(change(image=pixels)["image"])
