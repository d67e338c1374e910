"""What a stage keeps of a class: a folder with one file of the whole class, and one a shard of its images; each is made again only when
something that it depends on has changed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from nandlib.data.held import written
from nandlib.errors import DataError
from nandlib.study.images import image_paths, splits
from nandlib.study.open_study import OpenStudy

SHARD = 64  # images: what is held at a time, whatever a class has
WHOLE = "class.safetensors"

Made = tuple[Mapping[str, Tensor], Mapping[str, str]]  # tensors, metadata


def shards_of(study: OpenStudy, class_name: str) -> list[tuple[str, str, Sequence[Path]]]:
    """Every shard of a class's images: name of its file, split, images."""
    every = [(split, image_paths(study, class_name, split)) for split in splits(study)]
    return [
        (f"{split}_{number:06d}.safetensors", split, paths[start : start + SHARD])
        for split, paths in every
        for number, start in enumerate(range(0, len(paths), SHARD))
    ]


def keep_only(folder: Path, names: Sequence[str]) -> None:
    """Make the folder, and delete what is none of these files or folders in it."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if path.name not in names:
            _remove(path)


def is_current(path: Path, fingerprint: str) -> bool:
    """Whether a file is there and was made from the same."""
    try:
        return path.is_file() and metadata(path).get("fingerprint") == fingerprint
    except DataError:  # damaged: made again
        return False


def bring_up_to_date(path: Path, fingerprint: str, make: Callable[[], Made]) -> None:
    """Have a file made, unless it is there and was made from the same."""
    if not is_current(path, fingerprint):
        save(path, *make(), fingerprint)


def save(path: Path, tensors: Mapping[str, Tensor], own: Mapping[str, str], fingerprint: str) -> None:
    """Write a file with metadata of its own; a run that is killed leaves no truncated one behind."""
    # one entry: safetensors writes several in random order
    entry = {"nandlib": json.dumps({**own, "fingerprint": fingerprint}, sort_keys=True)}
    ready = {name: tensor.contiguous() for name, tensor in tensors.items()}
    written(path, lambda partial: save_file(ready, partial, entry))


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """A file that is read tensor by tensor.

    Raises:
        DataError: If it is damaged.
    """
    try:
        with safe_open(path, "pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path} is damaged ({error}): remove it, and run the study again: what is missing is made again") from error


def metadata(path: Path) -> dict[str, str]:
    """Of a file."""
    with opened(path) as file:
        return json.loads((file.metadata() or {}).get("nandlib", "{}"))


class Rows(Protocol):
    """Rows of images, which slices take: a tensor is one, and so is `StoredRows`."""

    @property
    def shape(self) -> Sequence[int]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: slice | tuple[slice, int], /) -> Tensor: ...


class StoredRows:
    """One tensor of all shards of a split: what a slice asks for is read, and the shard that was read last is held.

    Args:
        files: Of the shards, in order.
        name: Of the tensor in them.

    Attributes:
        shape: Of all rows.
    """

    def __init__(self, files: Sequence[Path], name: str) -> None:
        self._files, self._name, self._last = files, name, (-1, torch.empty(0))
        with opened(files[-1]) as file:
            last, *row = file.get_slice(name).get_shape()
        self.shape = (SHARD * (len(files) - 1) + last, *row)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: slice | tuple[slice, int]) -> Tensor:
        rows, rest = (index[0], index[1:]) if isinstance(index, tuple) else (index, ())
        start, stop, _ = rows.indices(len(self))
        parts, first = [], min(start, len(self) - 1) // SHARD  # at least one, which knows the shape
        for number in range(first, max(first, (stop - 1) // SHARD) + 1):
            own = slice(max(0, start - number * SHARD), max(0, stop - number * SHARD))
            parts.append(self._shard(number)[(own, *rest)])
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _shard(self, number: int) -> Tensor:
        if self._last[0] != number:
            with opened(self._files[number]) as file:
                self._last = (number, file.get_tensor(self._name))
        return self._last[1]


def load(folder: Path) -> tuple[dict[str, Rows], dict[str, str]]:
    """The tensors that a stage keeps of a class, and the metadata of its shards.

    Raises:
        DataError: If there are none.
    """
    found: dict[str, Rows] = {}
    files = sorted(path for path in folder.glob("*.safetensors") if path.name != WHOLE)
    if not files:
        raise DataError(f"{folder} holds no file of a stage (*.safetensors): run the study first, 'nand study run NAME'")
    for _, own in groupby(files, key=lambda path: path.name.rpartition("_")[0]):
        split = list(own)
        with opened(split[0]) as file:
            found |= {name: StoredRows(split, name) for name in file.keys()}  # noqa: SIM118
    if (folder / WHOLE).is_file():
        with opened(folder / WHOLE) as file:
            found |= {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return found, metadata(files[0])


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        keep_only(path, [])
        path.rmdir()
    else:
        path.unlink()
