"""A study of another kind than images, on disk: its preset ``studies/kinds/<name>.yaml``, its folders, its tables."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from nandlib.errors import DataError, PresetError, nearest
from nandlib.signals.config import SignalStudy, load_signal_study
from nandlib.study.frames import read_table
from nandlib.study.place import Place

KINDS = Path("studies/kinds")


class OpenSignals(Place[SignalStudy]):
    """A study of signals; every path of it is named here, once."""

    def write_csv(self, table: pd.DataFrame, name: str) -> None:
        """Write a table of results."""
        self.figures.mkdir(parents=True, exist_ok=True)
        table.to_csv(self.figures / name, index=False)

    def table(self, name: str) -> pd.DataFrame:
        """A table that the stage of this kind has written.

        Raises:
            DataError: If it is missing.
        """
        path = self.figures / f"{name}.csv"
        if not path.is_file():
            raise DataError(f"{path} is missing: run 'nand signals {self.name}' first")
        return read_table(path)


def is_kind(name: str, root: Path) -> bool:
    """Whether a study of another kind has that name."""
    return (root / KINDS / f"{name}.yaml").is_file()


def open_signals(name: str, root: Path) -> OpenSignals:
    """Open a study of signals by its name.

    Raises:
        PresetError: If there is no such preset, or it is not valid.
    """
    path = root / KINDS / f"{name}.yaml"
    if not path.is_file():
        raise PresetError(f"{path} is missing: {nearest(name, [own.stem for own in sorted((root / KINDS).glob('*.yaml'))])}")
    return OpenSignals(root, load_signal_study(path))
