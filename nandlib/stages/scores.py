"""Image scores of every detector before and after adding each normality."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from nandlib.class_maps import ClassMaps
from nandlib.operators import suppress
from nandlib.protocol import SCORES
from nandlib.study import OpenStudy

SCORE_BATCH = 16  # images per batch of full-size maps


def write_scores(study: OpenStudy, progress: bool = True) -> None:
    """Image scores of every detector before and after adding each group: ``scores.parquet``."""
    parts = []
    for class_name in tqdm(study.classes(), desc="scores", disable=not progress):
        maps = ClassMaps.of(study, class_name)
        parts.append(score_class(maps, study.rows(class_name), study.config.detectors))
    frame = SCORES.validate(pd.concat(parts, ignore_index=True))
    frame = frame.sort_values(["detector", "class"], kind="stable", key=_order(study)).reset_index(drop=True)
    frame.to_parquet(study.data / "scores.parquet", index=False)


def _order(study: OpenStudy) -> Callable[[pd.Series], pd.Series]:
    rank = {name: k for k, name in enumerate((*study.config.detectors, *study.classes()))}
    return lambda column: column.map(rank)


def score_class(maps: ClassMaps, test: pd.DataFrame, detectors: Sequence[str]) -> pd.DataFrame:
    """Scores of one class, schema `nandlib.protocol.SCORES`; `test` are the manifest rows of the maps' images."""
    before: dict[str, list[Tensor]] = {}
    after: dict[tuple[str, str], list[Tensor]] = {}
    for start in range(0, len(test), SCORE_BATCH):
        rows = slice(start, start + SCORE_BATCH)
        suppression = {group: maps.suppression(group, rows) for group in maps.groups}
        for detector in detectors:
            base = maps.base(detector, rows)
            before.setdefault(detector, []).append(maps.score(base, rows))
            for group, sup in suppression.items():
                after.setdefault((detector, group), []).append(maps.score(suppress(base, sup), rows, f"+{group}"))
    frames = [
        pd.DataFrame(
            {
                "detector": detector,
                "class": maps.class_name,
                "image": test["image"],
                "group": test["group"],
                "added": group,
                "before": torch.cat(before[detector]).double().numpy(),
                "after": torch.cat(scores).double().numpy(),
            }
        )
        for (detector, group), scores in after.items()
    ]
    return pd.concat(frames, ignore_index=True)
