"""Uncertainty of AUROC before and after: paired stratified bootstrap, DeLong's test, permutation tests."""

from __future__ import annotations

import gc
import zlib
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from statsmodels.stats.multitest import multipletests

from nandlib.errors import DataError

RESAMPLES = 2000
LEVEL = 0.95  # of intervals
MOST_EXACT = 16  # clusters whose signs are all tried
MANY = 4096  # images whose pairs are too many to be looked at one by one, and, counted in halves, for single precision
CHUNK = 50  # resampled test sets at a time, of so many images
DIGITS = 9  # of Δ in points: what differs by less ties
BEFORE, AFTER, OTHERS = range(3)


def placements(normal: np.ndarray, abnormal: np.ndarray) -> np.ndarray:
    """Which pairs are ranked right: ``(n_abnormal, n_normal)`` of 1, ½ (tie) or 0; its mean is the AUROC."""
    difference = abnormal[:, None] - normal[None, :]
    ranked: np.ndarray = (difference > 0) + 0.5 * (difference == 0)
    return ranked


def bootstrap(
    strata: np.ndarray,
    before: np.ndarray,
    after: Mapping[str, np.ndarray],
    *,
    name: str = "",
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> np.ndarray:
    """AUROC of resampled test sets of one class: every group's, before and after, and of the others alone.

    Paired and stratified: good images and those of each group are drawn with replacement on their own, once for all groups, for
    before and after together.

    Args:
        strata: ``(n,)`` group of each image, ``"good"`` for good ones.
        before: ``(n,)`` scores before.
        after: Added group → ``(n,)`` scores after.
        name: Of the class: classes whose groups have the same names are drawn independently.
        seed: Of the draws.
        resamples: Number of test sets.

    Returns:
        ``(resamples, G, 3)`` AUROC in percent: before, after, and good against the other groups alone, before.

    Raises:
        DataError: If a score is no number.
    """
    _refuse_nan(before, *after.values())
    name = "/".join((name, *after))
    if len(strata) < MANY:
        return _areas(strata, before, after, drawn_weights(seed, name, strata, resamples))
    found = np.empty((resamples, len(after), 3))
    for first in range(0, resamples, CHUNK):
        weights = _weights(seed, f"{name}/{first}", strata, min(CHUNK, resamples - first))
        for number, (group, scores) in enumerate(after.items()):
            other, alone = (strata != "good") & (strata != group), strata != group
            areas = found[first : first + CHUNK, number].T
            areas[BEFORE], areas[AFTER] = weighted_auroc(other, before, weights), weighted_auroc(other, scores, weights)
            areas[OTHERS] = weighted_auroc(other[alone], before[alone], weights[alone])
    return found


def _refuse_nan(*scores: ArrayLike) -> None:
    if any(np.isnan(own).any() for own in scores):
        raise DataError("a score is no number: AUROC and its tests need one for every image")


def _areas(strata: np.ndarray, before: np.ndarray, after: Mapping[str, np.ndarray], weights: np.ndarray) -> np.ndarray:
    """`bootstrap` of few images: their pairs before are counted once for all groups."""
    found, good = np.empty((len(after), 3, weights.shape[1])), strata == "good"
    ranked = placements(before, before).T.astype(weights.dtype)  # what is normal, against what is abnormal
    every = ranked[:, ~good] @ weights[~good]
    for (group, scores), areas in zip(after.items(), found, strict=True):
        own = strata == group
        normal, other = good | own, ~(good | own)
        pairs = (every[normal] - ranked[np.ix_(normal, own)] @ weights[own]) * weights[normal]
        areas[BEFORE] = 100 * pairs.sum(0, float) / (other.sum() * normal.sum())
        areas[AFTER] = weighted_auroc(other, scores, weights)
        areas[OTHERS] = 100 * pairs[good[normal]].sum(0, float) / (other.sum() * good.sum())
    return found.transpose(2, 0, 1)


def weighted_auroc(label: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """AUROC in percent ``(resamples,)`` of test sets in which images count ``(n, resamples)`` times; label (1 is abnormal) and scores
    ``(n,)``."""
    label = np.asarray(label) == 1
    positive, negative = weights[label], weights[~label]
    if len(label) < MANY:
        right = np.einsum("ij,ij->j", placements(scores[~label], scores[label]).T.astype(weights.dtype) @ positive, negative)
    else:
        right = _ranked_right(label, scores, weights)
    area: np.ndarray = 100 * right.astype(float) / (positive.sum(0, float) * negative.sum(0, float))
    return area


def _ranked_right(label: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """How many pairs are ranked right ``(resamples,)``, a tie by half: cumulated counts of the images in order."""
    order = np.argsort(scores)
    first = np.flatnonzero(np.r_[True, np.diff(scores[order]) > 0])  # of every different score
    positive, negative = (np.add.reduceat(weights[order] * kind[order, None], first, axis=0) for kind in (label, ~label))
    right: np.ndarray = (positive * (negative.cumsum(0) - negative / 2)).sum(0)
    return right


def drawn_weights(seed: int, name: str, strata: np.ndarray, resamples: int) -> np.ndarray:
    """How often each image is in each resampled test set: ``(n, resamples)``, read-only; every stratum on its own, with replacement."""
    return _drawn(seed, name, tuple(map(str, strata)), resamples)


@lru_cache(maxsize=32)  # of one study's classes: all its detectors and steps are drawn alike
def _drawn(seed: int, name: str, strata: tuple[str, ...], resamples: int) -> np.ndarray:
    return _weights(seed, name, np.array(strata), resamples)


def _weights(seed: int, name: str, strata: np.ndarray, resamples: int) -> np.ndarray:
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    weights = np.zeros((len(strata), resamples), np.float32 if len(strata) < MANY else np.float64)
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        weights[members] = rng.multinomial(len(members), np.full(len(members), 1 / len(members)), resamples).T
    weights.flags.writeable = False
    return weights


def interval(samples: np.ndarray) -> tuple[float, float]:
    """The central 95 % of bootstrap samples ``(resamples,)``."""
    low, high = np.quantile(samples, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def cluster_interval(clusters: Sequence[ArrayLike]) -> tuple[float, float]:
    """95 % interval of the mean over all members of clusters, as if these had been drawn by chance: as classes of a study from all others.

    x̄ ± t √(C / (C - 1) Σ_c (Σ_i (x_ci - x̄))²) / n, with Student's t of C - 1 degrees of freedom; of clusters of one member it is the
    ordinary interval of a mean. Of fewer than two clusters nothing is known: NaN.

    Args:
        clusters: Values of the members of each of C clusters, n in all.
    """
    values, count = [np.asarray(own, float) for own in clusters], len(clusters)
    if count < 2:
        return float("nan"), float("nan")
    mean = float(np.concatenate(values).mean())
    sums = np.array([(own - mean).sum() for own in values])
    error = float(np.sqrt(count / (count - 1) * (sums**2).sum())) / sum(map(len, values))
    half = float(stats.t.ppf((1 + LEVEL) / 2, count - 1)) * error
    return mean - half, mean + half


def delong(
    normal: Sequence[np.ndarray], abnormal: Sequence[np.ndarray], strata: Sequence[np.ndarray | None] = (None, None)
) -> tuple[float, float, float]:
    """DeLong's test of two correlated AUROC.

    Args:
        normal, abnormal: Scores before and after, two arrays ``(n,)`` each.
        strata: Group of each normal and of each abnormal image, ``(n,)`` each, where so many of each group were chosen: then only the
            spread within groups is spread. (That one group moves and another does not is what an added normality is for; counted as
            spread it makes the test too careful.) A group of one image is given the spread of all of its kind. With few images a
            group, spreads are not well known: p is of Student's t with Satterthwaite's degrees of freedom.

    Returns:
        Δ and its standard error (points), and the two-sided p-value. With one image of a kind, or no spread at all (every image's
        rank moves alike), there is no standard error: NaN, and p is that of `rank_permutation`.

    Raises:
        DataError: If a score is no number.
    """
    _refuse_nan(*normal, *abnormal)
    (first_above, first_below), (last_above, last_below) = map(_ranked_pairs, normal, abnormal)
    above, below = last_above - first_above, last_below - first_below  # whole or half numbers, which are exact
    delta = 100 * float(below.sum() / (len(above) * len(below)))
    if min(len(above), len(below)) > 1:
        (of_above, above_free), (of_below, below_free) = _variances(above, strata[0]), _variances(below, strata[1])
        parts, free = np.r_[of_above / len(below) ** 2, of_below / len(above) ** 2], np.r_[above_free, below_free]
        if parts.any():
            error = 100 * float(np.sqrt(parts.sum()))
            degrees = np.inf if strata[0] is None else parts.sum() ** 2 / (parts**2 / free).sum()
            return delta, error, float(2 * stats.t.sf(abs(delta) / error, degrees))
    return delta, float("nan"), rank_permutation(normal, abnormal)


def _variances(values: np.ndarray, strata: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """What each stratum adds to the variance of the mean of whole or half numbers (of equal ones exactly none), and its degrees of freedom;
    without strata, all of it."""
    whole, n = (float(values.var(ddof=1)), len(values) - 1), len(values)
    own = [values] if strata is None else [values[strata == name] for name in np.unique(strata)]
    found = [(float(part.var(ddof=1)), len(part) - 1) if len(part) > 1 else whole for part in own]
    return np.array([len(part) * variance / n**2 for part, (variance, _) in zip(own, found, strict=True)]), np.array([k for _, k in found])


def _ranked_pairs(normal: np.ndarray, abnormal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many abnormal images are above each normal one, and how many normal ones below each abnormal one, ties by half."""
    if len(normal) + len(abnormal) < MANY:
        pairs = placements(normal, abnormal)
        return pairs.sum(0), pairs.sum(1)
    ranks = stats.rankdata(np.r_[normal, abnormal])
    above = len(abnormal) - (ranks[: len(normal)] - stats.rankdata(normal))
    return above, ranks[len(normal) :] - stats.rankdata(abnormal)


def rank_permutation(normal: Sequence[np.ndarray], abnormal: Sequence[np.ndarray], *, seed: int = 0, resamples: int = RESAMPLES) -> float:
    """Two-sided p-value of the paired permutation test that two AUROC are equal: each image's ranks before and after are exchanged or not.

    It needs no standard error; with few images it cannot be small. (Venkatraman and Begg, Biometrika 1996, on AUROC alone.)

    Args:
        normal, abnormal: Scores before and after, two arrays ``(n,)`` each.
        seed: Of the exchanges.
        resamples: Number of them, what was observed among them.
    """
    ranks = np.stack([stats.rankdata(np.r_[normal[when], abnormal[when]]) for when in (0, 1)])
    n = len(normal[0])
    if ranks[0, n:].sum() == ranks[1, n:].sum():  # whole or half numbers, which are exact: no exchange makes a smaller difference
        return 1.0
    swap = np.random.default_rng(seed).random((resamples, ranks.shape[1])) < 0.5
    swap[0] = False  # what was observed
    right = [stats.rankdata(np.where(swap, ranks[1 - when], ranks[when]), axis=1)[:, n:].sum(1) for when in (0, 1)]
    difference = np.abs(right[1] - right[0])  # of rank sums: Δ times the number of pairs
    return float(np.mean(difference >= difference[0]))


def rank_correlation(x: ArrayLike, y: ArrayLike) -> tuple[float, float, float]:
    """Spearman's rank correlation, and its 95 % interval by Fisher's z with the variance of Bonett and Wright (2000).

    Pairs count as independent; of three or fewer nothing is known, and the interval is [-1, 1].
    """
    found, pairs = float(stats.spearmanr(x, y).statistic), np.size(x)
    if pairs <= 3:
        return found, -1.0, 1.0
    half = float(stats.norm.ppf((1 + LEVEL) / 2)) * np.sqrt((1 + found**2 / 2) / (pairs - 3))
    with np.errstate(divide="ignore"):
        low, high = (float(np.tanh(np.arctanh(found) + sign * half)) for sign in (-1, 1))
    return found, low, high


def holm(p: ArrayLike) -> np.ndarray:
    """Holm's step-down adjustment of p-values for the family-wise error: ``(n,)``, in the order given."""
    gc.freeze()  # statsmodels collects garbage each time, a hundred times slower than it adjusts: it need not look at what is loaded
    adjusted: np.ndarray = multipletests(p, method="holm")[1]
    gc.unfreeze()
    return adjusted


def wilcoxon(deltas: ArrayLike) -> float:
    """Two-sided p-value of Wilcoxon's signed-rank test that Δ is symmetric about 0; 1 if every Δ is 0, NaN of fewer than two. The Δ must be
    independent."""
    deltas = np.round(np.asarray(deltas, float), DIGITS)
    if len(deltas) < 2:
        return float("nan")
    return float(stats.wilcoxon(deltas).pvalue) if np.any(deltas != 0) else 1.0


def sign_flips(clusters: Sequence[np.ndarray], *, seed: int = 0) -> float:
    """Two-sided p-value that Δ is symmetric about 0 where the Δ of one cluster depend on each other: all signs of a cluster flip together.

    The groups of a class share its good images, so they are one cluster. Exact up to 16 clusters, 2¹⁶ random flips beyond. Of C clusters p
    is 2^(1 - C) or more; of one it would always be 1, and is NaN.

    Args:
        clusters: Δ of the members of each cluster.
        seed: Of the random flips.
    """
    sums = np.array([np.sum(cluster) for cluster in clusters], float)
    if np.isnan(sums).any() or len(sums) < 2:
        return float("nan")
    if len(sums) <= MOST_EXACT:
        signs = 1 - 2 * ((np.arange(2 ** len(sums))[:, None] >> np.arange(len(sums))) & 1)
        return float(np.mean(np.abs(signs @ sums) >= abs(sums.sum()) - 1e-9))
    signs = np.random.default_rng(seed).choice([-1, 1], (2**MOST_EXACT, len(sums)))
    return float((1 + np.sum(np.abs(signs @ sums) >= abs(sums.sum()) - 1e-9)) / (1 + len(signs)))
