"""From the paper's rule to `nand_plus`, for a whole study; and how its parameters were chosen."""

from __future__ import annotations

from nandlib.evaluation.ablation import ablation
from nandlib.evaluation.origin import group_origins
from nandlib.evaluation.result_tables import ablation_tables
from nandlib.evaluation.selection import select
from nandlib.evaluation.steps import steps
from nandlib.study.open_study import OpenStudy


def write_ablation(study: OpenStudy, progress: bool = True) -> None:
    """Every step on every class: scores, what is removed, and the tables made of them, in ``figures/<study>/plus/``."""
    every = steps(study.config.nand)
    found = ablation(study, every, progress)
    study.write_scores(found.scores, "plus/scores.parquet")
    study.write_csv(found.removed, "plus/removed.csv")
    for name, table in ablation_tables(found.scores, found.removed, every, group_origins(study)).items():
        study.write_csv(table, f"plus/{name}.csv")


def write_selection(study: OpenStudy, progress: bool = True) -> None:
    """Every value that was considered for `nand_plus`: ``selection.csv`` in ``figures/<study>/plus/``."""
    study.write_csv(select(study, progress), "plus/selection.csv")
