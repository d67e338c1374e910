"""Auxiliary colours: strong ones, and nearly black, nearly white or earthy tones."""

from __future__ import annotations

import numpy as np

from nandlib.data.drawn.canvas import Array, Rng

_PALETTE = np.array(
    [
        (0.86, 0.12, 0.58), (0.95, 0.56, 0.08), (0.46, 0.16, 0.72), (0.55, 0.78, 0.14), (0.10, 0.62, 0.86),
        (0.94, 0.86, 0.18), (0.12, 0.66, 0.30), (0.58, 0.30, 0.14), (0.96, 0.60, 0.66), (0.22, 0.24, 0.28),
        (0.60, 0.62, 0.64), (0.97, 0.97, 0.97),
    ],
    np.float32,
)  # fmt: skip


def colour(rng: Rng) -> Array:
    """A colour of the palette, a little lighter, darker or off."""
    return np.clip(_PALETTE[rng.integers(len(_PALETTE))] * rng.uniform(0.75, 1.1) + rng.normal(0, 0.03, 3), 0, 1)


def extreme(rng: Rng, dark: float = 0.65) -> Array:
    """Nearly black with probability `dark`, else nearly white."""
    level = rng.uniform(0.0, 0.22) if rng.random() < dark else rng.uniform(0.78, 1.0)
    return np.clip(level + rng.normal(0, 0.03, 3), 0, 1)


def earthy(rng: Rng) -> Array:
    """Brown, as rust is; three times in ten with the channels exchanged, as moss or verdigris."""
    colour = rng.uniform((0.3, 0.16, 0.04), (0.65, 0.45, 0.2))
    return colour[rng.permutation(3)] if rng.random() < 0.3 else colour
