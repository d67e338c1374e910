"""From the paper's rule to `nand_plus`, one change at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from nandlib.evaluation.scope import masks_of, measured
from nandlib.evaluation.steps import Step, half_wrong
from nandlib.study.class_maps import Batch, ClassMaps, score_frame
from nandlib.study.open_study import OpenStudy
from nandlib.study.parallel import each

REMOVED = ["step", "detector", "class", "own", "removed"]


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
