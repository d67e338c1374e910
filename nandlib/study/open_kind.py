"""A study of another kind than images, on disk: its preset ``studies/kinds/<name>.yaml``, its folders, its tables."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import pandas as pd

from nandlib.errors import DataError, PresetError, nearest
from nandlib.signals.config import SignalStudy, load_signal_study
from nandlib.study.frames import read_table

KINDS = Path("studies/kinds")
C = TypeVar("C", bound=SignalStudy)


@dataclass(frozen=True)
class OpenKind(Generic[C]):
    """A preset together with the project it belongs to.

    Attributes:
        root: Of the project.
        config: The preset.
    """

    root: Path
    config: C

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def data(self) -> Path:
        """Folder of intermediate results."""
        return self.root / "data" / self.name

    @property
    def figures(self) -> Path:
        """Folder of tables and figures."""
        return self.root / "figures" / self.name

    @property
    def watermark(self) -> str:
        """What every output must say: nothing."""
        return ""

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


def open_signals(name: str, root: Path) -> OpenKind[SignalStudy]:
    """Open a study of signals by its name.

    Raises:
        PresetError: If there is no such preset, or it is not valid.
    """
    path = root / KINDS / f"{name}.yaml"
    if not path.is_file():
        raise PresetError(f"{path} is missing: {nearest(name, [own.stem for own in sorted((root / KINDS).glob('*.yaml'))])}")
    return OpenKind(root, load_signal_study(path))
