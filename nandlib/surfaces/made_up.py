"""Typed Perlin anomalies on normal surfaces: on these the settings of a study of surfaces are chosen, not on its faults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nandlib.data.groups import GOOD
from nandlib.errors import DataError
from nandlib.surfaces.anomalies import Displaced, PerlinAnomaly, displaced
from nandlib.surfaces.clouds import Cloud
from nandlib.surfaces.samples import Sample, SurfaceSplit

TYPES: Mapping[str, tuple[float, int]] = {  # strength and scale
    "raised": (0.02, 3),
    "pressed": (-0.02, 3),
    "rough": (0.01, 8),
    "pitted": (-0.01, 8),
}
SHARES = (0.65, 0.9)  # of the field, between which the threshold is drawn: from large areas to small ones


def made_up(normals: Sequence[Cloud], each: int = 8, seed: int = 0) -> SurfaceSplit:
    """Half of the surfaces to train on; the others as they are, and with anomalies of every type.

    Args:
        normals: Two or more.
        each: Surfaces of every type; the pieces come again in turn.
        seed: Of the draws.

    Raises:
        DataError: If there are fewer.
    """
    if len(normals) < 2:
        raise DataError(f"{len(normals)} normal surface(s): two or more, to train on some and lay anomalies on others")
    rng, half = np.random.default_rng(seed), len(normals) // 2
    rest = normals[half:]
    test = [Sample(cloud, GOOD, np.zeros(len(cloud), bool)) for cloud in rest]
    for name, (strength, scale) in TYPES.items():
        for number in range(each):
            found = _displaced(rest[number % len(rest)], strength, scale, rng)
            test.append(Sample(found.cloud, name, found.mask))
    return SurfaceSplit(normals[:half], test)


def _displaced(cloud: Cloud, strength: float, scale: int, rng: np.random.Generator) -> Displaced:
    """The first anomaly drawn that moves a point: a small area may lie between the points of a thin cloud."""
    while True:
        threshold = float(rng.uniform(*SHARES))
        found = displaced(cloud, PerlinAnomaly(int(rng.integers(2**31)), strength, scale, threshold=threshold))
        if found.mask.any():
            return found
