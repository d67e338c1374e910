"""How sure a study's numbers are: intervals and tests for every group, and for the means of every detector."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from nandlib.evaluation.protocol import class_averages, detector_table
from nandlib.evaluation.statistics import RESAMPLES, bootstrap, delong, holm, interval, sign_flips, wilcoxon

GROUP_COLUMNS = ["detector", "class", "group", "ci_low", "ci_high", "n_single", "p_delong", "p_holm"]
DETECTOR_COLUMNS = [
    *("detector", "delta_low", "delta_high", "share_low", "share_high", "n_better", "n_worse", "n_single", "p_groups", "p_classes"),
]
ORIGIN_COLUMNS = [
    *("detector", "origin", "auroc_before", "auroc_after", "delta", "delta_low", "delta_high"),
    *("n_improved", "n_better", "n_worse", "n_groups"),
]
SIGNIFICANT = 0.05
BEFORE, AFTER, CEILING = range(3)


def share(before: float | np.ndarray, after: float | np.ndarray, ceiling: float | np.ndarray) -> np.ndarray:
    """Share of the achievable gain in percent: (after - before) / (ceiling - before), of means; NaN where nothing can be gained."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(ceiling == before, np.nan, 100 * np.divide(after - before, ceiling - before))


def uncertainty(scores: pd.DataFrame, *, seed: int = 0, resamples: int = RESAMPLES) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Intervals and tests of a study's scores.

    Args:
        scores: Frame of schema `nandlib.study.frames.SCORES`.
        seed: Of the bootstrap.
        resamples: Number of resampled test sets.

    Returns:
        By group, `GROUP_COLUMNS`: 95 % interval of Δ (points); ``n_single``, how many groups of the class (good images among them) have
        one image, whose spread the interval cannot know (it is NaN where good or the group itself is such a one); DeLong's p, and
        Holm's adjustment over the groups of a detector. By detector, `DETECTOR_COLUMNS`: intervals of the mean Δ over classes and of
        the share of the achievable gain; how many groups are better and worse after Holm's adjustment; ``n_single`` of all classes;
        the p of sign flips by class over groups, and Wilcoxon's over classes.
    """
    groups, detectors = [], []
    for detector, own in scores.groupby("detector", sort=False):
        means, clusters, rows = [], list[np.ndarray](), []
        for class_name, strata, before, after, samples in _resampled(own, seed, resamples):
            means.append(samples.mean(1))
            own_rows = list(_group_rows(strata, before, after, samples))
            rows += [(detector, class_name, *row[:-1]) for row in own_rows]
            clusters.append(np.array([row[-1] for row in own_rows]))
        frame = pd.DataFrame(rows, columns=GROUP_COLUMNS[:-1])
        frame = frame.assign(p_holm=holm(frame["p_delong"]))
        groups.append(frame)
        deltas, clear = np.concatenate(clusters), frame["p_holm"].to_numpy() < SIGNIFICANT
        counts = int((clear & (deltas > 0)).sum()), int((clear & (deltas < 0)).sum()), int(frame.groupby("class")["n_single"].first().sum())
        mean = np.mean(means, 0)  # over classes: (resamples, 3)
        shares = share(mean[:, BEFORE], mean[:, AFTER], mean[:, CEILING])
        delta_interval, share_interval = interval(mean[:, AFTER] - mean[:, BEFORE]), interval(shares)
        tests = sign_flips(clusters), wilcoxon([cluster.mean() for cluster in clusters])
        detectors.append((detector, *delta_interval, *share_interval, *counts, *tests))
    return pd.concat(groups, ignore_index=True), pd.DataFrame(detectors, columns=DETECTOR_COLUMNS)


def origin_table(scores: pd.DataFrame, deltas: pd.DataFrame, *, seed: int = 0, resamples: int = RESAMPLES) -> pd.DataFrame:
    """Means over the groups of one origin.

    Args:
        scores: Frame of schema `nandlib.study.frames.SCORES`.
        deltas: `nandlib.evaluation.protocol.delta_table` with ``p_holm`` of `uncertainty` and ``origin`` of `nandlib.evaluation.origin`.
        seed: Of the bootstrap.
        resamples: Number of resampled test sets.

    Returns:
        `ORIGIN_COLUMNS`: plain means over groups (Table 3 averages over classes first), the 95 % interval of Δ, how many groups improve
        and how many are better and worse after Holm's adjustment.
    """
    rows = []
    for detector, own in scores.groupby("detector", sort=False):
        gains, keys = [], list[tuple[str, str]]()
        for class_name, _, _, after, samples in _resampled(own, seed, resamples):
            gains.append(samples[..., AFTER] - samples[..., BEFORE])
            keys += [(class_name, str(group)) for group in after]
        gain = pd.DataFrame(np.concatenate(gains, 1), columns=pd.MultiIndex.from_tuples(keys))
        for origin, table in deltas[deltas["detector"] == detector].groupby("origin", sort=False):
            chosen = pd.MultiIndex.from_frame(table[["class", "group"]])
            means, clear = table[["auroc_before", "auroc_after", "delta"]].mean(), table["p_holm"] < SIGNIFICANT
            counts = [int(found.sum()) for found in (table["delta"] > 0, clear & (table["delta"] > 0), clear & (table["delta"] < 0))]
            rows.append((detector, origin, *means, *interval(gain[chosen].to_numpy().mean(1)), *counts, len(table)))
    return pd.DataFrame(rows, columns=ORIGIN_COLUMNS)


def delta_samples(scores: pd.DataFrame, *, seed: int = 0, resamples: int = RESAMPLES) -> dict[str, np.ndarray]:
    """Mean Δ over classes (points) of every resampled test set ``(resamples,)``, by detector.

    The test sets are the same for every frame of the same images and seed: differences between frames are paired.
    """
    found = {}
    for detector, own in scores.groupby("detector", sort=False):
        mean = np.mean([samples.mean(1) for *_, samples in _resampled(own, seed, resamples)], 0)
        found[str(detector)] = mean[:, AFTER] - mean[:, BEFORE]
    return found


def detector_summary(deltas: pd.DataFrame, detectors: pd.DataFrame) -> pd.DataFrame:
    """Table 3 with the ceiling, the share of the achievable gain, and their uncertainty.

    Args:
        deltas: `nandlib.evaluation.protocol.delta_table`.
        detectors: By detector, from `uncertainty`.

    Returns:
        Columns of `nandlib.evaluation.protocol.detector_table`, then auroc_ceiling (mean over classes), share, and `DETECTOR_COLUMNS`.
    """
    ceiling = class_averages(deltas).groupby("detector")["auroc_ceiling"].mean()
    table = detector_table(deltas).assign(auroc_ceiling=lambda t: t["detector"].map(ceiling))
    table = table.assign(share=share(*(table[column].to_numpy() for column in ("auroc_before", "auroc_after", "auroc_ceiling"))))
    return table.merge(detectors, on="detector", validate="one_to_one")


def _resampled(
    own: pd.DataFrame, seed: int, resamples: int
) -> Iterator[tuple[str, np.ndarray, np.ndarray, dict[str, np.ndarray], np.ndarray]]:
    """For every class of one detector: its name, its `_class_scores`, and their `bootstrap`."""
    for class_name, part in own.groupby("class", sort=False):
        scores = _class_scores(part)
        yield str(class_name), *scores, bootstrap(*scores, name=str(class_name), seed=seed, resamples=resamples)


def _class_scores(part: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Groups, scores before, and scores after by added group, of the images of one class in one order."""
    wide = part.pivot(index="image", columns="added", values="after")[part["added"].unique()]  # noqa: PD010
    once = part.drop_duplicates("image").set_index("image").loc[wide.index]
    return once["group"].to_numpy(), once["before"].to_numpy(), {name: wide[name].to_numpy() for name in wide.columns}


def _group_rows(
    strata: np.ndarray, before: np.ndarray, after: dict[str, np.ndarray], samples: np.ndarray
) -> Iterator[tuple[str, float, float, int, float, float]]:
    """Group, interval of Δ, strata of one image, DeLong's p, and Δ."""
    names, counts = np.unique(strata, return_counts=True)
    single = set(names[counts == 1])
    for k, (group, scores) in enumerate(after.items()):
        normal = (strata == "good") | (strata == group)
        delta, _, p = delong((before[normal], scores[normal]), (before[~normal], scores[~normal]))
        low, high = (np.nan, np.nan) if single & {"good", group} else interval(samples[:, k, AFTER] - samples[:, k, BEFORE])
        yield group, low, high, len(single), p, delta
