"""From the paper's rule to `nand_plus`, for a whole study."""

from __future__ import annotations

from nandlib.ablation import ablation
from nandlib.study import OpenStudy


def write_ablation(study: OpenStudy, progress: bool = True) -> None:
    """Every step on every class: ``ablation.csv`` and ``ablation_groups.csv`` in ``figures/<study>/plus/``."""
    table, groups = ablation(study, progress)
    study.write_csv(table, "plus/ablation.csv")
    study.write_csv(groups, "plus/ablation_groups.csv")
