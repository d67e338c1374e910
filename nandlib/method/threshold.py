"""When to reject: a threshold from normal images alone, with the level that it attains."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Threshold:
    """Images whose score is above `value` are rejected.

    Attributes:
        value: On image scores.
        level: Share of normal images that are at most rejected, if they are exchangeable with those that set it. It holds on average over
            such sets of images, says nothing of parts that changed since, and bounds no missed defect.
        n_normals: How many images set it.
    """

    value: float
    level: float
    n_normals: int


def conformal_threshold(normals: ArrayLike, level: float) -> tuple[float, float]:
    """A threshold that a new normal image exceeds with a probability of at most `level`, if it is exchangeable with those given.

    The ⌈(n + 1)(1 - level)⌉-th smallest of n scores. With fewer than 1 / level - 1 scores no threshold among them promises as much:
    then it is the largest.

    Args:
        normals: Scores of normal images ``(n,)`` that the detector was not fitted on.
        level: Share of false alarms.

    Returns:
        The threshold, and the level that it attains: 1 - k / (n + 1) for the k-th smallest.
    """
    ordered = np.sort(np.asarray(normals, float))
    n = len(ordered)
    k = min(n, int(np.ceil((n + 1) * (1 - level) - 1e-9)))
    return float(ordered[k - 1]), 1 - k / (n + 1)
