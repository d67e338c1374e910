"""Whether a study that was run here gives the results that are committed: every number, with the largest difference."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd

from nandlib.errors import DataError
from nandlib.evaluation.protocol import delta_table
from nandlib.study.frames import read_scores
from nandlib.study.open_study import OpenStudy

DELTAS, SCORES = "deltas.csv", "scores.parquet"
# Result file → the columns that name a row, the columns that are compared, and the tolerance in points. Training on another processor
# moves single groups, whose AUROC is over some dozens of images, more than means.
CHECKS: dict[str, tuple[list[str], list[str], float]] = {
    "table1.csv": (["class", "group", "type"], ["n_images"], 0.0),
    "detectors.csv": (["detector"], ["auroc_before", "auroc_after", "delta"], 1.0),
    "origins.csv": (["detector", "origin"], ["auroc_before", "auroc_after", "delta"], 1.0),
    "deltas.csv": (["detector", "class", "group"], ["auroc_before", "auroc_after"], 5.0),
    "identity.csv": (["detector", "class"], ["residual"], 1e-9),
    "measure/controls.csv": (["detector", "control"], ["delta"], 1.0),
    "plus/ablation.csv": (["detector", "step"], ["delta", "removed_other"], 1.0),
}


def verify(study: OpenStudy, expected: Path | None = None) -> pd.DataFrame:
    """Compare the tables of a study with expected ones.

    Args:
        study: That has been run.
        expected: Folder with the tables that are expected; None: those that git has of this study's.

    Returns:
        file, values (how many were compared), largest_difference (points), at (its row and column), tolerance, agrees.

    Raises:
        DataError: If the study has not been run here to its tables (which may have come with the project), these are not of its scores,
            nothing is expected, or the tables have other rows.
    """
    if not has_been_run(study):
        raise DataError(
            f"'{study.name}' has not been run here, or not to its end ({study.data / SCORES}, and {study.figures / DELTAS}, which follows "
            f"from it): run 'nand study run {study.name}' first"
        )
    return pd.DataFrame([_check(study, name, *check, expected) for name, check in CHECKS.items()])


def beside(study: OpenStudy, expected: Path | None = None) -> pd.DataFrame:
    """Means over groups of every detector, as expected and as computed here: what the same training gives on two machines.

    Args:
        study: That has been run.
        expected: As for `verify`.

    Returns:
        detector; ``auroc_before`` and ``delta`` as expected (``_expected``), here (``_here``) and their difference (``_difference``), in
        percent and points; ``delta_low_expected`` and ``delta_high_expected``, the interval that the expected Δ has over images.

    Raises:
        DataError: As `verify`.
    """
    if not has_been_run(study):
        raise DataError(f"'{study.name}' has not been run here: run 'nand study run {study.name}' first")
    name, keys = "detectors.csv", ["detector"]
    here, there = _read((study.figures / name).read_text(), keys), _read(_expected(study, name, expected), keys)
    table = there[["delta_low", "delta_high"]].add_suffix("_expected")
    for column in ("delta", "auroc_before"):
        table.insert(0, f"{column}_difference", here[column] - there[column])
        table.insert(0, f"{column}_here", here[column])
        table.insert(0, f"{column}_expected", there[column])
    return table.reset_index()


def has_been_run(study: OpenStudy) -> bool:
    """Whether the tables are of scores that were computed here, and did not come with the project alone."""
    scores, deltas = study.data / SCORES, study.figures / DELTAS
    if not (scores.is_file() and deltas.is_file()):
        return False
    keys, columns, _ = CHECKS[DELTAS]
    ours = delta_table(read_scores(scores), precision=False).astype(dict.fromkeys(keys, str)).set_index(keys)[columns]
    theirs = _read(deltas.read_text(encoding="utf-8"), keys)[columns]
    return ours.index.equals(theirs.index) and bool(np.allclose(ours, theirs, rtol=0, atol=1e-9, equal_nan=True))


def _check(study: OpenStudy, name: str, keys: list[str], columns: list[str], tolerance: float, folder: Path | None) -> dict[str, object]:
    path = study.figures / name
    if not path.is_file():
        raise DataError(f"{path} is missing: run 'nand study run {study.name}' first")
    ours, theirs = (_read(text, keys)[columns].astype(float) for text in (path.read_text(), _expected(study, name, folder)))
    if set(ours.index) != set(theirs.index):
        other = sorted(map(str, set(ours.index) ^ set(theirs.index)))
        raise DataError(f"{path}: {len(other)} rows are in one of the tables alone, such as {other[0]}: is it the same preset?")
    difference = (ours - theirs.reindex(ours.index)).abs()
    difference = difference.where(ours.isna() == theirs.reindex(ours.index).isna(), np.inf).where(ours.notna() | theirs.notna(), 0.0)
    worst = np.unravel_index(difference.to_numpy().argmax(), difference.shape)
    largest = float(difference.to_numpy()[worst])
    row = ours.index[int(worst[0])]
    return {
        "file": name,
        "values": difference.size,
        "largest_difference": largest,
        "at": f"{', '.join(row) if isinstance(row, tuple) else row}: {columns[worst[1]]}" if largest else "",
        "tolerance": tolerance,
        "agrees": largest <= tolerance,
    }


def _read(text: str, keys: list[str]) -> pd.DataFrame:
    empty = {column: "" for column in pd.read_csv(io.StringIO(text), nrows=0).columns if column not in keys}  # a class may be called NA
    return pd.read_csv(
        io.StringIO(text), float_precision="round_trip", keep_default_na=False, na_values=empty, dtype=dict.fromkeys(keys, str)
    ).set_index(keys)


def _expected(study: OpenStudy, name: str, folder: Path | None) -> str:
    if folder is not None:
        if not (folder / name).is_file():
            raise DataError(f"{folder / name} is missing: --against must be a folder like figures/{study.name}")
        return (folder / name).read_text()
    shown = f"HEAD:./figures/{study.name}/{name}"
    found = subprocess.run(["git", "show", shown], cwd=study.root, capture_output=True, text=True, check=False)
    if found.returncode:
        raise DataError(f"git has no figures/{study.name}/{name} here: give the expected tables with --against FOLDER")
    return found.stdout
