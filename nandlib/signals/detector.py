"""What detectors of anomalies in signals are: trained on normal records, they give a map over time."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from nandlib.errors import DataError


def check_shape(signals: Tensor, leads: int, samples: int) -> Tensor:
    """Signals ``(N, K, Q)`` as they are.

    Raises:
        DataError: If they have other leads or another length than the detector was trained on, or gaps.
    """
    if signals.shape[1:] != (leads, samples):
        given = " x ".join(map(str, signals.shape[1:]))
        raise DataError(f"records of {given} (leads x samples), where {leads} x {samples} are expected: cut or resample them first")
    gaps = ~torch.isfinite(signals).flatten(1).all(1)
    if gaps.any():
        raise DataError(f"record {int(gaps.int().argmax())} has gaps (values that are no numbers): fill them, or leave it out")
    return signals


class SignalDetector(Protocol):
    """Anything that says where a signal is not normal."""

    @property
    def name(self) -> str: ...

    def maps(self, signals: Tensor) -> Tensor:
        """``(N, K, Q)`` to A ``(N, Q)``, ≥ 0, near 0 where nothing is wrong, larger is more anomalous."""
        ...
