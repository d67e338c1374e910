"""Image scores of every detector before and after adding each normality."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
from tqdm.auto import tqdm

from nandlib.study.class_maps import ClassMaps, score_class
from nandlib.study.frames import SCORES
from nandlib.study.open_study import OpenStudy


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
