"""Rows that come batch by batch, in memory that is taken once."""

from __future__ import annotations

import torch
from torch import Tensor


class Rows:
    """A tensor of `total` rows, filled batch by batch.

    A list of parts would leave small tensors between the large ones of the network, and glibc could not use their room again.

    Args:
        total: Number of rows in the end.
    """

    def __init__(self, total: int) -> None:
        self._total, self._filled, self._rows = total, 0, torch.empty(0)

    def add(self, part: Tensor) -> None:
        """The next rows ``(n, …)``."""
        if self._filled == 0:
            self._rows = part.new_empty((self._total, *part.shape[1:]))
        self._rows[self._filled : self._filled + len(part)] = part
        self._filled += len(part)

    def tensor(self) -> Tensor:
        """All rows ``(total, …)``."""
        assert self._filled == self._total
        return self._rows
