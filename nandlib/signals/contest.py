"""Signals in the protocol of images: groups are added by example, and the scores of all others stay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from nandlib.data.groups import groups_of
from nandlib.errors import DataError, nearest
from nandlib.method.config import ExampleConfig, PlusConfig
from nandlib.method.operators import suppress
from nandlib.signals.detector import SignalDetector
from nandlib.signals.nearest import NearestRecords
from nandlib.signals.records import Split
from nandlib.signals.shown import ShownSignals


@dataclass(frozen=True)
class SignalContest:
    """One data set's test records with one detector; a `nandlib.evaluation.contest.Contestant`.

    Attributes:
        split: Records.
        detector: Trained on its normal ones.
        window: Samples of a window.
        plus: How regions are found.
        config: Of normality by example.
    """

    split: Split
    detector: SignalDetector
    window: int
    plus: PlusConfig = PlusConfig()
    config: ExampleConfig = field(default_factory=ExampleConfig)

    @property
    def class_name(self) -> str:
        """One for all detectors, whose bootstraps so draw the same records."""
        return "signals"

    @property
    def groups(self) -> np.ndarray:
        """``(N,)`` of the tested records."""
        return self.split.test.groups

    @property
    def added(self) -> list[str]:
        """All types, in the order in which they occur."""
        return groups_of(self.groups.tolist())

    @property
    def methods(self) -> tuple[str, ...]:
        """``bank`` where the detector has a memory."""
        return ("nothing", "examples", *(("bank",) if isinstance(self.detector, NearestRecords) else ()))

    @cached_property
    def signals(self) -> Tensor:
        """``(N, K, Q)`` of the tested records."""
        return torch.from_numpy(self.split.test.signals)

    @cached_property
    def maps(self) -> Tensor:
        """A ``(N, Q)``."""
        return self.detector.maps(self.signals)

    @cached_property
    def shown(self) -> ShownSignals:
        """Their regions."""
        return ShownSignals(self.maps, self.signals, torch.from_numpy(self.split.train.signals), self.window, self.plus)

    def final(self, method: str, examples: Sequence[int]) -> Tensor:
        """A_final ``(N, Q)``; DataError for a method that the detector has not."""
        if method not in self.methods:
            raise DataError(f"no method '{method}' of this detector: {nearest(method, self.methods)}")
        if method == "nothing":
            return self.maps
        if method == "bank":
            assert isinstance(self.detector, NearestRecords)  # by `methods`
            return self.detector.with_more(self.signals[list(examples)]).maps(self.signals)
        return suppress(self.maps, self.shown.suppression(examples, self.config))

    def scores(self, method: str, group: str, examples: Sequence[int]) -> np.ndarray:
        """``(N,)``: the maximum of `final`."""
        found: np.ndarray = self.final(method, examples).amax(1).numpy()
        return found
