"""Normality by example on surfaces: A(p) · (1 - S(p)), the analogue of Eq. 6, where S comes from surfaces that show what is acceptable.

What images do with patches (`nandlib.method.examples`) points do here: a residual is what differs from the nearest normal descriptor; a
region is what climbs to one peak of A along the surface. This is an extension of this study: the paper knows images alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nandlib.errors import DataError
from nandlib.method.config import ExampleConfig, PlusConfig
from nandlib.method.examples import probability, residuals
from nandlib.surfaces.clouds import Cloud

FOCUS = PlusConfig().focus  # a point of a region counts (A / peak)^focus


def climbing(cloud: Cloud, anomaly: np.ndarray, reach: int) -> np.ndarray:
    """The region of every point ``(P,)``, from 0: steps go to the highest of the `reach` nearest points until there is none higher."""
    near = cloud.nearest(reach)
    goal = near[np.arange(len(near)), anomaly[near].argmax(1)]
    while not np.array_equal(goal, further := goal[goal]):
        goal = further
    regions: np.ndarray = np.unique(goal, return_inverse=True)[1]
    return regions


@dataclass(frozen=True)
class ShownSurface:
    """The regions of a surface, and which way they differ from what is normal.

    Attributes:
        labels: ``(P,)`` region of every point.
        heights: ``(R,)`` greatest A of each.
        directions: ``(R, C)``, unit norm.
    """

    labels: Tensor
    heights: Tensor
    directions: Tensor

    @classmethod
    def of(cls, cloud: Cloud, anomaly: Tensor, descriptors: Tensor, normal: Tensor, reach: int) -> ShownSurface:
        """From A ``(P,)``, descriptors ``(P, C)`` and normal ones ``(M, C)``."""
        labels = torch.from_numpy(climbing(cloud, anomaly.numpy(), reach))
        count = int(labels.max()) + 1
        heights = anomaly.new_zeros(count).scatter_reduce(0, labels, anomaly, "amax")
        weights = (anomaly / heights[labels].clamp_min(1e-12)) ** FOCUS
        means = descriptors.new_zeros(count, descriptors.shape[1]).index_add(0, labels, weights[:, None] * residuals(descriptors, normal))
        return cls(labels, heights, F.normalize(means, dim=1))

    def example(self) -> Tensor:
        """What it shows as an example ``(C,)``: the direction of its region of highest anomaly.

        Raises:
            DataError: If nothing is anomalous in it.
        """
        highest = int(self.heights.argmax())
        if float(self.heights[highest]) <= 0:
            raise DataError("the surface shows nothing: its map is 0 everywhere")
        return self.directions[highest]


def suppression(surfaces: Sequence[ShownSurface], examples: Tensor, config: ExampleConfig = ExampleConfig()) -> list[Tensor]:
    """S of every region of each surface, ``(R,)`` in [0, 1]; ``S[labels]`` is that of the points.

    Args:
        surfaces: To be damped.
        examples: ``(E, C)``, what examples show.
        config: Parameters.
    """
    found = probability(torch.cat([own.directions for own in surfaces]), examples, config)
    return list(found.split([len(own.heights) for own in surfaces]))
