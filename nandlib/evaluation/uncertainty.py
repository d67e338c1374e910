"""How sure a study's numbers are: intervals and tests for every group, and for the means of every detector."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from nandlib.evaluation.protocol import base_table, class_averages, delta_table, detector_table, positions
from nandlib.evaluation.statistics import (
    AFTER,
    BEFORE,
    OTHERS,
    RESAMPLES,
    bootstrap,
    cluster_interval,
    delong,
    holm,
    interval,
    sign_flips,
    wilcoxon,
)

GROUP_COLUMNS = ["detector", "class", "group", "ci_low", "ci_high", "n_single", "p_delong", "p_holm"]
DETECTOR_COLUMNS = [
    *("detector", "delta_low", "delta_high", "classes_low", "classes_high", "gap_closed_low", "gap_closed_high"),
    *("n_better", "n_worse", "n_single", "p_groups", "p_classes"),
]
SHARED, SPECIFIC, GIVEN = "shared_primitive", "product_specific", "given"  # origins; the last: what is not drawn
ORIGIN_COLUMNS = [
    *("detector", "origin", "auroc_before", "auroc_after", "delta", "delta_low", "delta_high", "classes_low", "classes_high"),
    *("n_improved", "n_better", "n_worse", "n_groups"),
]
SIGNIFICANT = 0.05
LEAST_GAP = 2.0  # points: a share of less is noise


def gap_closed(before: float, after: float, others: float) -> float:
    """How much of the gap an adaptation closes, in percent: (after - before) / (others - before), of means.

    `others` is the AUROC of good images against the other groups alone, with the unchanged detector: what *before* would be if no image
    of the added group were there. It is a mark, no bound: the text also damps good images, so more than 100 % can be reached, and
    where the added group is easily told from the others the gap is small or negative. NaN where it is below `LEAST_GAP`.
    """
    return 100 * (after - before) / (others - before) if others - before >= LEAST_GAP else np.nan


def _gap_interval(means: np.ndarray) -> tuple[float, float]:
    """95 % interval of `gap_closed` from resampled means ``(resamples, 3)``; NaN where the interval of the gap reaches to 0.

    A resample without a gap lies beyond all others, on the side of its gain. Percentiles of the ratio, as of all else here. Fieller's
    interval is the same idea for normal errors, and unbounded exactly where the gap is not clear, which is where this says nothing.
    """
    gap, gain = means[:, OTHERS] - means[:, BEFORE], means[:, AFTER] - means[:, BEFORE]
    if not interval(gap)[0] > 0:  # nor where nothing is known
        return np.nan, np.nan
    some = gap > 0
    beyond = np.where(gain == 0, 0.0, np.copysign(np.inf, gain))
    found = interval(np.where(some, 100 * gain / np.where(some, gap, 1), beyond))
    return found if np.isfinite(found).all() else (np.nan, np.nan)


@dataclass(frozen=True)
class Resampled:
    """One class of one detector with its resampled test sets.

    Attributes:
        class_name: The class.
        strata: ``(n,)`` group of each image, ``"good"`` for good ones.
        before: ``(n,)`` scores before.
        after: Added group → ``(n,)`` scores after.
        samples: ``(resamples, G, 3)``: `nandlib.evaluation.statistics.bootstrap`; NaN where there is one good image.
    """

    class_name: str
    strata: np.ndarray
    before: np.ndarray
    after: dict[str, np.ndarray]
    samples: np.ndarray


Draws = dict[str, list[Resampled]]  # by detector


def resample(scores: pd.DataFrame, *, seed: int = 0, resamples: int = RESAMPLES) -> Draws:
    """Resampled test sets of a study's scores: the same for every frame of the same images, groups in the same order, and seed.

    Args:
        scores: Frame of schema `nandlib.study.frames.SCORES`.
        seed: Of the bootstrap.
        resamples: Number of test sets.
    """
    found: Draws = {}
    for (detector, class_name), own in _class_scores(scores):
        samples = bootstrap(*own, name=class_name, seed=seed, resamples=resamples)
        if (own[0] == "good").sum() == 1:  # with which all are compared: no resampling moves it
            samples = np.full_like(samples, np.nan)
        found.setdefault(detector, []).append(Resampled(class_name, *own, samples))
    return found


def uncertainty(draws: Draws) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Intervals and tests of a study's scores.

    Args:
        draws: `resample` of them.

    Returns:
        By group, `GROUP_COLUMNS`: 95 % interval of Δ (points); ``n_single``, how many groups of the class (good images among them) have
        one image, whose spread the interval cannot know (it is NaN where good or the group itself is such a one); p of DeLong's test with
        the spread within groups, and Holm's adjustment over the groups of a detector. By detector, `DETECTOR_COLUMNS`: intervals of the
        mean Δ over classes and of the share of the gap that is closed, over images of these very classes (NaN where one has a single good
        image); that of the mean Δ over classes as such (``classes_low``, ``classes_high``, by
        `nandlib.evaluation.statistics.cluster_interval`); how many groups are better and worse after Holm's adjustment; ``n_single`` of
        all classes; the p of sign flips by class over groups, and Wilcoxon's over classes.
    """
    groups, detectors = [], []
    for detector, classes in draws.items():
        rows, clusters = [], list[np.ndarray]()
        for drawn in classes:
            own_rows = list(_group_rows(drawn))
            rows += [(detector, drawn.class_name, *row[:-1]) for row in own_rows]
            clusters.append(np.array([row[-1] for row in own_rows]))
        frame = pd.DataFrame(rows, columns=GROUP_COLUMNS[:-1])
        frame = frame.assign(p_holm=holm(frame["p_delong"]))
        groups.append(frame)
        deltas, clear = np.concatenate(clusters), frame["p_holm"].to_numpy() < SIGNIFICANT
        counts = int((clear & (deltas > 0)).sum()), int((clear & (deltas < 0)).sum()), int(frame.groupby("class")["n_single"].first().sum())
        mean = _mean(classes)
        of_classes = [cluster.mean(keepdims=True) for cluster in clusters]
        intervals = *interval(mean[:, AFTER] - mean[:, BEFORE]), *cluster_interval(of_classes), *_gap_interval(mean)
        detectors.append((detector, *intervals, *counts, sign_flips(clusters), wilcoxon(np.concatenate(of_classes))))
    return pd.concat(groups, ignore_index=True), pd.DataFrame(detectors, columns=DETECTOR_COLUMNS)


def origin_table(draws: Draws, deltas: pd.DataFrame) -> pd.DataFrame:
    """Means over the groups of one origin.

    Args:
        draws: `resample` of the scores.
        deltas: `nandlib.evaluation.protocol.delta_table` with ``p_holm`` of `uncertainty` and ``origin`` of `nandlib.evaluation.origin`.

    Returns:
        `ORIGIN_COLUMNS`: plain means over groups (Table 3 averages over classes first), the 95 % intervals of Δ over images and over
        classes (`nandlib.evaluation.statistics.cluster_interval`), how many groups improve and how many are better and worse after
        Holm's adjustment.
    """
    rows = []
    for detector, classes in draws.items():
        keys = [(drawn.class_name, group) for drawn in classes for group in drawn.after]
        gains = [drawn.samples[..., AFTER] - drawn.samples[..., BEFORE] for drawn in classes]
        gain = pd.DataFrame(np.concatenate(gains, 1), columns=pd.MultiIndex.from_tuples(keys))
        for origin, table in deltas[deltas["detector"] == detector].groupby("origin", sort=False):
            chosen = pd.MultiIndex.from_frame(table[["class", "group"]])
            means, clear = table[["auroc_before", "auroc_after", "delta"]].mean(), table["p_holm"] < SIGNIFICANT
            counts = [int(found.sum()) for found in (table["delta"] > 0, clear & (table["delta"] > 0), clear & (table["delta"] < 0))]
            of_classes = [own.to_numpy() for _, own in table.groupby("class", sort=False)["delta"]]
            intervals = *interval(gain[chosen].to_numpy().mean(1)), *cluster_interval(of_classes)
            rows.append((detector, origin, *means, *intervals, *counts, len(table)))
    return pd.DataFrame(rows, columns=ORIGIN_COLUMNS)


def delta_samples(draws: Draws) -> dict[str, np.ndarray]:
    """Mean Δ over classes (points) of every resampled test set ``(resamples,)``, by detector.

    The test sets are the same for every frame of the same images and seed: differences between frames are paired.
    """
    means = {detector: _mean(classes) for detector, classes in draws.items()}
    return {detector: mean[:, AFTER] - mean[:, BEFORE] for detector, mean in means.items()}


def detector_summary(deltas: pd.DataFrame, detectors: pd.DataFrame) -> pd.DataFrame:
    """Table 3 with the others alone, the share of the gap that is closed, and their uncertainty.

    Args:
        deltas: `nandlib.evaluation.protocol.delta_table`.
        detectors: By detector, from `uncertainty`.

    Returns:
        Columns of `nandlib.evaluation.protocol.detector_table`, then auroc_others (mean over classes), gap_closed and its
        interval (NaN where the gap is small or not clear), and `DETECTOR_COLUMNS`.
    """
    others = class_averages(deltas).groupby("detector")["auroc_others"].mean()
    table = detector_table(deltas).assign(auroc_others=lambda t: t["detector"].map(others))
    areas = table[["auroc_before", "auroc_after", "auroc_others"]].itertuples(index=False)
    table = table.assign(gap_closed=[gap_closed(*row) for row in areas]).merge(detectors, on="detector", validate="one_to_one")
    share = ["gap_closed", "gap_closed_low", "gap_closed_high"]  # together, or not at all
    clear = table[share].notna().all(axis=1)
    return table.assign(**{column: table[column].where(clear) for column in share})


def protocol_tables(scores: pd.DataFrame, origins: pd.Series) -> dict[str, pd.DataFrame]:
    """All tables of the protocol from image scores alone.

    Args:
        scores: Frame of schema `nandlib.study.frames.SCORES`.
        origins: By class and group (`nandlib.evaluation.origin.group_origins`).

    Returns:
        ``deltas`` (`nandlib.evaluation.protocol.delta_table`, `GROUP_COLUMNS`, origin), ``origins`` (`origin_table`), ``detectors``
        (`detector_summary`) and ``base_auroc`` (`nandlib.evaluation.protocol.base_table`).
    """
    draws = resample(scores)
    deltas, (groups, detectors) = delta_table(scores), uncertainty(draws)
    table = deltas.merge(groups, on=["detector", "class", "group"], validate="one_to_one")
    table["origin"] = table[["class", "group"]].apply(tuple, axis=1).map(origins)
    return {
        "deltas": table,
        "origins": origin_table(draws, table),
        "detectors": detector_summary(deltas, detectors),
        "base_auroc": base_table(scores),
    }


def with_origins(detectors: pd.DataFrame, origins: pd.DataFrame) -> pd.DataFrame:
    """Table 3: `detector_summary` with ``delta_<origin>`` of `origin_table`."""
    by_origin = origins.set_index(["detector", "origin"])["delta"].unstack("origin").add_prefix("delta_")  # noqa: PD010
    return detectors.join(by_origin, on="detector")


def _mean(classes: Sequence[Resampled]) -> np.ndarray:
    """Means over classes of class averages ``(resamples, 3)``."""
    mean: np.ndarray = np.mean([drawn.samples.mean(1) for drawn in classes], 0)
    return mean


def _class_scores(scores: pd.DataFrame) -> Iterator[tuple[tuple[str, ...], tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]]]:
    """Detector and class; groups, scores before, and scores after by added group, of the images in order of their names."""
    group, before, after = (scores[name].to_numpy() for name in ("group", "before", "after"))
    order = pd.factorize(scores["image"], sort=True)[0]
    found: dict[tuple[str, ...], dict[str, np.ndarray]] = {}
    for (detector, class_name, added), rows in positions(scores, ["detector", "class", "added"]):
        found.setdefault((detector, class_name), {})[added] = rows[np.argsort(order[rows])]
    for key, by_group in found.items():
        first = next(iter(by_group.values()))
        yield key, (group[first], before[first], {added: after[rows] for added, rows in by_group.items()})


def _group_rows(drawn: Resampled) -> Iterator[tuple[str, float, float, int, float, float]]:
    """Group, interval of Δ, strata of one image, p of DeLong's stratified test, and Δ."""
    strata, before = drawn.strata, drawn.before
    names, counts = np.unique(strata, return_counts=True)
    single = set(names[counts == 1])
    for k, (group, scores) in enumerate(drawn.after.items()):
        normal = (strata == "good") | (strata == group)
        good, bad = ((before[kind], scores[kind]) for kind in (normal, ~normal))
        delta, _, p = delong(good, bad, (strata[normal], strata[~normal]))
        gains = drawn.samples[:, k, AFTER] - drawn.samples[:, k, BEFORE]
        low, high = (np.nan, np.nan) if single & {"good", group} else interval(gains)
        yield group, low, high, len(single), p, delta
