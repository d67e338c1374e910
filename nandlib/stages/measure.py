"""Controls, selectivity, type retrieval, pairs, decisions and backgrounds of a whole study."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from nandlib.evaluation.background import background_table
from nandlib.evaluation.controls import control_scores
from nandlib.evaluation.decisions import decision_table
from nandlib.evaluation.pairs import pair_table
from nandlib.evaluation.result_tables import control_table
from nandlib.evaluation.selectivity import pixel_measures
from nandlib.study.open_study import OpenStudy
from nandlib.study.parallel import each

TABLES = ("selectivity", "retrieval", "pixels", "pairs", "decisions", "background")


@dataclass(frozen=True)
class _Class:
    study: OpenStudy

    def __call__(self, class_name: str) -> tuple[pd.DataFrame, ...]:
        """The scores of the controls, then `TABLES`, of one class."""
        controls, pixels = control_scores(self.study, class_name), pixel_measures(self.study, class_name)
        tables = (measure(self.study, class_name) for measure in (pair_table, decision_table, background_table))
        return controls, *pixels, *tables


def write_measures(study: OpenStudy, progress: bool = True) -> None:
    """All measures of a study, to ``figures/<study>/measure/``."""
    classes = each(_Class(study), study.classes(), name="measure", progress=progress)
    controls, *tables = (pd.concat(parts, ignore_index=True) for parts in zip(*classes, strict=True))
    study.write_scores(controls, "measure/scores.parquet")
    study.write_csv(control_table(controls), "measure/controls.csv")
    for name, table in zip(TABLES, tables, strict=True):
        study.write_csv(table, f"measure/{name}.csv")
