"""The paper's protocol where groups are added by example: for images, signals and surfaces alike."""

from __future__ import annotations

import numpy as np
import pandas as pd

from nandlib.data.groups import GOOD
from nandlib.errors import DataError
from nandlib.evaluation.contest import LEAST_LEFT, Contestant, draws_of

SHOWN_K = 4  # examples, here and in the pictures


def shown_scores(one: Contestant, detector: str, most: int = SHOWN_K) -> pd.DataFrame:
    """Scores of a class when k items of a group are shown, for every group: a frame of schema `nandlib.study.frames.SCORES`,
    whose tables are `nandlib.evaluation.result_tables.shown_tables`.

    The shown items of all groups (the first draw of the contest) leave the evaluation of every group, so that one test set serves all.
    Groups with fewer than k + `nandlib.evaluation.contest.LEAST_LEFT` items are not added: theirs always stay abnormal (group ``""``).
    k is `most`, or what the smallest group that can take part allows if that is less.

    Args:
        one: Items and their scores before and after.
        detector: Its name.
        most: Items that are shown.

    Raises:
        DataError: If every group is too small even for one.
    """
    sizes = [int(np.count_nonzero(one.groups == group)) for group in one.added]
    k = min([most, *(size - LEAST_LEFT for size in sizes if size > LEAST_LEFT)])
    if max(sizes, default=0) <= LEAST_LEFT:
        raise DataError(f"no group of '{one.class_name}' has {1 + LEAST_LEFT} tested items, one to be shown and {LEAST_LEFT} that are left")
    shown = {draw.group: draw.examples for draw in draws_of(one, (k,), 1)}
    left = np.setdiff1d(np.arange(len(one.groups)), np.concatenate(list(shown.values())))
    groups = np.where(np.isin(one.groups, [GOOD, *shown]), one.groups, "")[left]
    before, frames = one.scores("nothing", "", ())[left], []
    for group, examples in shown.items():
        scores = {"before": before, "after": one.scores("examples", group, examples)[left]}
        names = {"detector": detector, "class": one.class_name, "image": left.astype(str), "group": groups, "added": group}
        frames.append(pd.DataFrame(names | scores))
    found, numbers = pd.concat(frames, ignore_index=True), ["before", "after"]
    found[numbers] = found[numbers].astype(np.float32).astype(float)  # as they are kept
    return found
