"""A picture of what a normality does to one image."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
from PIL import Image

from nandlib.show.style import MAP_COLOURS

SIDE = 512  # pixels, at most


def overlay(image: Image.Image, before: np.ndarray, after: np.ndarray) -> Image.Image:
    """The image, A over it and A_final over it, side by side; both maps ``(H, W)`` on the scale of A."""
    picture = image.copy()
    picture.thumbnail((SIDE, SIDE))
    low, high = min(0.0, float(before.min())), max(float(before.max()), 1e-12)
    panels = [picture]
    for single in (before, after):
        share = ((single - low) / (high - low)).clip(0, 1)
        colours = Image.fromarray((mpl.colormaps[MAP_COLOURS](share)[..., :3] * 255).astype(np.uint8)).resize(picture.size)
        panels.append(Image.blend(picture, colours, 0.55))
    strip = Image.new("RGB", (3 * picture.width + 8, picture.height), "white")
    for k, panel in enumerate(panels):
        strip.paste(panel, (k * (picture.width + 4), 0))
    return strip
