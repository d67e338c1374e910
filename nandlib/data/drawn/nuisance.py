"""Auxiliary nuisances: what varies between photographs of good parts, which no model should call a defect."""

from __future__ import annotations

import numpy as np

from nandlib.data.drawn.canvas import Array, Rng, coordinates, shade


def nuisance(image: Array, rng: Rng) -> Array:
    """Variation that is normal: light gradients, glossy streaks, dark borders, exposure."""
    size = image.shape[0]
    x, y = coordinates(size)
    angle = rng.uniform(0, 2 * np.pi)
    along = ((x - 128) * np.cos(angle) + (y - 128) * np.sin(angle)) / 128
    image = shade(image, (1 + rng.uniform(0, 0.35) * along) * rng.uniform(0.7, 1.25))
    if rng.random() < 0.4:
        streak = np.exp(-(((along - rng.uniform(-0.8, 0.8)) / rng.uniform(0.1, 0.4)) ** 2))
        image = image + (rng.uniform(0.05, 0.35) * streak)[..., None]
    if rng.random() < 0.3:
        edge = np.min(np.stack([x, 256 - x, y, 256 - y])[rng.integers(4, size=rng.integers(1, 4))], 0)
        image = shade(image, np.clip(edge / rng.uniform(6, 40), rng.uniform(0, 0.5), 1))
    return np.clip(image, 0, 1)
