"""A detector of faults on surfaces: PatchCore's memory of point feature histograms, in the manner of BTF (Horwitz, Hoshen, 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from nandlib.detectors.coreset import continued, coreset
from nandlib.errors import DataError
from nandlib.surfaces.clouds import Cloud
from nandlib.surfaces.config import MemoryConfig
from nandlib.surfaces.descriptors import described

ROWS = 4096  # points at a time


@dataclass(frozen=True)
class SurfaceMemory:
    """A(p) = distance of a point's descriptor to the nearest in the memory, averaged over the nearest points, less what is normal.

    Attributes:
        memory: ``(M, C)``, the coreset of normal descriptors.
        config: Its settings.
        floor: Median distance of the normal descriptors: A is 0 below it.
    """

    memory: Tensor
    config: MemoryConfig
    floor: float = 0.0

    @classmethod
    def fit(cls, normals: Sequence[Cloud], config: MemoryConfig = MemoryConfig()) -> SurfaceMemory:
        """From clouds without a fault.

        They and those whose `map` is asked for must be of one density, and all organised or none: either changes what descriptors see.

        Raises:
            DataError: If there are none, one is no cloud, or so few points that the coreset is empty.
        """
        if not len(normals):
            raise DataError("there are no normal surfaces to train on")
        return cls.of(torch.cat(described(normals, config.neighbours)), config)

    @classmethod
    def of(cls, descriptors: Tensor, config: MemoryConfig) -> SurfaceMemory:
        """From normal descriptors ``(n, C)``.

        Raises:
            DataError: If there are so few that the coreset is empty.
        """
        if int(config.coreset_ratio * len(descriptors)) < 1:
            raise DataError(
                f"a share of {config.coreset_ratio:g} of {len(descriptors)} normal points is none: give more, or a larger share"
            )
        found = cls(descriptors[coreset(descriptors, config.coreset_ratio, config.seed)], config)
        return replace(found, floor=float(found.distances(descriptors).median()))

    def distances(self, descriptors: Tensor) -> Tensor:
        """``(P,)`` to the memory."""
        return torch.cat([torch.cdist(rows, self.memory).amin(1) for rows in descriptors.split(ROWS)])

    def map(self, cloud: Cloud) -> Tensor:
        """A ``(P,)``, ≥ 0, larger is more anomalous."""
        return self.averaged(self.distances(described([cloud], self.config.neighbours)[0]), cloud.nearest(self.config.smooth))

    def averaged(self, distances: Tensor, near: np.ndarray) -> Tensor:
        """A ``(n,)`` of points with these nearest ones ``(n, k)``, from the distances ``(P,)`` of all."""
        return (distances[near].mean(1) - self.floor).clamp_min(0)

    def more(self, descriptors: Tensor, distances: Tensor) -> Tensor:
        """What the rival of an example adds to the memory: the greedy choice goes on among these ``(n, C)``, so far from it ``(n,)``."""
        return descriptors[continued(descriptors, distances, self.config.coreset_ratio)]


def object_score(anomaly: Tensor | np.ndarray) -> float:
    """Of a surface: the maximum of its map ``(P,)``."""
    return float(anomaly.max())
