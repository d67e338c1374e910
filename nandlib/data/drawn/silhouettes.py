"""Auxiliary silhouettes: the outlines of random objects."""

from __future__ import annotations

import numpy as np

from nandlib.data.drawn.canvas import Array, Rng, bar_points, blob_points, disk, ellipse_points, polygon, stroke


def object_alpha(rng: Rng, size: int) -> Array:
    """The silhouette of a random object: blob, ellipse, box, ring, gear, bars or star."""
    centre = 128 + rng.normal(0, 10, 2)
    radius = rng.uniform(60, 105)
    kind = rng.integers(7)
    angle = rng.uniform(0, np.pi)
    if kind == 0:
        return polygon(size, blob_points(rng, centre, radius, 0.2, rng.uniform(0.6, 1.6)))
    if kind == 1:
        return polygon(size, ellipse_points(centre, (radius, radius * rng.uniform(0.4, 1)), angle))
    if kind == 2:
        reach = np.array([np.cos(angle), np.sin(angle)]) * radius
        return polygon(size, bar_points(centre - reach, centre + reach, radius * rng.uniform(0.5, 1.6)))
    if kind == 3:
        return disk(size, centre, radius) - disk(size, centre, radius * rng.uniform(0.3, 0.6))
    if kind == 4:
        t = np.linspace(0, 2 * np.pi, 240)
        r = radius * (0.85 + 0.12 * np.sign(np.sin(rng.integers(6, 15) * t)))
        return polygon(size, np.stack([r * np.cos(t), r * np.sin(t)], 1) + centre)
    if kind == 5:
        across, along = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)]) * 110
        bars = [centre + across * k * rng.uniform(22, 34) for k in (-2, -1, 0, 1, 2)]
        return np.maximum.reduce([stroke(size, np.stack([at - along, at + along]), rng.uniform(6, 16)) for at in bars])
    t = np.arange(10) * np.pi / 5 + angle
    r = radius * np.where(np.arange(10) % 2, rng.uniform(0.5, 0.75), 1.1)
    return polygon(size, np.stack([r * np.cos(t), r * np.sin(t)], 1) + centre)
