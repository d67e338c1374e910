"""What is published of weights and data that are not made here: where they come from, and how an honest copy is known."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from nandlib.data.download import BLOCK
from nandlib.data.images import is_image
from nandlib.errors import DataError, PresetError, nearest
from nandlib.settings import RESOURCES, read_yaml

MIRROR = "NAND_MIRROR"  # environment: addresses under which the files lie by name, separated by blanks; tried first


class Source(BaseModel):
    """One entry of ``resources/sources.yaml``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    title: str
    licence: str
    accept: bool = Field(False, description="whether the licence must be accepted before a download")
    file: str = ""
    urls: tuple[str, ...] = Field(description="of the file; of its authors' page, where it is brought by hand")
    check: dict[Literal["sha256", "sha256_prefix", "git_blob", "md5"], str] = Field({}, description="empty where nothing is published")
    parts: dict[str, str] = Field({}, description="in place of one file: name of each archive → sha256; addresses are then of their folder")
    megabytes: int = 0
    path: Path
    install: Literal["extract", "visa", "convert", "by_hand"]
    images: dict[str, tuple[int, int]] | None = None
    trained_on: tuple[str, ...] = Field((), description="sources of the images that trained these weights: on them they leak")
    pattern: str = Field("*/*", description="where images lie below <class>/<split>")

    def addresses(self) -> list[str]:
        """Where to download from, in order."""
        mirrors = os.environ.get(MIRROR, "").split()
        return [f"{mirror.rstrip('/')}/{self.file}" for mirror in mirrors] + list(self.urls)

    def alone(self) -> list[Source]:
        """One source for each of its `parts`, which goes to a folder of its stem."""
        return [
            self.model_copy(
                update={
                    "name": f"{self.name}/{Path(file).stem}",
                    "file": file,
                    "urls": tuple(f"{url}{file}" for url in self.urls),
                    "check": {"sha256": published},
                    "parts": {},
                    "megabytes": self.megabytes // len(self.parts),
                    "path": self.path / Path(file).stem,
                }
            )
            for file, published in self.parts.items()
        ]

    def describe(self) -> str:
        return f"{self.title}; {self.licence}" + (f"; about {self.megabytes} MB" if self.megabytes else "")


@cache
def sources() -> dict[str, Source]:
    """Every source by name."""
    return {name: Source(name=name, **entry) for name, entry in read_yaml(RESOURCES / "sources.yaml").items()}


def source(name: str) -> Source:
    """The source of that name.

    Raises:
        PresetError: If there is none.
    """
    if name not in sources():
        raise PresetError(f"no source '{name}': {nearest(name, sources())}")
    return sources()[name]


def source_of(path: Path) -> Source | None:
    """The source that belongs at a path of a preset."""
    return next((entry for entry in sources().values() if entry.path == path), None)


def verify(path: Path, entry: Source) -> None:
    """Compare a file with what is published of its content.

    Raises:
        DataError: If it is another file; the message has both hashes.
    """
    for kind, expected in entry.check.items():
        found = digest(path, kind)
        if not found.startswith(expected):
            raise DataError(f"{path} is not {entry.file}: {kind} is {found}, published is {expected}. Delete it and fetch it again")


def digest(path: Path, kind: str) -> str:
    """Of a file's content: ``git_blob``, ``md5`` or ``sha256``."""
    if kind == "git_blob":
        found = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    else:
        found = hashlib.new("md5" if kind == "md5" else "sha256", usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            found.update(block)
    return found.hexdigest()


def check_images(root: Path, entry: Source, left_out: Collection[str] = ()) -> None:
    """Compare a data set with its published numbers of images, but for classes that are `left_out`.

    Raises:
        DataError: If a class is missing or has another number of images.
    """
    for class_name, published in (entry.images or {}).items():
        if class_name in left_out:
            continue
        parts = (root / class_name / split for split in ("train", "test"))
        found = tuple(sum(1 for path in part.glob(entry.pattern) if is_image(path.name)) for part in parts)
        if found != published:
            raise DataError(
                f"{root} is not {entry.title}: class '{class_name}' has {found[0]} training and {found[1]} test images, "
                f"published are {published[0]} and {published[1]}: unpack it again"
            )
