"""Records of signals: ECG5000's beats, and PTB-XL's twelve leads in WFDB format. N records, K leads, Q samples."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from nandlib.data.groups import ALWAYS_ABNORMAL, GOOD
from nandlib.errors import DataError
from nandlib.numbers import as_numbers

ECG5000_TYPES = {1: GOOD, 2: "r_on_t", 3: "premature_ventricular", 4: "supraventricular", 5: "unclassified"}  # as UCR numbers them
PTBXL_TEST_FOLD = 10  # the published split: folds 1 to 8 train, 9 validates, 10 is tested
PTBXL_TRAIN_FOLDS = tuple(range(1, 9))
ROUNDED = 1e-3  # share of a record's range by which float32 may round it
UNITS = (1e-7, 1e12)  # ranges of signals within which nothing depends on their unit


@dataclass(frozen=True)
class Records:
    """Signals with what is known of them.

    Attributes:
        signals: ``(N, K, Q)`` float32.
        groups: ``(N,)``: ``"good"``, the type of the anomaly, or ``""`` for what is abnormal but of no single type.
    """

    signals: np.ndarray
    groups: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "signals", np.ascontiguousarray(self.signals, np.float32))
        object.__setattr__(self, "groups", np.asarray(self.groups))
        if self.groups.dtype.kind != "U":
            raise DataError(f"groups must be text, 'good' for normal records, not {self.groups.dtype}")
        if self.signals.ndim != 3 or self.groups.shape != self.signals.shape[:1]:
            raise DataError(
                f"signals must be (records, leads, samples) with one group each, not {self.signals.shape} and {self.groups.shape}"
            )

    def __len__(self) -> int:
        return len(self.signals)

    def of(self, chosen: np.ndarray) -> Records:
        """Some of them: positions, or a mask."""
        return Records(self.signals[chosen], self.groups[chosen])


@dataclass(frozen=True)
class Split:
    """Normal records to train on, and records to be tested."""

    train: Records
    test: Records


def check_signals(signals: np.ndarray, source: str = "the signals") -> np.ndarray:
    """Signals ``(N, K, Q)`` as float32.

    Args:
        signals: Of records.
        source: What they are, for messages.

    Raises:
        DataError: If there is none, a value is missing, not finite or complex, a record is constant in every lead, float32 would round it
            coarsely, or the unit makes numbers too small or too large to compute with.
    """
    given = as_numbers(signals, source)
    with np.errstate(over="ignore"):
        found = given.astype(np.float32)
    if found.ndim == 2:
        found = found[:, None]
    if found.ndim != 3 or not found.size:
        raise DataError(f"{source}: expected (records, leads, samples), got {np.shape(signals)}")
    gaps = ~np.isfinite(found).all((1, 2))
    if gaps.any():
        large = bool(np.isfinite(given.reshape(found.shape)[gaps.argmax()]).all())
        why = "values beyond those of float32: give it in another unit" if large else "gaps (values that are no numbers): fill them"
        raise DataError(f"{source}: record {int(gaps.argmax())} has {why}, or leave it out")
    exact = given.reshape(found.shape).astype(np.float64)
    ranges = np.ptp(exact, 2).max(1)
    if (ranges == 0).any():
        raise DataError(f"{source}: record {int(ranges.argmin())} is constant: nothing was measured; leave it out")
    coarse = np.abs(found - exact).max((1, 2)) > ROUNDED * ranges
    if coarse.any():
        raise DataError(
            f"{source}: record {int(coarse.argmax())} lies so far from 0 that float32 rounds what changes in it: take its offset off"
        )
    if not UNITS[0] <= ranges.max() <= UNITS[1]:
        raise DataError(f"{source}: values change by {ranges.max():.2g} at most: give them in a unit in which that is nearer to 1")
    return found


def _archive(path: Path) -> Any:
    try:
        found = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError, BadZipFile) as error:
        raise DataError(f"{path} cannot be read ({error}): it is not ECG5000 as data/README.md describes it") from error
    if not isinstance(found, np.lib.npyio.NpzFile):
        raise DataError(f"{path} is one array and no archive: it is not ECG5000 as data/README.md describes it")
    return found


def read_ecg5000(path: Path, *, typed: bool, seed: int = 0, train_share: float = 0.6) -> Split:
    """ECG5000 (one patient's heartbeats, 140 samples each) from ``ecg5000.npz``.

    Its two parts are scaled differently and share beats: one is never trained on where the other is tested.

    Args:
        path: The file: ``train_normal``, ``test``, ``test_abnormal`` (each scaled to 0..1 by column), ``typed``, ``typed_class``.
        typed: The 500 beats with types, of whose normal ones a share is trained on; else the part that knows only normal from abnormal.
        seed: Of the draw of those.
        train_share: How many of the normal beats with types are trained on.

    Raises:
        DataError: If the file is missing or lacks an array.
    """
    path = Path(path)
    if not 0 < train_share < 1:
        raise DataError(f"train_share is a share between 0 and 1, not {train_share!r}")
    if not path.is_file():
        raise DataError(f"{path} is missing: see data/README.md for where ECG5000 comes from")
    with _archive(path) as file:
        names = ("typed", "typed_class") if typed else ("train_normal", "test", "test_abnormal")
        missing = [name for name in names if name not in file]
        if missing:
            raise DataError(f"{path} lacks the array '{missing[0]}': it is not ECG5000 as data/README.md describes it")
        try:
            arrays = [file[name] for name in names]
        except (ValueError, BadZipFile) as error:
            raise DataError(f"{path} is damaged ({error}): see data/README.md for where ECG5000 comes from") from error
    for name, own, dimensions in zip(names, arrays, (2, 1) if typed else (2, 2, 1), strict=True):
        if own.ndim != dimensions:
            raise DataError(f"{path}: the array '{name}' is {own.shape}: it is not ECG5000 as data/README.md describes it")
    signals = [check_signals(own, source=f"{path}: {name}") for name, own in zip(names[:-1], arrays[:-1], strict=True)]
    if len({own.shape[1:] for own in signals}) > 1:
        lengths = " and ".join(str(own.shape[2]) for own in signals)
        raise DataError(f"{path}: beats of {lengths} samples: what is trained on and what is tested must be of one length")
    if not typed:
        unlabelled = ~np.isin(arrays[2], (0, 1))
        if unlabelled.any():
            place = int(unlabelled.argmax())
            raise DataError(f"{path}: test_abnormal of beat {place} is {arrays[2][place]}: 0 or 1 says what it is; leave it out")
        labels = np.where(arrays[2] == 1, "abnormal", GOOD)
        return Split(Records(signals[0], np.full(len(signals[0]), GOOD)), Records(signals[1], labels))
    unknown = ~np.isin(arrays[1], list(ECG5000_TYPES))
    if unknown.any():
        place = int(unknown.argmax())
        raise DataError(f"{path}: typed_class of beat {place} is {arrays[1][place].item()!r}, which is no type: 1 to 5 are; leave it out")
    groups = np.array([ECG5000_TYPES[int(number)] for number in arrays[1]])
    normal = np.random.default_rng(seed).permutation(np.flatnonzero(groups == GOOD))
    trained = np.sort(normal[: round(train_share * len(normal))])
    every = Records(signals[0], groups)
    return Split(every.of(trained), every.of(np.setdiff1d(np.arange(len(every)), trained)))


def read_ptbxl(folder: Path, rate: int = 100, progress: bool = False) -> Split:
    """PTB-XL in its own layout (``ptbxl_database.csv``, ``scp_statements.csv``, records in WFDB format), by its published folds.

    A record is good if its only diagnostic superclass is NORM; it has a type if it has exactly one other; all else, more than one or none,
    is abnormal without a type and left out where none is diagnosed.

    Args:
        folder: Of the data set.
        rate: 100 or 500 samples a second, as it is distributed.
        progress: Show a bar.

    Raises:
        DataError: If a table or record is missing, or a record cannot be used (`check_signals`).
    """
    folder = Path(folder)
    table = _table(folder / "ptbxl_database.csv", ("scp_codes", "strat_fold", "filename_lr", "filename_hr"))
    statements = _table(folder / "scp_statements.csv", ("diagnostic_class",))
    classes = statements.dropna(subset=["diagnostic_class"]).iloc[:, 0].to_numpy(), statements["diagnostic_class"].dropna().to_numpy()
    superclass = dict(zip(*classes, strict=True))
    found = [{superclass[code] for code in _codes(codes, folder) if code in superclass} for codes in table["scp_codes"]]
    table = table.assign(group=[_ptbxl_group(own) for own in found]).loc[np.array([bool(own) for own in found], bool)]
    columns = {100: "filename_lr", 500: "filename_hr"}
    if rate not in columns:
        raise DataError(f"PTB-XL comes with 100 or 500 samples a second, not {rate}")
    column = columns[rate]
    train = table[table["strat_fold"].isin(PTBXL_TRAIN_FOLDS) & (table["group"] == GOOD)]
    test = table[table["strat_fold"] == PTBXL_TEST_FOLD]
    if train.empty or test.empty:
        raise DataError(f"{folder}: no record of the wanted folds")
    every = pd.concat([train, test])  # read together: all must have the same leads, units and length
    signals, groups, trained = _wfdb(folder, every[column], rate, progress), every["group"].to_numpy(str), len(train)
    return Split(Records(signals[:trained], groups[:trained]), Records(signals[trained:], groups[trained:]))


def _ptbxl_group(superclasses: set[str]) -> str:
    if len(superclasses) != 1:
        return ALWAYS_ABNORMAL
    (only,) = superclasses
    return GOOD if only == "NORM" else only.lower()


def _codes(written: object, folder: Path) -> list[str]:
    """Of a record: keys of the mapping that its row holds; none where the row is empty."""
    try:
        return list(ast.literal_eval(str(written))) if isinstance(written, str) and written.strip() else []
    except (ValueError, SyntaxError, TypeError) as error:
        raise DataError(f"{folder / 'ptbxl_database.csv'}: scp_codes {written!r} are not a mapping such as {{'NORM': 100.0}}") from error


def _table(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    if not path.is_file():
        raise DataError(f"{path} is missing: PTB-XL's folder holds ptbxl_database.csv, scp_statements.csv and the records")
    try:
        table = pd.read_csv(path)
    except (ValueError, OSError) as error:
        raise DataError(f"{path} cannot be read as a table: {error}") from error
    if missing := [name for name in columns if name not in table]:
        raise DataError(f"{path} has no column '{missing[0]}': PTB-XL's own has {', '.join(columns)}")
    return table


def _wfdb(folder: Path, names: Sequence[str] | pd.Series, rate: int, progress: bool) -> np.ndarray:
    """Records ``(N, K, Q)`` of one length and of so many samples a second."""
    import wfdb

    found, leads = list[np.ndarray](), list[tuple[str, str]]()
    for name in tqdm(list(names), desc="records", disable=not progress):
        try:
            signal, about = wfdb.rdsamp(str(folder / name))
            signal = signal.T[None]
        except (OSError, ValueError, TypeError, IndexError, KeyError, AttributeError) as error:  # of a library that trusts what it reads
            raise DataError(f"{folder / str(name)}: not a record in WFDB format ({error!r})") from error
        found.extend(check_signals(signal, source=str(folder / name)))
        if about["fs"] != rate:
            raise DataError(f"{folder / name} has {about['fs']:g} samples a second, not {rate}: all must have as many")
        own = list(zip(about["sig_name"], about["units"], strict=True))
        leads = leads or own
        if own != leads:
            raise DataError(
                f"{folder / name} has the leads {_said(own)}, the first record {_said(leads)}: all must have the same, in one order"
            )
    lengths = {own.shape for own in found}
    if len(lengths) > 1:
        raise DataError(
            f"{folder}: records of {len(lengths)} shapes, such as {sorted(lengths)[:2]}: all must be of one length and have the same leads"
        )
    return np.ascontiguousarray(np.stack(found))  # of records that are read the other way round


def _said(leads: Sequence[tuple[str, str]]) -> str:
    return ", ".join(f"{name} ({unit})" for name, unit in leads)
