"""From the paper's rule to `nand_plus`, one change at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from nandlib.evaluation.protocol import delta_table
from nandlib.evaluation.scope import masks_of, measured
from nandlib.evaluation.statistics import interval
from nandlib.evaluation.uncertainty import delta_samples, detector_summary, uncertainty
from nandlib.method.config import NandConfig
from nandlib.study.class_maps import Batch, ClassMaps, score_frame
from nandlib.study.open_study import OpenStudy
from nandlib.study.parallel import each

FRONTIER = (0.03, 0.1, 1.0, 3.0)  # more values of plus.prior: what more or less suppression costs
KNOWN_PRIOR = 2.0  # against the class's other types, of which there are few: chosen on the validation products too
COLUMNS = [
    "kind", "step", "detector", "auroc_before", "auroc_after", "delta", "delta_low", "delta_high", "auroc_ceiling", "share", "share_low",
    "share_high", "gain", "gain_low", "gain_high", "over_nand", "over_nand_low", "over_nand_high", "n_improved", "n_groups", "worst",
    "removed_own", "removed_other",
]  # fmt: skip


@dataclass(frozen=True)
class Step:
    """A named configuration. `kind`: ``nand``, ``path`` (on the way), ``plus``, ``without`` (`nand_plus` less one part), ``frontier``,
    ``known`` (which needs more than the text)."""

    kind: str
    name: str
    nand: NandConfig


def steps(nand: NandConfig) -> list[Step]:
    """The paper's rule, the changes that lead to `nand_plus`, `nand_plus` less one of them, and what needs more than the text.

    Args:
        nand: Of the study: its parameters of Eq. 4, and those of `nand_plus`.
    """

    def plus(**changes: Any) -> NandConfig:
        return nand.model_copy(update={"method": "nand_plus", "plus": nand.plus.model_copy(update=changes)})

    plain = {"calibrate": False, "sharpness": 1.0, "prior": 1.0}
    return [
        Step("nand", "nand (the paper's)", nand.model_copy(update={"method": "nand"})),
        Step("path", "+ mean of the layers first", plus(regions=False, competitors="normal", **plain)),
        Step("path", "+ by region", plus(competitors="normal", **plain)),
        Step("path", "+ against other defects", plus(**plain)),
        Step("path", "+ sharpness and prior", plus(calibrate=False)),
        Step("plus", "+ calibrated = nand_plus", plus()),
        Step("without", "nand_plus without regions", plus(regions=False)),
        Step("without", "nand_plus without synonyms", plus(synonym=1.0)),
        *(Step("frontier", f"nand_plus, prior {prior:g}", plus(prior=prior)) for prior in FRONTIER),
        Step("known", "nand_plus, other types known", plus(competitors="types", prior=KNOWN_PRIOR)),
    ]


def selection(nand: NandConfig) -> list[Step]:
    """The values between which each parameter of `nand_plus` was chosen, on the validation products: one changed at a time."""
    tried: dict[str, tuple[Any, ...]] = {
        "prior": (0.1, 0.2, 0.5, 1.0),
        "sharpness": (0.5, 1.0),
        "synonym": (0.3, 0.5, 1.0),
        "focus": (4.0,),
        "peak_distance": (1 / 32,),
        "regions": (False,),
        "calibrate": (False,),
    }
    changes: list[dict[str, Any]] = [{}, *({key: value} for key, values in tried.items() for value in values)]
    changes += [{"competitors": "types", "prior": prior} for prior in (0.3, 0.5, 1.0, KNOWN_PRIOR, 4.0)]

    def named(change: dict[str, Any]) -> str:
        return ", ".join(f"{key}: {value:.3g}" if isinstance(value, float) else f"{key}: {value}" for key, value in change.items())

    return [
        Step(
            "selection",
            named(change) or "as it is",
            nand.model_copy(update={"method": "nand_plus", "plus": nand.plus.model_copy(update=change)}),
        )
        for change in changes
    ]


def ablation(study: OpenStudy, every: Sequence[Step], progress: bool = True) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Every step on every class.

    Args:
        study: Whose similarities and maps have been written.
        every: `steps` or `selection` of its configuration.
        progress: Show a progress bar.

    Returns:
        `COLUMNS`, a row a step and detector: means over classes (AUROC and share in percent, Δ in points, with 95 % intervals); what Δ
        gains (points, paired intervals) over the step before on the way to `nand_plus`, for all other kinds over `nand_plus`
        (``gain``), and over the paper's rule (``over_nand``); the worst Δ of a group, and how much of the score inside masks of the
        added and of all other groups is removed (percent, means over classes with masks; NaN without any). And Δ of every group: step,
        detector, class, group, auroc_before, auroc_after, delta, auroc_ceiling.
    """
    frames: dict[str, list[pd.DataFrame]] = {step.name: [] for step in every}
    removed: list[tuple[str, str, str, bool, float]] = []
    for class_frames, class_removed in each(_Class(study, every), study.classes(), name="ablation", progress=progress):
        for step_name, frame in class_frames.items():
            frames[step_name].append(frame)
        removed += class_removed
    cells = pd.DataFrame(removed, columns=["step", "detector", "class", "own", "removed"])
    cut = cells.groupby(["step", "detector", "class", "own"])["removed"].mean().groupby(["step", "detector", "own"]).mean()
    tables, groups = list[pd.DataFrame](), list[pd.DataFrame]()
    samples: dict[str, dict[str, np.ndarray]] = {}
    for step in every:
        frame = pd.concat(frames[step.name], ignore_index=True)
        samples[step.name] = delta_samples(frame)
        deltas = delta_table(frame)
        table = detector_summary(deltas, uncertainty(frame)[1])
        worst = deltas.groupby("detector")["delta"].min()
        own, other = (table["detector"].map(lambda d, s=step.name, k=kind: cut.get((s, d, k), np.nan)) for kind in (True, False))
        named = table.assign(kind=step.kind, step=step.name, worst=table["detector"].map(worst), removed_own=own, removed_other=other)
        tables.append(named)
        kept = ["detector", "class", "group", "auroc_before", "auroc_after", "delta", "auroc_ceiling"]
        groups.append(deltas[kept].assign(step=step.name)[["step", *kept]])
    table = _compare(pd.concat(tables, ignore_index=True), every, samples)
    return table[COLUMNS], pd.concat(groups, ignore_index=True)


def _compare(table: pd.DataFrame, every: Sequence[Step], samples: dict[str, dict[str, np.ndarray]]) -> pd.DataFrame:
    """`table` with ``gain`` and ``over_nand`` and their intervals: differences of Δ on the same resampled test sets."""
    reference: dict[str, dict[str, str | None]] = {"gain": {}, "over_nand": {}}
    first = every[0].name
    ours = next((step.name for step in every if step.kind == "plus"), first)
    for previous, step in zip([None, *every], every, strict=False):
        on_the_way = step.kind in ("path", "plus")
        reference["gain"][step.name] = None if previous is None else previous.name if on_the_way else ours
        reference["over_nand"][step.name] = None if previous is None else first
    deltas = table.set_index(["step", "detector"])["delta"]
    for column, against in reference.items():
        rows = []
        for step, detector in zip(table["step"], table["detector"], strict=True):
            other = against[step]
            if other is None:
                rows.append((np.nan, np.nan, np.nan))
            else:
                rows.append(
                    (deltas[step, detector] - deltas[other, detector], *interval(samples[step][detector] - samples[other][detector]))
                )
        table[[column, f"{column}_low", f"{column}_high"]] = rows
    return table


@dataclass(frozen=True)
class _Class:
    """Every step on one class: by step its scores, and what share of the score inside masks each text removes."""

    study: OpenStudy
    every: Sequence[Step]

    def __call__(self, class_name: str) -> tuple[dict[str, pd.DataFrame], list[tuple[str, str, str, bool, float]]]:
        maps, rows = ClassMaps.of(self.study, class_name), self.study.rows(class_name)
        scores: dict[tuple[str, str, str], list[float]] = {}  # by step ("": before), detector and added group
        sums: dict[tuple[str, str, str, str], np.ndarray] = {}  # by those and a group: the score inside its masks, after and before
        for batch in maps.batches():
            inside = self._masked_pixels(maps, rows.iloc[batch.rows])
            for detector in measured(self.study):
                self._batch(batch, detector, inside, scores, sums)
        frames: dict[str, list[pd.DataFrame]] = {}
        for (step, detector, group), after in scores.items():
            if step:
                frames.setdefault(step, []).append(score_frame(class_name, rows, detector, group, scores["", detector, ""], after))
        removed = [
            (step, detector, class_name, text == group, 100 * (1 - float(final / base)))
            for (step, detector, text, group), (final, base) in sums.items()
            if base > 0
        ]
        return {step: pd.concat(parts, ignore_index=True) for step, parts in frames.items()}, removed

    def _masked_pixels(self, maps: ClassMaps, own: pd.DataFrame) -> dict[str, Tensor]:
        """Group → positions of the pixels inside its masks, in the flattened maps of a batch."""
        masks = masks_of(self.study, own, self.study.config.nand.map_size)
        inside = {g: masks & torch.from_numpy((own["group"] == g).to_numpy(copy=True))[:, None, None] for g in maps.groups}
        return {group: where.flatten().nonzero()[:, 0] for group, where in inside.items() if where.any()}

    def _batch(
        self,
        batch: Batch,
        detector: str,
        inside: dict[str, Tensor],
        scores: dict[tuple[str, str, str], list[float]],
        sums: dict[tuple[str, str, str, str], np.ndarray],
    ) -> None:
        base = batch.base(detector).flatten()
        before = {group: float(base[where].double().sum()) for group, where in inside.items()}
        scores.setdefault(("", detector, ""), []).extend(batch.score_before(detector))
        for step in self.every:
            for added in batch.maps.groups:
                final = batch.final(f"+{added}", detector, step.nand)
                scores.setdefault((step.name, detector, added), []).extend(batch.maps.score(final, batch.rows, f"+{added}"))
                for group, where in inside.items():
                    both = np.array([float(final.flatten()[where].double().sum()), before[group]])
                    sums[step.name, detector, added, group] = sums.get((step.name, detector, added, group), 0) + both
