"""The same study with other seeds: how much a result owes to the draw of images, model and coreset."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from nandlib.errors import DataError
from nandlib.study.open_study import OpenStudy

SEEDS = {"mini": ("mini_seed1", "mini_seed2"), "mini_disjoint": ("mini_disjoint1", "mini_disjoint2")}  # study → the same with other seeds
MEASURES = ("auroc_before", "auroc_after", "delta", "gap_closed", "over_nand", "n_improved", "worst", "removed_own", "removed_other")


def seed_table(studies: Sequence[OpenStudy]) -> pd.DataFrame:
    """Mean and standard deviation over studies of every step of the ablation.

    Args:
        studies: With ``plus/ablation.csv`` written; two or more, of the same groups.

    Raises:
        DataError: If a study is given twice, or they have not the same detectors, steps and numbers of groups.

    Returns:
        kind, step, detector, n_seeds, n_groups, then ``<measure>`` and ``<measure>_sd`` (n - 1 in the denominator) of `MEASURES`.
    """
    _refuse_others(studies)
    every = pd.concat([study.ablation for study in studies], ignore_index=True)
    groups = every.groupby(["kind", "step", "detector"], sort=False)
    parts = {"n_seeds": groups.size(), "n_groups": groups["n_groups"].first()}
    for measure in MEASURES:
        parts |= {measure: groups[measure].mean(), f"{measure}_sd": groups[measure].std(ddof=1)}
    return pd.DataFrame(parts).reset_index()


def _refuse_others(studies: Sequence[OpenStudy]) -> None:
    names = [study.name for study in studies]
    if len(set(names)) < len(names):
        raise DataError(f"{', '.join(names)}: every study once, since each counts as one draw")
    first, *others = ({*study.ablation[["kind", "step", "detector", "n_groups"]].itertuples(index=False, name=None)} for study in studies)
    for name, rows in zip(names[1:], others, strict=True):
        if rows != first:
            raise DataError(f"{name} is not {names[0]} with another seed: it has other detectors, steps or numbers of groups")


def seed_origins(studies: Sequence[OpenStudy]) -> pd.DataFrame:
    """Mean and standard deviation over studies of every step's Δ over the groups of one origin: step, detector, origin, n_seeds, n_groups,
    delta, delta_sd, n_improved, n_improved_sd."""
    every = pd.concat([study.plus_origins for study in studies], ignore_index=True)
    groups = every.groupby(["step", "detector", "origin"], sort=False)
    parts = {"n_seeds": groups.size(), "n_groups": groups["n_groups"].first()}
    for measure in ("delta", "n_improved"):
        parts |= {measure: groups[measure].mean(), f"{measure}_sd": groups[measure].std(ddof=1)}
    return pd.DataFrame(parts).reset_index()
