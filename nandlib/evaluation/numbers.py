"""Every table of a study made again from its committed csv files alone: no images, no weights, no torch; seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from nandlib.errors import DataError
from nandlib.evaluation.failures import failure_table
from nandlib.evaluation.harm import harm_summary, harm_table
from nandlib.evaluation.overlap import overlap_table
from nandlib.evaluation.paper import comparison
from nandlib.evaluation.protocol import identity_residuals
from nandlib.evaluation.result_tables import ablation_tables, control_table, kshot_summary, kshot_worth, shown_tables
from nandlib.evaluation.seeds import SEEDS, seed_origins, seed_table
from nandlib.evaluation.steps import steps
from nandlib.evaluation.uncertainty import protocol_tables, with_origins
from nandlib.study.frames import read_scores, read_table
from nandlib.study.open_study import OpenStudy, open_study

TOLERANCE = 1e-9  # points: scores are stored in full, so only the order of additions may differ
Tables = dict[str, pd.DataFrame]


def derived(study: OpenStudy) -> Tables:
    """File below ``figures/<study>/`` → what it must hold, from the files that no other csv implies.

    Those are ``scores.parquet`` of the protocol, of the controls and of the ablation, the origins of ``deltas.csv``, and what was
    measured inside masks (``plus/removed.csv``, ``measure/selectivity.csv``, ``measure/retrieval.csv``). A study without some of them
    has fewer tables.
    """
    tables: Tables = {}
    for base in derived_from(study):
        tables |= _MAKERS[base](study)
    return tables


def derived_from(study: OpenStudy) -> list[str]:
    """The files of a study from which others follow."""
    return [base for base in _MAKERS if (study.figures / base).is_file()]


def check_numbers(study: OpenStudy) -> pd.DataFrame:
    """Compare `derived` with what is committed.

    Returns:
        file, values (how many numbers), largest_difference, agrees.

    Raises:
        DataError: If the study has no scores, or a file has other rows or columns.
    """
    tables = derived(study)
    if not tables:
        raise DataError(f"{study.figures}/scores.parquet is missing: run 'nand study run {study.name}' first")
    return _compared(study.figures, tables, f"nand study run {study.name}")


def check_kind(figures: Path, again: str) -> pd.DataFrame:
    """The same for a study of another kind than images, from the scores of what was shown and from ``kshot.csv``.

    Args:
        figures: Its folder of results, with ``scores.parquet``.
        again: The command that makes them anew.

    Raises:
        DataError: If a file has other rows or columns.
    """
    shown = read_table(figures / "kshot.csv")
    parts = [kshot_summary(own.drop(columns="detector")).assign(detector=name) for name, own in shown.groupby("detector", sort=False)]
    summary = pd.concat(parts, ignore_index=True)
    origins = read_table(figures / "deltas.csv")["origin"].unique()
    if len(origins) != 1:
        raise DataError(f"{figures / 'deltas.csv'}: {len(origins)} origins, where all groups have one: run '{again}' again")
    tables = {f"{name}.csv": table for name, table in shown_tables(read_scores(figures / "scores.parquet"), origins[0]).items()}
    return _compared(figures, tables | {"summary.csv": summary[["detector", *summary.columns.drop("detector")]]}, again)


def _compared(figures: Path, tables: Tables, again: str) -> pd.DataFrame:
    rows = []
    for name, table in tables.items():
        path = figures / name
        if not path.is_file():
            raise DataError(f"{path} is missing: run '{again}' again")
        found = read_table(path).drop(columns="weights", errors="ignore")
        table = table.reset_index(drop=True)
        if list(found.columns) != list(table.columns) or len(found) != len(table):
            raise DataError(f"{path}: other rows or columns than its scores give: run '{again}' again")
        numbers = table.select_dtypes("number").columns
        words = table.columns.difference(numbers)
        same_words = (found[words].astype(str) == table[words].astype(str)).all(axis=None)
        ours, theirs = table[numbers].to_numpy(float), found[numbers].apply(pd.to_numeric, errors="coerce").to_numpy(float)
        largest = float(np.nanmax(np.where(np.isnan(ours) & np.isnan(theirs), 0.0, np.abs(ours - theirs)), initial=0.0))
        unlike = bool((np.isnan(ours) != np.isnan(theirs)).any()) or not same_words
        rows.append((name, ours.size, np.inf if unlike else largest, not unlike and largest <= TOLERANCE))
    return pd.DataFrame(rows, columns=["file", "values", "largest_difference", "agrees"])


def _protocol(study: OpenStudy) -> Tables:
    scores = read_scores(study.figures / "scores.parquet")
    origins = study.deltas.drop_duplicates(["class", "group"]).set_index(["class", "group"])["origin"]
    tables = protocol_tables(scores, origins)
    found = {f"{name}.csv": table for name, table in tables.items()}
    found["identity.csv"] = identity_residuals(tables["deltas"], tables["base_auroc"], scores)
    every = tables["deltas"]
    shown = "aprilgan" if "aprilgan" in study.config.detectors else study.config.detectors[0]
    if (study.figures / "table2.csv").is_file():
        found["table2.csv"] = every[every["detector"] == shown].drop(columns="detector")
    if (study.figures / "table3.csv").is_file():
        found["table3.csv"] = with_origins(tables["detectors"], tables["origins"])
    if (study.figures / "measure/harm.csv").is_file():
        found["measure/harm.csv"] = harm_summary(harm_table(scores))
    if (study.figures / "paper_vs_ours.csv").is_file():
        found["paper_vs_ours.csv"] = comparison(every)
    return found


def _measures(study: OpenStudy) -> Tables:
    found = {"measure/controls.csv": control_table(read_scores(study.figures / "measure/scores.parquet"))}
    if (study.figures / "measure/failures.csv").is_file():
        found["measure/failures.csv"] = failure_table(study.deltas, study.measure("selectivity"), study.measure("retrieval"))
    return found


def _ablation(study: OpenStudy) -> Tables:
    groups = read_table(study.figures / "plus/ablation_groups.csv")
    origins = groups.drop_duplicates(["class", "group"]).set_index(["class", "group"])["origin"]
    scores, removed = read_scores(study.figures / "plus/scores.parquet"), read_table(study.figures / "plus/removed.csv")
    removed["own"] = removed["own"].astype(bool)
    tables = ablation_tables(scores, removed, steps(study.config.nand), origins)
    return {f"plus/{name}.csv": table for name, table in tables.items()}


def _seeds(study: OpenStudy) -> Tables:
    if study.name not in SEEDS:  # a study of the user's own, with others that no file names
        return {}
    every = [study, *(open_study(name, study.root) for name in SEEDS[study.name])]
    return {"plus/seeds.csv": seed_table(every), "plus/seed_origins.csv": seed_origins(every)}


def _kshot(study: OpenStudy) -> Tables:
    table = read_table(study.figures / "kshot/kshot.csv")
    return {"kshot/summary.csv": kshot_summary(table), "kshot/worth.csv": kshot_worth(table)}


_MAKERS: dict[str, Callable[[OpenStudy], Tables]] = {
    "scores.parquet": _protocol,
    "measure/scores.parquet": _measures,
    "plus/scores.parquet": _ablation,
    "plus/seed_origins.csv": _seeds,
    "kshot/kshot.csv": _kshot,
    "model/overlap.csv": lambda study: {"model/overlap.csv": overlap_table()},
}
