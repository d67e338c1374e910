"""A study of another kind than images, on disk: its preset ``studies/kinds/<name>.yaml``, its folders, its tables."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, TypeVar

import pandas as pd
from pydantic import Field, TypeAdapter, ValidationError

from nandlib.errors import DataError, PresetError, nearest
from nandlib.settings import read_yaml
from nandlib.signals.config import SignalStudy
from nandlib.study.frames import read_table, write_scores
from nandlib.study.place import Place
from nandlib.surfaces.config import DrawnParts, SurfaceStudy

C = TypeVar("C", SignalStudy, SurfaceStudy)
KINDS = Path("studies/kinds")
NOTEBOOKS = {"signals": "heartbeat", "surfaces": "surface"}  # kind → its notebook's item
PRESET: TypeAdapter[SignalStudy | SurfaceStudy] = TypeAdapter(Annotated[SignalStudy | SurfaceStudy, Field(discriminator="kind")])


class OpenKind(Place[C]):
    """A study of signals or surfaces; every path of it is named here, once."""

    def write_csv(self, table: pd.DataFrame, name: str) -> None:
        """Write a table of results."""
        self.figures.mkdir(parents=True, exist_ok=True)
        table.to_csv(self.figures / name, index=False)

    def write_protocol(self, scores: pd.DataFrame, tables: Mapping[str, pd.DataFrame]) -> None:
        """Write the scores of items before and after, and the tables that are made of them alone."""
        write_scores(scores, self.figures / "scores.parquet")
        for name, table in tables.items():
            self.write_csv(table, f"{name}.csv")

    def table(self, name: str) -> pd.DataFrame:
        """A table that the stage of this kind has written.

        Raises:
            DataError: If it is missing.
        """
        path = self.figures / f"{name}.csv"
        if not path.is_file():
            raise DataError(f"{path} is missing: run 'nand {self.config.kind} {self.name}' first")
        return read_table(path)


def is_kind(name: str, root: Path) -> bool:
    """Whether a study of another kind has that name."""
    return (root / KINDS / f"{name}.yaml").is_file()


def load_kind(name: str, root: Path) -> SignalStudy | SurfaceStudy:
    """Read and validate the preset of a study of another kind.

    Raises:
        PresetError: If there is no such preset, or a key or value is not valid.
    """
    path = root / KINDS / f"{name}.yaml"
    if not path.is_file():
        raise PresetError(f"{path} is missing: {nearest(name, [own.stem for own in sorted((root / KINDS).glob('*.yaml'))])}")
    try:
        study = PRESET.validate_python(read_yaml(path))
    except ValidationError as error:
        problems = (f"{path}: key '{'.'.join(map(str, one['loc'][1:])) or 'kind'}': {one['msg']}" for one in error.errors())
        raise PresetError("\n".join(problems)) from None
    images = study.data.root if not isinstance(study.data, DrawnParts) else None
    if images is not None and (root / images).resolve() == (root / "data" / name).resolve():
        raise PresetError(f"{path}: data.root '{images}' is where the study itself writes: put the data somewhere else, data/sets/{name}")
    if study.name != name:
        raise PresetError(f"{path}: key 'name' is '{study.name}' but must be the file's name, '{name}'")
    return study


def open_kind(name: str, root: Path, kind: type[C]) -> OpenKind[C]:
    """Open a study of another kind by its name.

    Args:
        name: Of the study.
        root: Of the project.
        kind: What its preset must be.

    Raises:
        PresetError: As `load_kind`, or if the study is of the other kind.
    """
    config = load_kind(name, root)
    if not isinstance(config, kind):
        raise PresetError(f"{name} is a study of {config.kind}: 'nand {config.kind} {name}'")
    return OpenKind(root, config)
