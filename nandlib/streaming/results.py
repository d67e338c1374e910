"""A folder of results: shards that are written once, and what they say of which image."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from nandlib.data.held import held, written
from nandlib.errors import DataError

Digest = bytes  # of an image file, 16 bytes; where maps come from files, of its map after it
PARTS = ("shards", "maps", "overlays")  # folders of what is written
COLUMNS = ("image", "score_before", "score_after", "removed")  # of scores.csv
SCHEMA = pa.schema(
    [
        ("image", pa.string()),
        ("digest", pa.binary()),
        ("score_before", pa.float32()),
        ("score_after", pa.float32()),
        ("removed", pa.float32()),  # percent of the sum of A
        ("problem", pa.string()),  # null: none
    ]
)


def digest(content: bytes) -> Digest:
    """16 bytes that say whether a content has changed."""
    return hashlib.blake2b(content, digest_size=16).digest()


@dataclass(frozen=True)
class Shard:
    """Images that are worked on in one piece.

    Attributes:
        images: Their names, in order.
        generation: How often they were worked on before: an image that has changed gets a new row in a new shard.
    """

    images: tuple[str, ...]
    generation: int = 0

    @property
    def name(self) -> str:
        """Of its files: the same in every run, whatever else was done before."""
        return f"{self.generation}-{digest(json.dumps(self.images).encode()).hex()}"


class Known(NamedTuple):
    """What is known of an image: how often it was worked on before, its digest, whether it could not be read, whether the maps of its shard
    are there."""

    generation: int
    digest: Digest
    problem: bool
    maps: bool


class Results:
    """The folder that `nand apply` writes to.

    ``shards/`` holds a parquet file of scores a shard, and a safetensors file of maps where asked for; ``setting.json`` says what they
    were made with.

    Args:
        folder: Made if it does not exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.shards = folder, folder / "shards"

    @contextmanager
    def held(self, setting: Mapping[str, Any]) -> Iterator[None]:
        """Nobody else writes here meanwhile. A lock ends with the process that holds it: none is ever left behind.

        Args:
            setting: All that results depend on beside the images, JSON.

        Raises:
            DataError: If another process is at work here, the folder holds results of another setting, or cannot be written to.
        """
        with held(self.folder):
            path, text = self.folder / "setting.json", json.dumps(setting, indent=2, sort_keys=True, ensure_ascii=False)
            if path.is_file() and self.shards.is_dir():
                _refuse_others(path, json.loads(text))
            written(path, lambda partial: partial.write_text(text, encoding="utf-8"))
            self._sweep()
            yield
            self._sweep()

    def _sweep(self) -> None:
        """Take away what a run, or a worker of this one, left in pieces when it was killed."""
        for place in (self.folder.glob("*"), *((self.folder / part).rglob("*") for part in PARTS)):
            for partial in filter(_is_partial, place):
                partial.unlink(missing_ok=True)

    def known(self) -> dict[str, Known]:
        """The latest row of every image that has one, by its name."""
        found: dict[str, Known] = {}
        for path in self._tables():
            table, maps = _read(path).select(["image", "digest", "problem"]), path.with_suffix(".safetensors").is_file()
            for image, own, problem in zip(*(column.to_pylist() for column in table.columns), strict=True):
                row = Known(_generation(path), own, problem is not None, maps)
                found[image] = max(found.get(image, row), row)
        return found

    def _tables(self) -> list[Path]:
        """Of scores, by their names: copies that somebody made of them are none."""
        return sorted(path for path in self.shards.glob("*.parquet") if _NAME.fullmatch(path.name))

    def write(self, shard: Shard, rows: Sequence[Mapping[str, Any]]) -> None:
        """The last file of a shard: once it is there, the shard is done."""
        table = pa.Table.from_pylist([dict(row) for row in rows], SCHEMA)
        written(self.shards / f"{shard.name}.parquet", lambda partial: pq.write_table(table, partial))

    def summary(self, names: Iterable[str], maps_of_shards: bool = False) -> pa.Table:
        """`SCHEMA`'s rows of images, the latest of each, sorted by name; ``scores.csv`` and ``unreadable.csv`` are made from it.

        Args:
            names: Of the images that are there now: others have rows, and are left out.
            maps_of_shards: Write ``maps.csv``: which file holds the map of which image (of one that has changed, a new file).
        """
        parts = []
        for path in self._tables():
            table = _read(path)
            table = table.append_column("generation", pa.array([_generation(path)] * len(table), pa.int32()))
            parts.append(table.append_column("file", pa.array([f"shards/{path.stem}.safetensors"] * len(table), pa.string())))
        table = pa.concat_tables(parts)
        here = pa.table({"image": pa.array(names, pa.string())})
        latest = table.group_by("image").aggregate([("generation", "max")]).join(here, "image", join_type="inner")
        table = table.join(latest, ["image", "generation"], ["image", "generation_max"], join_type="inner").sort_by("image")
        problem = pc.is_valid(table["problem"])
        scores, unreadable = table.filter(pc.invert(problem)).select(COLUMNS), table.filter(problem).select(["image", "problem"])
        written(self.folder / "scores.csv", lambda partial: pyarrow.csv.write_csv(scores, partial, _CSV))
        if maps_of_shards:
            there = table.filter(pc.invert(problem)).select(["image", "file"])
            written(self.folder / "maps.csv", lambda partial: pyarrow.csv.write_csv(there, partial, _CSV))
        if len(unreadable):
            written(self.folder / "unreadable.csv", lambda partial: pyarrow.csv.write_csv(unreadable, partial, _CSV))
        else:
            (self.folder / "unreadable.csv").unlink(missing_ok=True)
        return table.drop_columns(["file"])


_NAME = re.compile(r"\d+-[0-9a-f]{32}\.parquet")
_CSV = pyarrow.csv.WriteOptions(quoting_style="needed")


def _is_partial(path: Path) -> bool:
    return re.fullmatch(r"\..*\.\d+\.partial", path.name) is not None


def _generation(path: Path) -> int:
    return int(path.name.partition("-")[0])


def _read(path: Path) -> pa.Table:
    try:
        return pq.read_table(path, schema=SCHEMA)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is damaged ({error}): remove it, and its images will be worked on again") from error


def _refuse_others(path: Path, setting: Mapping[str, Any]) -> None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is damaged ({error}): remove {path.parent}, or give another folder") from error
    if not isinstance(found, dict):
        raise DataError(f"{path} is damaged (no JSON object): remove {path.parent}, or give another folder")
    if other := next((key for key in sorted({*found, *setting}) if found.get(key) != setting.get(key)), None):
        raise DataError(
            f"{path.parent} holds results of another setting ({other}: {found.get(other)!r} there, {setting.get(other)!r} now): "
            "give another folder, or remove that one"
        )
