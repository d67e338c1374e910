"""The plain baseline: how far a record is, point by point, from the normal ones that are nearest to it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nandlib.errors import DataError
from nandlib.signals.detector import check_shape, normal_records

ROWS = 256  # records at a time


@dataclass(frozen=True)
class NearestRecords:
    """A(t) = mean over leads and the k nearest normal records of (x(t) - nearest(t))², less its median over normal records.

    Attributes:
        memory: ``(M, K, Q)`` normal records.
        k: How many are nearest.
        floor: Median of the raw maps of normal records, each without itself.
    """

    memory: Tensor
    k: int
    floor: float = 0.0
    name: str = "nearest_records"

    @classmethod
    def fit(cls, normals: Tensor, k: int) -> NearestRecords:
        """From normal records ``(M, K, Q)``.

        Raises:
            DataError: If there are no more than k.
        """
        normals = normal_records(normals)
        if k < 1:
            raise DataError(f"k is {k}: one nearest record or more")
        if len(normals) <= k:
            raise DataError(f"{len(normals)} normal records: the {k} nearest of each, besides itself, ask for more than {k}")
        raw = cls(normals, k)._raw(normals, skip=1)
        return cls(normals, k, float(raw.median()))

    def maps(self, signals: Tensor) -> Tensor:
        """``(N, K, Q)`` to A ``(N, Q)``."""
        return (self._raw(signals) - self.floor).clamp_min(0)

    def with_more(self, signals: Tensor) -> NearestRecords:
        """The rival of an example: the same records in its memory; DataError if they are not such as are there."""
        signals = check_shape(signals, self.memory.shape[1], self.memory.shape[2])
        return NearestRecords(torch.cat([self.memory, signals]), self.k, self.floor)

    def _raw(self, signals: Tensor, skip: int = 0) -> Tensor:
        """Maps before the floor; `skip`: of the nearest, which are the records themselves."""
        if not len(signals):
            return self.memory.new_empty(0, self.memory.shape[2])
        centre = self.memory.mean((0, 2), keepdim=True)
        found, memory = [], (self.memory - centre).flatten(1).double()  # an offset of a record's own would drown what tells them apart
        for part in check_shape(signals, self.memory.shape[1], self.memory.shape[2]).split(ROWS):
            distances = torch.cdist((part - centre).flatten(1).double(), memory)
            nearest = distances.topk(self.k + skip, largest=False).indices[:, skip:]
            found.append((part[:, None] - self.memory[nearest]).square().mean((1, 2)))
        return torch.cat(found)
