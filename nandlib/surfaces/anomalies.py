"""Perlin anomalies on surfaces: 3D-PNAS-style.

Known of 3D-PNAS (arXiv 2504.12856): the points are projected on a plane; a Perlin field of several octaves (scale, octaves, persistence,
lacunarity) is sampled at them; points move along their normals by strength · field.

This study's own: the plane is that of the two leading axes of the centred points (SVD); the field is stretched to 0..1 and only what lies
above a threshold moves the surface, so that there are places without an anomaly and a mask; it covers the plane's whole extent both ways;
the greatest displacement is a share of the cloud's diagonal; a body with two sides over the plane, such as a ball, is projected like any
other, so that the field runs through it: only one side is moved.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from numbers import Integral

import numpy as np

from nandlib.detectors.synthesis import perlin
from nandlib.errors import DataError
from nandlib.surfaces.clouds import Cloud, along_axes

SIDE = 128  # cells of the field on the plane
FEW = 0.1  # of the points: where fewer face one way of the plane, the surface has one side alone


@dataclass(frozen=True)
class PerlinAnomaly:
    """How an anomaly is made; all of it can be written as JSON (`parameters`).

    Attributes:
        seed: Of the field.
        strength: Greatest displacement, as a share of the cloud's diagonal, not 0; negative: inwards.
        scale: Cells of the coarsest octave along the plane.
        octaves: How many.
        persistence: Height of each octave by that of the one before, in 0..1.
        lacunarity: Cells of each octave by those of the one before; the finest has fewer than `SIDE`.
        threshold: Of the field in 0..1, above which the surface moves.
    """

    seed: int = 0
    strength: float = 0.03
    scale: int = 3
    octaves: int = 3
    persistence: float = 0.5
    lacunarity: int = 2
    threshold: float = 0.65

    def __post_init__(self) -> None:
        if self.seed < 0 or not math.isfinite(self.strength) or self.strength == 0 or not 0 <= self.persistence <= 1:
            raise DataError("seed is a whole number from 0 on, strength a number but 0, and persistence one from 0 to 1")
        if not 0 <= self.threshold < 1:
            raise DataError(f"threshold is {self.threshold}: 0 or more, and below 1")
        whole = all(isinstance(own, Integral) for own in (self.seed, self.scale, self.octaves, self.lacunarity))
        if not whole or self.scale < 1 or self.octaves < 1 or self.lacunarity < 1:
            raise DataError("seed, scale, octaves and lacunarity are whole numbers, the last three from 1 on")
        if self.octaves > SIDE or self.scale * self.lacunarity ** (self.octaves - 1) >= SIDE:
            raise DataError(
                f"scale · lacunarity^(octaves - 1) must stay below {SIDE}, the cells of the field: give fewer or coarser octaves"
            )

    @property
    def parameters(self) -> dict[str, float]:
        """As JSON can hold them."""
        return asdict(self)


@dataclass(frozen=True)
class Displaced:
    """A cloud with an anomaly.

    Attributes:
        cloud: The moved points.
        mask: ``(P,)`` bool: which have moved.
        displacement: ``(P,)`` along the normals, in the cloud's unit.
    """

    cloud: Cloud
    mask: np.ndarray
    displacement: np.ndarray


def on_plane(along: np.ndarray) -> np.ndarray:
    """Places on the plane of the two longest axes, stretched to 0..1: ``(P, 2)``, of what `along_axes` gives."""
    flat = along[:, :2]
    places: np.ndarray = (flat - flat.min(0)) / np.ptp(flat, 0)
    return places


def perlin_field(anomaly: PerlinAnomaly, side: int = SIDE) -> np.ndarray:
    """Octaves of Perlin noise, stretched to 0..1: ``(side, side)``."""
    rng, total = np.random.default_rng(anomaly.seed), np.zeros((side, side))
    for octave in range(anomaly.octaves):
        cells = anomaly.scale * anomaly.lacunarity**octave
        total += anomaly.persistence**octave * perlin((side, side), 2 * np.pi * rng.random((cells + 1, cells + 1)))
    found: np.ndarray = (total - total.min()) / np.ptp(total)
    return found


def displaced(cloud: Cloud, anomaly: PerlinAnomaly = PerlinAnomaly()) -> Displaced:
    """p' = p + strength · diagonal · max(0, n(p) - threshold) / (1 - threshold) · normal.

    Args:
        cloud: A surface.
        anomaly: How it is made.

    Raises:
        DataError: If the points lie on one line.
    """
    along, axes = along_axes(cloud.points)
    cells = np.minimum((on_plane(along) * SIDE).astype(int), SIDE - 1)
    field = perlin_field(anomaly)[cells[:, 1], cells[:, 0]]
    height, normal = np.clip(field - anomaly.threshold, 0, None) / (1 - anomaly.threshold), cloud.normals
    facing = normal @ axes[2] >= 0
    if FEW < facing.mean() < 1 - FEW:
        height *= facing
    moved = anomaly.strength * float(np.linalg.norm(np.ptp(cloud.points, 0))) * height
    return Displaced(Cloud(cloud.points + moved[:, None] * normal, cloud.grid), height > 0, moved)
