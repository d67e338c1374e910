"""How well `nandlib.method.check` foresees harm: its two statistics as classifiers of harmful texts, from image scores alone.

A text is *harmful* if AUROC falls by `HARM` points or more when it is added, *useful* if it rises; the rest is neither. Good test images
stand for normal ones, and of the others the checker sees

- ``unlabelled``: half of all anomalous images, by seed: harm is expected where `lost_detection` is `LOST` or more;
- ``labelled``: `LABELLED` images of the added group and as many of other groups: where their separation falls.

`LOST` is the value at which, on the validation products, the share of harmful texts that are caught and that of useful ones that are kept
add up to most (`best_threshold`). Δ is that of all images, those that the checker sees among them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from nandlib.evaluation.protocol import auroc, delta_table
from nandlib.method.check import LOST, Scores, lost_detection, separation

HARM = -2.0  # points
LABELLED, DRAWS = 5, 10
COLUMNS = ["detector", "class", "group", "delta", "lost", "gain"]
SUMMARY_COLUMNS = ["images", "harmful", "useful", "auroc", "caught", "kept"]


def harm_table(scores: pd.DataFrame) -> pd.DataFrame:
    """What a checker sees of every text of a study, in `DRAWS` draws of images.

    Args:
        scores: Frame of schema `nandlib.study.frames.SCORES`.

    Returns:
        `COLUMNS`, a row a detector, class, group and draw: Δ of the group (points), `lost_detection` of the unlabelled images (percent),
        and what the separation of the labelled ones gains (points; NaN where a group has fewer than `LABELLED` images).
    """
    deltas = delta_table(scores, precision=False).set_index(["detector", "class", "group"])["delta"]
    rows = []
    for (detector, class_name, group), part in scores.groupby(["detector", "class", "added"], sort=False):
        key = str(detector), str(class_name), str(group)
        rows += [(*key, deltas.loc[key], *seen) for seen in _draws(part, key[-1])]
    return pd.DataFrame(rows, columns=COLUMNS)


def _draws(part: pd.DataFrame, group: str) -> Iterator[tuple[float, float]]:
    kinds = part["group"].to_numpy()
    own, other, good = (np.flatnonzero(chosen) for chosen in (kinds == group, (kinds != group) & (kinds != "good"), kinds == "good"))
    before, after = part["before"].to_numpy(), part["after"].to_numpy()

    def taken(positions: np.ndarray) -> Scores:
        return Scores(before[positions], after[positions])

    for draw in range(DRAWS):
        rng = np.random.default_rng([draw, *group.encode()])
        anomalous = rng.permutation(np.r_[own, other])
        lost, gain = lost_detection(taken(good), taken(anomalous[: max(1, len(anomalous) // 2)])), np.nan
        if min(len(own), len(other)) >= LABELLED:
            accepted, rejected = taken(rng.permutation(own)[:LABELLED]), taken(rng.permutation(other)[:LABELLED])
            first, second = separation(taken(good) + accepted, rejected)
            gain = second - first
        yield lost, gain


def harm_summary(table: pd.DataFrame, threshold: float = LOST) -> pd.DataFrame:
    """How well harm is foreseen over the texts of a study: `SUMMARY_COLUMNS`, a row for unlabelled and for labelled images.

    ``harmful`` and ``useful``: how many texts; ``auroc`` of the statistic, harmful against useful; ``caught``, ``kept``: shares of harmful
    and useful texts that the verdict puts right; all in percent, over all draws. NaN where there is no such text.
    """
    rows = []
    for name, column, expected in (
        ("unlabelled", table["lost"], table["lost"] >= threshold),
        ("labelled", -table["gain"], table["gain"] < 0),
    ):
        known = column.notna()
        harmful, useful = known & (table["delta"] <= HARM), known & (table["delta"] > 0)
        judged = harmful | useful
        texts = [len(table[kind].drop_duplicates(["detector", "class", "group"])) for kind in (harmful, useful)]
        area = auroc(harmful[judged], column[judged]) if harmful.any() and useful.any() else np.nan
        shares = [100 * float(right.mean()) if len(right) else np.nan for right in (expected[harmful], ~expected[useful])]
        rows.append((name, *texts, area, *shares))
    return pd.DataFrame(rows, columns=SUMMARY_COLUMNS)


def best_threshold(table: pd.DataFrame) -> float:
    """The value of ``lost``, in whole percent, at which the shares of harmful texts caught and of useful ones kept add up to most;
    NaN where there is none of either."""
    values = np.arange(0.0, 51.0)
    totals = [float(harm_summary(table, value).iloc[0][["caught", "kept"]].sum(skipna=False)) for value in values]
    return float(values[int(np.argmax(totals))]) if np.isfinite(totals[0]) else float("nan")
