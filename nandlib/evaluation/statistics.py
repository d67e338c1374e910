"""Uncertainty of AUROC before and after: paired stratified bootstrap, DeLong's test, Holm's correction, Wilcoxon's test."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

RESAMPLES = 2000
LEVEL = 0.95  # of intervals


def placements(normal: np.ndarray, abnormal: np.ndarray) -> np.ndarray:
    """Which pairs are ranked right: ``(n_abnormal, n_normal)`` of 1, ½ (tie) or 0; its mean is the AUROC."""
    difference = abnormal[:, None] - normal[None, :]
    ranked: np.ndarray = (difference > 0) + 0.5 * (difference == 0)
    return ranked


def bootstrap(
    strata: np.ndarray, before: np.ndarray, after: Mapping[str, np.ndarray], *, seed: int = 0, resamples: int = RESAMPLES
) -> np.ndarray:
    """AUROC of resampled test sets of one class: every group's, before and after, and its ceiling.

    Paired and stratified: good images and those of each group are drawn with replacement on their own, once for all groups, for
    before and after together.

    Args:
        strata: ``(n,)`` group of each image, ``"good"`` for good ones.
        before: ``(n,)`` scores before.
        after: Added group → ``(n,)`` scores after.
        seed: Of the draws.
        resamples: Number of test sets.

    Returns:
        ``(resamples, G, 3)`` AUROC in percent: before, after, and good against the other groups before (the ceiling).
    """
    rng = np.random.default_rng([seed, zlib.crc32("".join(after).encode())])
    weights = np.zeros((resamples, len(strata)))
    for name in np.unique(strata):
        members = np.flatnonzero(strata == name)
        weights[:, members] = rng.multinomial(len(members), np.full(len(members), 1 / len(members)), resamples)
    found = np.empty((resamples, len(after), 3))
    good = strata == "good"
    for g, (group, scores) in enumerate(after.items()):
        normal, other = good | (strata == group), ~good & (strata != group)
        for k, (values, negatives) in enumerate(((before, normal), (scores, normal), (before, good))):
            pairs = placements(values[negatives], values[other])
            right = ((weights[:, other] @ pairs) * weights[:, negatives]).sum(1)
            found[:, g, k] = 100 * right / (weights[:, other].sum(1) * weights[:, negatives].sum(1))
    return found


def interval(samples: np.ndarray) -> tuple[float, float]:
    """The central 95 % of bootstrap samples ``(resamples,)``."""
    low, high = np.quantile(samples, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def delong(normal: Sequence[np.ndarray], abnormal: Sequence[np.ndarray]) -> tuple[float, float, float]:
    """DeLong's test of two correlated AUROC.

    Args:
        normal, abnormal: Scores before and after, two arrays ``(n,)`` each.

    Returns:
        Δ and its standard error (points), and the two-sided p-value. With one image of a kind, or no spread at all, there is no
        standard error: NaN, and p is 1.
    """
    pairs = placements(normal[1], abnormal[1]) - placements(normal[0], abnormal[0])
    delta = 100 * float(pairs.mean())
    if min(pairs.shape) < 2:
        return delta, float("nan"), 1.0
    variance = pairs.mean(1).var(ddof=1) / pairs.shape[0] + pairs.mean(0).var(ddof=1) / pairs.shape[1]
    if variance == 0:
        return delta, float("nan"), 1.0
    error = 100 * float(np.sqrt(variance))
    return delta, error, float(2 * stats.norm.sf(abs(delta) / error))


def holm(p: ArrayLike) -> np.ndarray:
    """Holm's step-down adjustment of p-values for the family-wise error: ``(n,)``, in the order given."""
    p = np.asarray(p, float)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1, np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order]))
    return adjusted


def wilcoxon(deltas: ArrayLike) -> float:
    """Two-sided p-value of Wilcoxon's signed-rank test that Δ is symmetric about 0; 1 if every Δ is 0."""
    deltas = np.asarray(deltas, float)
    return float(stats.wilcoxon(deltas).pvalue) if np.any(deltas != 0) else 1.0
