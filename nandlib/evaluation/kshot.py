"""How many images is a text worth? Text, examples, both, and a memory with the same examples, on one set of images.

The contest of `nandlib.evaluation.contest` over a whole study. PatchCore fitted anew takes part in the first few draws alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from nandlib.data.groups import GOOD
from nandlib.errors import DataError
from nandlib.evaluation.contest import DRAWS, KS, LEAST_LEFT, METHODS, Contest, Contestant, Draw, contest, contests, draws_of
from nandlib.evaluation.protocol import auroc
from nandlib.evaluation.scope import masks_of
from nandlib.evaluation.selectivity import PIXEL_SIDE, removed_inside
from nandlib.evaluation.statistics import drawn_weights, interval, weighted_auroc
from nandlib.method.check import removed
from nandlib.method.operators import resize_map
from nandlib.study.open_study import OpenStudy

MASKED_KS = (1, 4)  # at which removal is measured inside masks
COLUMNS = ["class", "group", "k", "draw", "method", "auroc_before", "auroc_after", "auroc_others", "removed_own", "removed_other"]
INTERVALS = ["k", "method", "low", "high", "over_text", "over_text_low", "over_text_high", "over_bank", "over_bank_low", "over_bank_high"]
A2N_COLUMNS = ["class", "group", "k", "method", "auroc_before", "auroc_after", "s_auroc"]
MASK_COLUMNS = ["class", "group", "k", "method", "removed_own", "removed_other"]


class KShot:
    """The contest of a whole study, class by class (`add`).

    Args:
        ks: Numbers of examples.
        draws: Of examples.
        retrained: How many of them with a detector trained anew.
        resamples: Test sets of the paired bootstrap over images.
        methods: Of `METHODS`, without the last.

    Raises:
        DataError: If there is no such method.
    """

    def __init__(
        self,
        ks: Sequence[int] = KS,
        draws: int = DRAWS,
        retrained: int = 0,
        resamples: int = 1000,
        methods: Sequence[str] = METHODS[:-1],
    ) -> None:
        if isinstance(methods, str) or not set(methods) <= set(METHODS):
            raise DataError(f"methods: {methods!r} must be a list of {', '.join(METHODS)}")
        self.ks, self.draws, self.retrained, self.resamples, self.methods = ks, draws, retrained, resamples, methods
        self._rows: list[tuple[object, ...]] = []
        self._samples: dict[tuple[int, str], list[np.ndarray]] = defaultdict(list)  # one array a group and draw

    def add(self, one: Contestant) -> None:
        """One class.

        Raises:
            DataError: If it has no good items, or fewer than two kinds of others: nothing would stay abnormal.
        """
        kinds = set(one.groups)
        if GOOD not in kinds or len(kinds - {GOOD}) < 2:
            held = ", ".join(sorted(kinds))
            raise DataError(f"class '{one.class_name}' holds {held} alone: a contest needs good items, and two kinds of others or more")
        weights = drawn_weights(0, one.class_name, one.groups, self.resamples)
        before = one.scores("nothing", "", ())
        text = {group: one.scores("text", group, ()) for group in one.added if "text" in self.methods}
        for draw in draws_of(one, self.ks, self.draws):
            first, alone = draw.areas(before)
            known = {"nothing": before}  # whatever the examples
            if text:
                known["text"] = text[draw.group]
            for method in METHODS if draw.number < self.retrained else self.methods:
                after = (known[method] if method in known else one.scores(method, draw.group, draw.examples))[draw.keep]
                share = removed(before[draw.keep], after)
                place = one.class_name, draw.group, draw.k, draw.number, method
                cut = share[draw.own].mean(), share[draw.label].mean()
                self._rows.append((*place, first, auroc(draw.label, after), alone, *cut))
                self._samples[draw.k, method].append(weighted_auroc(draw.label, after, weights[draw.keep]))

    def extend(self, other: KShot) -> None:
        """What another has found of further classes, of the same methods and numbers of examples."""
        self._rows += other._rows
        for key, samples in other._samples.items():
            self._samples[key] += samples

    def table(self) -> pd.DataFrame:
        """`COLUMNS`, a row a class, group, k, draw and method.

        AUROC in percent; how much of the image score of the group's other images, and of other groups', is removed, in percent.
        """
        return pd.DataFrame(self._rows, columns=COLUMNS)

    def intervals(self) -> pd.DataFrame:
        """`INTERVALS`: the difference of the mean AUROC after from the text's and the memory's, and 95 % intervals of both, over images;
        NaN where these take no part.

        Every resampled test set is the same for all methods and draws of a class: differences are paired. The draws are those that were
        made: how far the mean over ten of them would differ from that over others is no part of the interval (``sd`` of the summary tells).
        Where examples are taken out of a resampled set the number of images that are left varies a little.
        """
        rows, means = [], {key: np.mean(own, 0) for key, own in self._samples.items() if key[1] != "retrained"}
        found = self.table().groupby(["k", "method"])["auroc_after"].mean()
        for (k, method), own in means.items():
            row: list[object] = [k, method, *interval(own)]
            for rival in ("text", "bank"):
                gain = own - means.get((k, rival), np.nan)
                row += [found[k, method] - found.get((k, rival), np.nan), *interval(gain)]
            rows.append(row)
        return pd.DataFrame(rows, columns=INTERVALS)


def a2n_rows(one: Contest) -> Iterator[tuple[str, str, int, str, float, float, float]]:
    """A2N of arXiv 2604.07097 on one class, `A2N_COLUMNS`: the first half of the images of each type of a group, by name, are shown, the
    others are tested.

    S-AUROC: the tested half's scores before (label 1) against after (label 0). It is 100 for a detector that answers 0 to everything,
    so it never stands without the AUROC against the other groups.
    """
    before = one.scores("nothing", "", ())
    for group in one.text:
        types = defaultdict[str, list[int]](list)
        for k in sorted(np.flatnonzero(one.groups == group).tolist(), key=lambda k: str(one.paths[k])):
            types[one.types[k]].append(k)
        shown = [k for own in types.values() for k in own[: len(own) // 2]]
        if not shown:
            continue
        draw = Draw(group, 0, shown, one.groups)
        for method in METHODS[:-1]:
            after = one.scores(method, group, draw.examples)[draw.keep]
            tested = np.r_[before[draw.keep][draw.own], after[draw.own]]
            moved = auroc(np.repeat([True, False], len(tested) // 2), tested)
            yield one.class_name, group, draw.k, method, draw.areas(before)[0], auroc(draw.label, after), moved


def mask_rows(one: Contest, masks: Tensor, ks: Sequence[int] = MASKED_KS) -> Iterator[tuple[str, str, int, str, float, float]]:
    """`MASK_COLUMNS` of one class, one draw of examples: the share of A that is removed inside the masks of the group's other images, and
    inside those of other groups, in percent; NaN where there are no masks.

    Args:
        one: The class.
        masks: ``(N, side, side)`` bool of its test images, as `nandlib.evaluation.scope.masks_of` gives them.
        ks: Numbers of examples.
    """
    size = (masks.shape[-2], masks.shape[-1])
    base = resize_map(one.base, size)
    for draw in draws_of(one, ks, 1):
        kept = torch.zeros(len(masks), dtype=torch.bool)
        kept[draw.keep] = True
        own = torch.from_numpy(one.groups == draw.group)
        inside = [masks & (kept & members)[:, None, None] for members in (own, ~own)]
        for method in METHODS[1:-1]:
            final = resize_map(one.maps(method, draw.group, draw.examples), size)
            removed = [removed_inside(base, final, where) for where in inside]
            yield one.class_name, draw.group, draw.k, method, removed[0], removed[1]


def kshot(study: OpenStudy, draws: int = DRAWS, retrained: int = 1, progress: bool = True) -> dict[str, pd.DataFrame]:
    """The contest of a whole study whose maps and similarities have been computed.

    Returns:
        ``kshot`` (`KShot.table`), ``intervals`` (`KShot.intervals`), ``a2n`` (`A2N_COLUMNS`) and ``masks`` (`MASK_COLUMNS`).

    Raises:
        DataError: If no group has images enough for one example.
    """
    _refuse_few(study)
    found, halves, inside = KShot(draws=draws, retrained=retrained), [], []
    for name in tqdm(study.classes(), desc="k-shot", disable=not progress):
        one = contest(study, name)
        found.add(one)
        halves += list(a2n_rows(one))
        masks = masks_of(study, study.rows(name), PIXEL_SIDE)
        inside += list(mask_rows(one, masks)) if masks.any() else []
    frames = {"a2n": pd.DataFrame(halves, columns=A2N_COLUMNS), "masks": pd.DataFrame(inside, columns=MASK_COLUMNS)}
    return {"kshot": found.table(), "intervals": found.intervals(), **frames}


def _refuse_few(study: OpenStudy) -> None:
    counts = study.manifest.query("split == 'test' and group not in ('good', '')").groupby(["class", "group"]).size()
    if counts.max() < min(KS) + LEAST_LEFT:
        raise DataError(f"the largest group of {study.name} has {counts.max()} images: the contest needs {min(KS) + LEAST_LEFT} or more")


def every_detector(study: OpenStudy, draws: int = DRAWS, progress: bool = True) -> dict[str, pd.DataFrame]:
    """Detector → `COLUMNS` with one example: nothing, text, example, both. ``bank`` is PatchCore's own and left out.

    Raises:
        DataError: If no group has images enough for one example.
    """
    _refuse_few(study)
    found = {name: KShot((1,), draws, resamples=1, methods=METHODS[:4]) for name in study.config.detectors}
    for class_name in tqdm(study.classes(), desc="one example", disable=not progress):
        for own, one in zip(found.values(), contests(study, class_name, list(found)), strict=True):
            own.add(one)
    return {name: own.table() for name, own in found.items()}
