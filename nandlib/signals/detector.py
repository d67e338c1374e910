"""What detectors of anomalies in signals are: trained on normal records, they give a map over time."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from nandlib.errors import DataError

UNITS = 100  # times: leads whose deviations differ more are of different units, and only the largest would be seen
NO_TENSOR = "signals must be a tensor of numbers (records, leads, samples): torch.from_numpy(array)"


def normal_records(signals: Tensor) -> Tensor:
    """Records ``(M, K, Q)`` to train on, as float32.

    Raises:
        DataError: If there are none, they have gaps, none changes at all, or their leads are of different units.
    """
    if not isinstance(signals, Tensor):
        raise DataError(NO_TENSOR)
    if signals.ndim != 3 or not signals.numel():
        raise DataError(f"there are no normal records to train on: (records, leads, samples) are expected, not {tuple(signals.shape)}")
    found = check_shape(signals, signals.shape[1], signals.shape[2])
    deviations = found.transpose(0, 1).flatten(1).std(1)
    if not float(deviations.max()) > 0:
        raise DataError("the normal records are constant: nothing was measured in any of them")
    moving = torch.where(deviations > 0, deviations, torch.inf)  # a constant lead may be
    if float(deviations.max()) > UNITS * float(moving.min()):
        raise DataError(
            f"lead {int(deviations.argmax())} deviates {float(deviations.max()):.3g}, lead {int(moving.argmin())} "
            f"{float(moving.min()):.3g}: only the larger would be seen; bring all leads to one unit"
        )
    return found


def check_shape(signals: Tensor, leads: int, samples: int) -> Tensor:
    """Signals ``(N, K, Q)`` as float32.

    Raises:
        DataError: If they are no tensor of numbers, have other leads or another length than the detector was trained on, or gaps.
    """
    if not isinstance(signals, Tensor) or signals.is_complex():
        raise DataError(NO_TENSOR)
    signals = signals.float()
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
