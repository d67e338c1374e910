"""How well `nandlib.method.check` foresees harm: its verdicts on every text of a study, from image scores alone.

A text is *harmful* to a detector if AUROC falls by `HARM` points or more when it is added, *useful* if it rises; the rest is neither. Good
test images stand for normal ones, and of the others the checker sees

- ``unlabelled``: half of all anomalous images, by seed;
- ``labelled``: `LABELLED` images of the added group and as many of other groups. Δ is that of all images, those that the checker sees among
  them;
- ``labelled_apart``: the same with half of the good images, and Δ of none but the images that it does not see.

`LOST` is the value at which, on the validation products, the share of harmful texts that are caught and that of useful ones that are kept
add up to most (`best_threshold`).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from nandlib.evaluation.protocol import auroc, delta_table
from nandlib.method.check import LOST, Scores, check
from nandlib.method.threshold import Threshold

HARM = -2.0  # points
LABELLED, DRAWS = 5, 10
COLUMNS = ["detector", "class", "group", "images", "delta", "signal", "verdict"]
SUMMARY_COLUMNS = ["images", "harmful", "useful", "harmful_texts", "useful_texts", "auroc", "caught", "kept", "unsaid"]
KINDS = ("unlabelled", "labelled", "labelled_apart")
NONE = np.array([], int)
NO_MATTER = Threshold(float("inf"), 0.05, 1)  # verdicts do not depend on it


def harm_table(scores: pd.DataFrame) -> pd.DataFrame:
    """What a checker says of every text of a study, in `DRAWS` draws of images.

    Args:
        scores: Frame of schema `nandlib.study.frames.SCORES`.

    Returns:
        `COLUMNS`, a row a detector, class, group, draw and kind of images that the checker sees (`KINDS`; those with labels where a group
        has `LABELLED` images, and ``labelled_apart`` where it has more): Δ of the group (points), how strongly it speaks for harm
        (``signal``: `nandlib.method.check.lost_detection` in percent; what the separation of the labelled images loses, in points), and
        `nandlib.method.check.Verdict`.
    """
    deltas = delta_table(scores, precision=False).set_index(["detector", "class", "group"])["delta"]
    rows = []
    for (detector, class_name, group), part in scores.groupby(["detector", "class", "added"], sort=False):
        key = str(detector), str(class_name), str(group)
        rows += [(*key, *seen) for seen in _draws(part, key[-1], float(deltas.loc[key]))]
    return pd.DataFrame(rows, columns=COLUMNS)


def _draws(part: pd.DataFrame, group: str, delta: float) -> Iterator[tuple[str, float, float, str]]:
    kinds = part["group"].to_numpy()
    own, other, good = (np.flatnonzero(chosen) for chosen in (kinds == group, (kinds != group) & (kinds != "good"), kinds == "good"))
    before, after = part["before"].to_numpy(), part["after"].to_numpy()

    def said(
        normals: np.ndarray, rejects: np.ndarray = NONE, accepted: np.ndarray = NONE, rejected: np.ndarray = NONE
    ) -> tuple[float, str]:
        first, second, third, fourth = (Scores(before[k], after[k]) for k in (normals, rejects, accepted, rejected))
        found = check(first, second, third, fourth, NO_MATTER)
        return found.lost if len(rejects) else found.separation_before - found.separation_after, found.verdict

    for draw in range(DRAWS):
        rng = np.random.default_rng([draw, *group.encode()])
        anomalous = rng.permutation(np.r_[own, other])
        yield "unlabelled", delta, *said(good, anomalous[: max(1, len(anomalous) // 2)])
        if min(len(own), len(other)) >= LABELLED:
            (accepted, passing), (rejected, left) = (np.split(rng.permutation(all_of), [LABELLED]) for all_of in (own, other))
            yield "labelled", delta, *said(good, accepted=accepted, rejected=rejected)
            normals, unseen = np.split(rng.permutation(good), [len(good) // 2])
            if min(map(len, (normals, passing, left))):
                rest, label = np.r_[unseen, passing, left], np.repeat([False, True], [len(unseen) + len(passing), len(left)])
                apart = auroc(label, after[rest]) - auroc(label, before[rest])
                yield "labelled_apart", apart, *said(normals, accepted=accepted, rejected=rejected)


def harm_summary(table: pd.DataFrame, threshold: float = LOST) -> pd.DataFrame:
    """How well harm is foreseen over the texts and detectors of a study: `SUMMARY_COLUMNS`, a row a kind of images (`KINDS`).

    ``harmful`` and ``useful``: pairs of a text and a detector, a draw (of ``labelled_apart`` the mean over draws); ``harmful_texts``,
    ``useful_texts``: different texts among them, whatever the detector; ``auroc`` of ``signal``, harmful against useful; ``caught``:
    harmful pairs of which it is said that they harm or may; ``kept``: useful ones that are said to help, or to do no harm that is seen;
    ``unsaid``: pairs of either of which it says that nothing is done or known; in percent, over all draws. NaN where there are none.
    """
    return pd.DataFrame([_summary(kind, table[table["images"] == kind], threshold) for kind in KINDS], columns=SUMMARY_COLUMNS)


def _summary(kind: str, own: pd.DataFrame, threshold: float) -> tuple[str | float, ...]:
    harmful, useful = own["delta"] <= HARM, own["delta"] > 0
    unsaid = own["verdict"].isin(["does nothing", "not known"])
    expected = ~unsaid & (own["signal"] >= threshold if kind == "unlabelled" else own["verdict"] == "harms")
    judged = harmful | useful
    area = auroc(harmful[judged], own["signal"][judged]) if harmful.any() and useful.any() else np.nan
    shares = ((expected, harmful), (~expected & ~unsaid, useful), (unsaid, judged))
    texts = [len(own[chosen].drop_duplicates(["class", "group"])) for chosen in (harmful, useful)]
    percent = [100 * float(right[among].mean()) if among.any() else np.nan for right, among in shares]
    return (kind, harmful.sum() / DRAWS, useful.sum() / DRAWS, *texts, area, *percent)


def best_threshold(table: pd.DataFrame) -> float:
    """The value of `lost_detection`, in whole percent, at which the shares of harmful texts caught and of useful ones kept add up to most,
    by unlabelled images; NaN where there is none of either."""
    values, own = np.arange(0.0, 51.0), table[table["images"] == "unlabelled"]
    totals = [float(harm_summary(own, value).iloc[0][["caught", "kept"]].sum(skipna=False)) for value in values]
    return float(values[int(np.argmax(totals))]) if np.isfinite(totals[0]) else float("nan")
