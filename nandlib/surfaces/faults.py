"""Faults made by hand, which share nothing with the Perlin anomalies: on these a detector is tested, never tuned.

Lengths are shares of the cloud's diagonal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nandlib.surfaces.clouds import Cloud, along_axes


@dataclass(frozen=True)
class Place:
    """Where a fault is made.

    Attributes:
        points: ``(P, 3)``.
        normals: ``(P, 3)``.
        centre: Position of the point it is made at.
        diagonal: Of the cloud.
        rng: Of its measures.
    """

    points: np.ndarray
    normals: np.ndarray
    centre: int
    diagonal: float
    rng: np.random.Generator

    @property
    def offset(self) -> np.ndarray:
        """``(P, 3)`` from the centre, in diagonals."""
        found: np.ndarray = (self.points - self.points[self.centre]) / self.diagonal
        return found

    @property
    def same_side(self) -> np.ndarray:
        """``(P,)`` bool: faces as the centre does, so that a thin wall has two sides."""
        found: np.ndarray = self.normals @ self.normals[self.centre] > 0
        return found


Made = tuple[np.ndarray, np.ndarray]  # points and mask


def _pressed(place: Place, sign: int) -> Made:
    radius, depth = place.rng.uniform(0.05, 0.08), place.rng.uniform(0.012, 0.022)
    near = np.clip(1 - (np.linalg.norm(place.offset, axis=1) / radius) ** 2, 0, None) ** 2 * place.same_side
    return place.points + (sign * depth * place.diagonal * near)[:, None] * place.normals, near > 0


def dent(place: Place) -> Made:
    """Pressed inwards."""
    return _pressed(place, -1)


def bump(place: Place) -> Made:
    """Raised outwards."""
    return _pressed(place, 1)


def hole(place: Place) -> Made:
    """No points; what is left of the rim is marked."""
    radius, away = place.rng.uniform(0.03, 0.05), np.linalg.norm(place.offset, axis=1)
    kept = away >= radius
    return place.points[kept], (away < 1.5 * radius)[kept]


def bend(place: Place) -> Made:
    """Turned about a line across the longest axis, beyond a place along it: either end, either way."""
    own, axes = along_axes(place.points)
    turned = place.rng.choice([-1, 1], 3)
    (along, _, up), axes = (own * turned).T, axes * turned[:, None]
    beyond = along - (along.min() + place.rng.uniform(0.6, 0.75) * np.ptp(along))
    angle, moving = np.radians(place.rng.uniform(6, 12)), beyond > 0
    new_along = np.where(moving, along - beyond + beyond * np.cos(angle) - up * np.sin(angle), along)
    new_up = np.where(moving, beyond * np.sin(angle) + up * np.cos(angle), up)
    moved = place.points + (new_along - along)[:, None] * axes[0] + (new_up - up)[:, None] * axes[2]
    return moved, np.linalg.norm(moved - place.points, axis=1) > 0.005 * place.diagonal


def scratch(place: Place) -> Made:
    """A narrow groove along the surface."""
    normal, turn = place.normals[place.centre], place.rng.normal(size=3)
    line = turn - (turn @ normal) * normal
    line /= np.linalg.norm(line)
    along = place.offset @ line
    across = np.linalg.norm(place.offset - along[:, None] * line, axis=1)
    length, width, depth = place.rng.uniform(0.1, 0.15), place.rng.uniform(0.018, 0.026), place.rng.uniform(0.008, 0.014)
    deep = np.clip(1 - (across / width) ** 2, 0, None) * np.clip((length - np.abs(along)) / width, 0, 1) * place.same_side
    return place.points - (depth * place.diagonal * deep)[:, None] * place.normals, deep > 0


FAULTS: Mapping[str, Callable[[Place], Made]] = {"dent": dent, "bump": bump, "hole": hole, "bend": bend, "scratch": scratch}


def faulty(cloud: Cloud, name: str, seed: Sequence[int]) -> tuple[Cloud, np.ndarray]:
    """A cloud with one of `FAULTS` at a point drawn at random, and its mask ``(P,)`` bool.

    Args:
        cloud: A piece without a fault.
        name: Of the fault.
        seed: Of its place and measures: numbers that no other fault shares.
    """
    rng = np.random.default_rng([*seed, *name.encode()])
    points = cloud.points
    place = Place(points, cloud.normals, int(rng.integers(len(points))), float(np.linalg.norm(np.ptp(points, 0))), rng)
    found, mask = FAULTS[name](place)
    return Cloud(found), mask
