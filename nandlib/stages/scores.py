"""Image scores of every detector before and after adding each normality."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pandas as pd

from nandlib.data.held import written
from nandlib.study.class_maps import ClassMaps, score_class
from nandlib.study.frames import SCORES
from nandlib.study.open_study import OpenStudy
from nandlib.study.parallel import each


@dataclass(frozen=True)
class _Class:
    study: OpenStudy

    def __call__(self, class_name: str) -> pd.DataFrame:
        return score_class(ClassMaps.of(self.study, class_name), self.study.rows(class_name), self.study.config.detectors)


def write_scores(study: OpenStudy, progress: bool = True) -> None:
    """Image scores of every detector before and after adding each group: ``scores.parquet``."""
    parts = each(_Class(study), study.classes(), name="scores", progress=progress)
    frame = SCORES.validate(pd.concat(parts, ignore_index=True))
    frame = frame.sort_values(["detector", "class"], kind="stable", key=_order(study)).reset_index(drop=True)
    written(study.data / "scores.parquet", partial(frame.to_parquet, index=False))


def _order(study: OpenStudy) -> Callable[[pd.Series], pd.Series]:
    rank = {name: k for k, name in enumerate((*study.config.detectors, *study.classes()))}
    return lambda column: column.map(rank)
