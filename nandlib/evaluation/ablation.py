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
from nandlib.evaluation.uncertainty import delta_samples, detector_summary, origin_table, resample, uncertainty
from nandlib.method.config import NandConfig
from nandlib.method.suppression import Texts
from nandlib.study.class_maps import Batch, ClassMaps, score_frame
from nandlib.study.open_study import OpenStudy
from nandlib.study.parallel import each

FRONTIER = (0.03, 0.1, 1.0, 3.0)  # more values of plus.prior: what more or less suppression costs
COLUMNS = [
    "kind", "step", "detector", "auroc_before", "auroc_after", "delta", "delta_low", "delta_high", "auroc_others", "gap_closed",
    "gap_closed_low", "gap_closed_high", "gain", "gain_low", "gain_high", "over_nand", "over_nand_low", "over_nand_high", "n_improved",
    "n_better", "n_worse", "n_groups", "worst", "removed_own", "removed_other", "removed_other_nand",
]  # fmt: skip
REMOVED = ["step", "detector", "class", "own", "removed"]


@dataclass(frozen=True)
class Step:
    """A named configuration.

    Attributes:
        kind: ``nand``, ``path`` (on the way), ``plus``, ``without`` (`nand_plus` less one part), ``frontier``,
            ``known`` and ``open`` (which need more than the text).
        name: As it is printed.
        nand: The configuration.
        open_world: Whether half of the names of the other types are wrong (`half_wrong`).
    """

    kind: str
    name: str
    nand: NandConfig
    open_world: bool = False


def half_wrong(texts: Texts, own: int) -> list[int]:
    """The class's types as someone names them who knows half of them: of the others every second one, from the first on, is exchanged.

    In its place stands a generic defect that the class does not have: of the bank, the texts whose largest cosine with any text of a
    type is smallest.

    Args:
        texts: Which text is which.
        own: Position of the added text, which stays.
    """
    others = [k for k in texts.types if k != own]
    features = texts.features[list(texts.generic)] @ texts.features[list(texts.types)].T
    foreign = [list(texts.generic)[k] for k in features.amax(1).argsort(stable=True).tolist()]
    return [own, *others[1::2], *foreign[: len(others[0::2])]]


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
        Step("known", "nand_plus, all other types named (closed world)", plus(competitors="types")),
        Step("open", "nand_plus, half of those names wrong (open world)", plus(competitors="types"), True),
    ]


@dataclass(frozen=True)
class Ablation:
    """Every step on every class.

    Attributes:
        scores: Schema `nandlib.study.frames.SCORES` and a column ``step``.
        removed: `REMOVED`: percent of the score inside masks that the texts of a class remove, means over its groups, from those of the
            added group (``own``) and from all others. Empty without masks.
    """

    scores: pd.DataFrame
    removed: pd.DataFrame


def ablation(study: OpenStudy, every: Sequence[Step], progress: bool = True) -> Ablation:
    """Image scores of every step on every class, and what is removed inside masks.

    Args:
        study: Whose similarities and maps have been written.
        every: Such as `steps` of its configuration.
        progress: Show a progress bar.
    """
    parts = list(each(_Class(study, every), study.classes(), name="ablation", progress=progress))
    cells = pd.DataFrame([row for _, removed in parts for row in removed], columns=REMOVED)
    removed = cells.groupby(REMOVED[:-1], sort=False)["removed"].mean().reset_index()
    scores = pd.concat([frames[step.name].assign(step=step.name) for step in every for frames, _ in parts], ignore_index=True)
    return Ablation(scores, removed)


def ablation_tables(found: Ablation, every: Sequence[Step], origins: pd.Series) -> dict[str, pd.DataFrame]:
    """All tables of the ablation, from scores alone.

    Args:
        found: From `ablation`.
        every: Its steps.
        origins: By class and group (`nandlib.evaluation.origin.group_origins`).

    Returns:
        ``ablation``: `COLUMNS`, a row a step and detector: means over classes (AUROC and the share of the gap that is closed in percent, Δ
        in points, with 95 % intervals); what Δ gains (points, paired intervals) over the step before on the way to `nand_plus`, for all
        other kinds over `nand_plus` (``gain``), and over the paper's rule (``over_nand``); the worst Δ of a group; how much of the score
        inside masks of the added and of all other groups is removed (percent, means over classes with masks; NaN without any), and how
        much the paper's rule removes of the others if A_sup is scaled so that it removes as much of the added group.
        ``ablation_groups``: Δ of every group: step, detector, class, group, auroc_before, auroc_after, delta, auroc_others, origin.
        ``origins``: `nandlib.evaluation.uncertainty.origin_table` of every step.
    """
    cut = found.removed.groupby(["step", "detector", "own"])["removed"].mean()
    tables, groups, by_origin = list[pd.DataFrame](), list[pd.DataFrame](), list[pd.DataFrame]()
    samples: dict[str, dict[str, np.ndarray]] = {}
    for step in every:
        frame = found.scores[found.scores["step"] == step.name].drop(columns="step")
        draws, deltas = resample(frame), delta_table(frame)
        samples[step.name] = delta_samples(draws)
        tests, detectors = uncertainty(draws)
        deltas = deltas.merge(tests[["detector", "class", "group", "p_holm"]], on=["detector", "class", "group"], validate="one_to_one")
        deltas["origin"] = deltas[["class", "group"]].apply(tuple, axis=1).map(origins)
        table = detector_summary(deltas, detectors)
        worst = deltas.groupby("detector")["delta"].min()
        own, other = (table["detector"].map(lambda d, s=step.name, k=kind: cut.get((s, d, k), np.nan)) for kind in (True, False))
        tables.append(
            table.assign(kind=step.kind, step=step.name, worst=table["detector"].map(worst), removed_own=own, removed_other=other)
        )
        by_origin.append(origin_table(draws, deltas).assign(step=step.name))
        kept = ["detector", "class", "group", "auroc_before", "auroc_after", "delta", "auroc_others", "origin"]
        groups.append(deltas[kept].assign(step=step.name)[["step", *kept]])
    table = _compare(pd.concat(tables, ignore_index=True), every, samples)
    paper = table[table["step"] == every[0].name].set_index("detector")
    slope = table["detector"].map(paper["removed_other"] / paper["removed_own"])
    table["removed_other_nand"] = table["removed_own"] * slope
    origin_rows = pd.concat(by_origin, ignore_index=True)
    return {
        "ablation": table[COLUMNS],
        "ablation_groups": pd.concat(groups, ignore_index=True),
        "origins": origin_rows[["step", *origin_rows.columns.drop("step")]],
    }


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
                text = f"+{added}"
                types = half_wrong(batch.texts, batch.maps.texts.index(text)) if step.open_world else None
                final = batch.final(text, detector, step.nand, types)
                scores.setdefault((step.name, detector, added), []).extend(batch.maps.score(final, batch.rows, text))
                for group, where in inside.items():
                    both = np.array([float(final.flatten()[where].double().sum()), before[group]])
                    sums[step.name, detector, added, group] = sums.get((step.name, detector, added, group), 0) + both
