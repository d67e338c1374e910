"""From the paper's rule to `nand_plus`, for a whole study."""

from __future__ import annotations

from nandlib.evaluation.ablation import ablation, selection, steps
from nandlib.study.open_study import OpenStudy


def write_ablation(study: OpenStudy, progress: bool = True) -> None:
    """Every step on every class: ``ablation.csv`` and ``ablation_groups.csv`` in ``figures/<study>/plus/``."""
    table, groups = ablation(study, steps(study.config.nand), progress)
    study.write_csv(table, "plus/ablation.csv")
    study.write_csv(groups, "plus/ablation_groups.csv")


def write_selection(study: OpenStudy, progress: bool = True) -> None:
    """Every value that was considered for `nand_plus`: ``selection.csv`` in ``figures/<study>/plus/``."""
    study.write_csv(ablation(study, selection(study.config.nand), progress)[0], "plus/selection.csv")
