"""Surfaces in the protocol of images: groups are added by example, and the scores of all others stay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from nandlib.errors import DataError, nearest
from nandlib.method.config import ExampleConfig
from nandlib.surfaces.descriptors import described
from nandlib.surfaces.memory import SurfaceMemory, object_score
from nandlib.surfaces.samples import SurfaceSplit
from nandlib.surfaces.shown import ShownSurface, suppression

METHODS = ("nothing", "examples", "bank")
AT_ONCE = 64  # points of a surface, the highest first


@dataclass(frozen=True)
class ScoredSurfaces:
    """One part with one detector: all that does not depend on what is shown.

    Attributes:
        split: Its surfaces.
        detector: Trained on its normal ones.
        reach: Nearest points among which a peak is the highest.
    """

    split: SurfaceSplit
    detector: SurfaceMemory
    reach: int

    @cached_property
    def descriptors(self) -> list[Tensor]:
        """N times ``(P, C)``."""
        return described([own.cloud for own in self.split.test], self.detector.config.neighbours)

    @cached_property
    def distances(self) -> list[Tensor]:
        """N times ``(P,)``."""
        return [self.detector.distances(own) for own in self.descriptors]

    @cached_property
    def maps(self) -> list[Tensor]:
        """A, N times ``(P,)``."""
        return self.averaged(self.distances)

    @cached_property
    def shown(self) -> list[ShownSurface]:
        """The regions of every surface."""

        def one(number: int) -> ShownSurface:
            cloud, descriptors = self.split.test[number].cloud, self.descriptors[number]
            return ShownSurface.of(cloud, self.maps[number], descriptors, self.detector.memory, self.reach)

        return [one(number) for number in range(len(self.split.test))]

    @cached_property
    def _from_highest(self) -> list[tuple[Tensor, ...]]:
        return [own.argsort(descending=True).split(AT_ONCE) for own in self.maps]

    @cached_property
    def _near(self) -> list[np.ndarray]:
        return [own.cloud.nearest(self.detector.config.smooth) for own in self.split.test]

    def averaged(self, distances: Sequence[Tensor]) -> list[Tensor]:
        """Maps from distances, N times ``(P,)``."""
        return [self.detector.averaged(own, near) for own, near in zip(distances, self._near, strict=True)]

    def highest(self, number: int, added: Tensor) -> float:
        """Maximum of a surface's map if the memory also held `added` ``(M, C)``.

        A memory that grows raises no point, so points whose A lies below a maximum that was found already are left out.
        """
        descriptors, distances, near = self.descriptors[number], self.distances[number], self._near[number]
        found = 0.0
        for points in self._from_highest[number]:
            if self.maps[number][points[0]] <= found:
                break
            rows, places = np.unique(near[points], return_inverse=True)
            nearest = torch.minimum(distances[rows], torch.cdist(descriptors[rows], added).amin(1))
            found = max(found, float(self.detector.averaged(nearest, places.reshape(len(points), -1)).max()))
        return found


@dataclass(frozen=True)
class SurfaceContest:
    """A `nandlib.evaluation.contest.Contestant`.

    Attributes:
        class_name: The part.
        tested: Its surfaces, with a detector.
        config: Of normality by example.
    """

    class_name: str
    tested: ScoredSurfaces
    config: ExampleConfig = ExampleConfig()

    @property
    def groups(self) -> np.ndarray:
        """``(N,)`` of the tested surfaces."""
        return self.tested.split.groups

    @property
    def added(self) -> list[str]:
        """All types of faults, in the order in which they occur."""
        return self.tested.split.types

    def final(self, method: str, examples: Sequence[int]) -> list[Tensor]:
        """A_final, N times ``(P,)``; DataError for an unknown method, or if nothing is shown."""
        _check(method)
        one = self.tested
        if method == "nothing":
            return one.maps
        if method == "bank":
            added = self._remembered(examples)
            nearer = (torch.cdist(own, added).amin(1) for own in one.descriptors)
            return one.averaged([torch.minimum(*pair) for pair in zip(one.distances, nearer, strict=True)])
        return [anomaly * (1 - own[shown.labels]) for anomaly, own, shown in zip(one.maps, self._removed(examples), one.shown, strict=True)]

    def scores(self, method: str, group: str, examples: Sequence[int]) -> np.ndarray:
        """``(N,)``: the maximum of `final`."""
        _check(method)
        if method == "examples":  # without painting it
            parts = zip(self._removed(examples), self.tested.shown, strict=True)
            return np.array([object_score(shown.heights * (1 - own)) for own, shown in parts])
        if method == "bank":  # most points need not be looked at
            added = self._remembered(examples)
            return np.array([self.tested.highest(number, added) for number in range(len(self.groups))])
        return np.array([object_score(own) for own in self.final(method, examples)])

    def _remembered(self, examples: Sequence[int]) -> Tensor:
        """``(M, C)``: what the memory gains by the examples."""
        _check_shown(examples)
        descriptors, distances = (torch.cat([own[k] for k in examples]) for own in (self.tested.descriptors, self.tested.distances))
        return self.tested.detector.more(descriptors, distances)

    def _removed(self, examples: Sequence[int]) -> list[Tensor]:
        """S of the regions, N times ``(R,)``."""
        _check_shown(examples)
        shown = self.tested.shown
        return suppression(shown, torch.stack([shown[k].example() for k in examples]), self.config)


def _check(method: str) -> None:
    if method not in METHODS:
        raise DataError(f"no method '{method}' of surfaces: {nearest(method, METHODS)}")


def _check_shown(examples: Sequence[int]) -> None:
    if not len(examples):
        raise DataError("nothing is shown: give one example or more")
