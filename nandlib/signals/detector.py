"""What detectors of anomalies in signals are: trained on normal records, they give a map over time."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class SignalDetector(Protocol):
    """Anything that says where a signal is not normal."""

    @property
    def name(self) -> str: ...

    def maps(self, signals: Tensor) -> Tensor:
        """``(N, K, Q)`` to A ``(N, Q)``, ≥ 0, near 0 where nothing is wrong, larger is more anomalous."""
        ...
