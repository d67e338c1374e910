"""The protocol: relabel, AUROC before and after, class averages, and an identity that checks them.

For class c and group g all kept test images of c are adapted with g's text. Label 0 for good and for g, 1 for the rest.
AUROC is in percent, never flipped; ties count half. (By counting pairs: the same as scikit-learn's function, which
spends most of its time on checking its arguments.)
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.metrics import precision_recall_curve

from nandlib.errors import DataError

DELTA_COLUMNS = [
    *("detector", "class", "group", "n_good", "n_group", "n_other", "auroc_before", "auroc_after", "delta", "auroc_others"),
    *("ap_before", "ap_after", "f1max_before", "f1max_after"),
]


def auroc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve in percent; label 1 is abnormal, 0 normal, larger scores are more anomalous.

    Raises:
        DataError: If only one label occurs, or another, there are more or fewer scores than labels, or one is no number.
    """
    labels, scores = np.asarray(labels), np.asarray(scores)
    abnormal = labels == 1
    if labels.shape != scores.shape or scores.dtype.kind not in "fiub" or np.isnan(scores).any():
        raise DataError(f"AUROC needs a score, a number, for each label: {scores.size} scores, {labels.size} labels")
    if not (abnormal | (labels == 0)).all():
        raise DataError("AUROC needs the labels 0 (normal) and 1 (abnormal), and no others")
    normal, above = np.sort(scores[~abnormal]), scores[abnormal]
    if not normal.size or not above.size:
        raise DataError("AUROC needs normal and abnormal images: a class with one group only has no protocol")
    right = (np.searchsorted(normal, above, "left").sum() + np.searchsorted(normal, above, "right").sum()) / 2
    return 100 * float(right / (normal.size * above.size))


def average_precision_and_f1_max(labels: ArrayLike, scores: ArrayLike) -> tuple[float, float]:
    """Average precision, and the largest F1 score of any threshold, in percent; label 1 is abnormal. (Both from one curve.)"""
    precision, recall, _ = precision_recall_curve(labels, scores)
    average = -np.sum(np.diff(recall) * precision[:-1])
    return 100 * float(average), 100 * float(np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12)))


def delta_table(scores: pd.DataFrame, *, precision: bool = True) -> pd.DataFrame:
    """One row per detector, class and added group (Table 2 for every detector).

    Args:
        scores: Frame of schema `SCORES`.
        precision: With average precision and F1 score.

    Returns:
        Columns `DELTA_COLUMNS` (without the last four, if not `precision`); AUROC in percent. ``auroc_others`` is the AUROC of good
        against the other groups alone, with the unchanged detector (a mark, no bound: `nandlib.evaluation.uncertainty.gap_closed`).
        ``ap`` and ``f1max`` are the average precision and the largest F1 score of the same images and labels, in percent; both depend
        on how many images of each kind there are, which AUROC does not.
    """
    rows, groups, before, after = [], *(scores[name].to_numpy() for name in ("group", "before", "after"))
    for (detector, class_name, added), places in positions(scores, ["detector", "class", "added"]):
        own, good = groups[places] == added, groups[places] == "good"
        if not good.any():
            raise DataError(f"class '{class_name}' has no good test images: the protocol compares the other groups with them")
        label, at_first, at_last = (~own & ~good).astype(int), before[places], after[places]
        areas = auroc(label, at_first), auroc(label, at_last)
        counts = (int(good.sum()), int(own.sum()), int(label.sum()))
        alone = auroc(label[~own], at_first[~own])
        pairs = [average_precision_and_f1_max(label, when) for when in (at_first, at_last)] if precision else []
        further = chain.from_iterable(zip(*pairs, strict=True))
        rows.append((detector, class_name, added, *counts, *areas, areas[1] - areas[0], alone, *further))
    return pd.DataFrame(rows, columns=DELTA_COLUMNS if precision else DELTA_COLUMNS[:-4])


def positions(frame: pd.DataFrame, keys: list[str]) -> Iterator[tuple[tuple[str, ...], np.ndarray]]:
    """Keys, and positions of their rows, in order of appearance: a frame a key would take most of the time of a table."""
    grouped = frame.groupby(keys, sort=False, dropna=False)
    order = np.argsort(grouped.ngroup().to_numpy(), kind="stable")
    sizes = grouped.size()
    yield from zip(sizes.index, np.split(order, np.cumsum(sizes.to_numpy())[:-1]), strict=True)


def base_table(scores: pd.DataFrame) -> pd.DataFrame:
    """Ordinary image AUROC A0 of the unchanged detector: detector, class, n_good, n_anomalous, auroc (percent)."""
    rows = []
    for (detector, class_name), part in scores.groupby(["detector", "class"], sort=False):
        part = part[part["added"] == part["added"].iloc[0]]
        label = (part["group"] != "good").astype(int)
        rows.append((detector, class_name, int((label == 0).sum()), int(label.sum()), auroc(label, part["before"])))
    return pd.DataFrame(rows, columns=["detector", "class", "n_good", "n_anomalous", "auroc"])


def class_averages(deltas: pd.DataFrame) -> pd.DataFrame:
    """Unweighted mean over the groups of each class: detector, class, auroc_before, auroc_after, delta, auroc_others."""
    columns = ["auroc_before", "auroc_after", "delta", "auroc_others"]
    return deltas.groupby(["detector", "class"], sort=False)[columns].mean().reset_index()


def detector_table(deltas: pd.DataFrame) -> pd.DataFrame:
    """Table 3: mean over classes of the class averages, and how many groups improve."""
    means = class_averages(deltas).groupby("detector", sort=False)[["auroc_before", "auroc_after", "delta"]].mean()
    counts = deltas.groupby("detector", sort=False)["delta"].agg(n_improved=lambda d: int((d > 0).sum()), n_groups="size")
    return means.join(counts).reset_index()


def identity_residuals(deltas: pd.DataFrame, base: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """How far each class is from the identity that any *before* column must obey.

    With A(t, s) + A(s, t) = 1 over pairs of groups and N = Σ n_t,
    ``Σ_t (n_g + n_t)(N - n_t) AUROC_t = (G - 1) n_g N A0 + Σ_{t<s} n_t n_s``. It holds where every defective image is in a
    group: classes with images that always stay abnormal are left out.

    Returns:
        detector, class, residual: left minus right side, divided by the right side; a correct run has rounding only.
    """
    always = set(scores.loc[scores["group"] == "", "class"])
    rows = []
    for (detector, class_name), part in deltas.groupby(["detector", "class"], sort=False):
        if class_name in always:
            continue
        a0 = base.loc[(base["detector"] == detector) & (base["class"] == class_name), "auroc"].item() / 100
        n_good, n = int(part["n_good"].iloc[0]), part["n_group"].to_numpy()
        total = n.sum()
        left = float(((n_good + n) * (total - n) * part["auroc_before"].to_numpy() / 100).sum())
        pairs = (total**2 - (n**2).sum()) / 2
        right = (len(n) - 1) * n_good * total * a0 + pairs
        rows.append((detector, class_name, (left - right) / right))
    return pd.DataFrame(rows, columns=["detector", "class", "residual"])


def check_identity(residuals: pd.DataFrame, tolerance: float = 1e-9) -> None:
    """Raise DataError for the first detector and class whose *before* column breaks the identity by more than rounding."""
    broken = residuals[residuals["residual"].abs() > tolerance]
    if len(broken):
        row = broken.iloc[0]
        raise DataError(f"{row['detector']} on class '{row['class']}' breaks the identity of its before column by {row['residual']:.1e}")


def summary(deltas: pd.DataFrame, residuals: pd.DataFrame) -> dict[str, object]:
    """The headline numbers of a study, for ``dvc metrics``: Table 3's columns per detector and the largest residual."""
    table = detector_table(deltas).set_index("detector")
    metrics: dict[str, object] = {
        str(name): {str(key): (int(v) if str(key).startswith("n_") else float(v)) for key, v in row.items()}
        for name, row in table.iterrows()
    }
    metrics["identity_residual_max"] = float(residuals["residual"].abs().max()) if len(residuals) else None
    return metrics
