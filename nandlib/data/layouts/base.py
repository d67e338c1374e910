"""What a reader of a data set's layout is: it says which images there are, and what each shows."""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import pandas as pd

from nandlib.data.groups import GOOD
from nandlib.data.images import IMAGE_SUFFIXES, is_hidden, is_image, mask_numbers
from nandlib.errors import DataError

FORM = "a csv file parted by commas, in UTF-8, or parquet"


@dataclass(frozen=True)
class Item:
    """An image of a class.

    Attributes:
        split: Trained on, or tested.
        type: ``"good"``, or the type of its anomaly.
        image: Its file, relative to the root.
        mask: File, or folder of files, relative to the root; ``""`` for good ones and where there is none.
        several: Whether it shows several types: it is in no group, and always abnormal.
    """

    split: Literal["train", "test"]
    type: str
    image: str
    mask: str = ""
    several: bool = False


class Whole:
    """A layout of which no class can lack a part that would hide it."""

    def lacking(self, root: Path) -> list[str]:
        """See `Layout.lacking`."""
        return []


class Layout(Protocol):
    """One way in which data sets with typed anomalies lie in a folder."""

    name: str
    described: str  # how it looks, in one line

    def fits(self, root: Path) -> bool:
        """Whether a folder looks so."""
        ...

    def classes(self, root: Path) -> list[str]:
        """Names of the classes."""
        ...

    def lacking(self, root: Path) -> list[str]:
        """What hides classes that a folder seems to have, a sentence each: files that are not there."""
        ...

    def items(self, root: Path, class_name: str) -> list[Item]:
        """The images of one class, by split, type and name.

        Raises:
            DataError: If a folder that must hold images holds none, or a file that says what they show cannot be read.
        """
        ...


def folders(root: Path) -> list[Path]:
    """Folders in a folder, by name, but hidden ones."""
    return sorted(path for path in root.iterdir() if path.is_dir() and not is_hidden(path.name)) if root.is_dir() else []


def images(folder: Path) -> list[Path]:
    """Images in a folder, by name, but hidden ones."""
    return sorted(path for path in folder.iterdir() if is_image(path.name)) if folder.is_dir() else []


def some_images(folder: Path, class_name: str) -> list[Path]:
    """Images in a folder that must hold some.

    Raises:
        DataError: If it is missing or empty.
    """
    found = images(folder)
    if not found:
        other = next((own.name for own in folders(folder.parent) if own.name.lower() == folder.name and own.name != folder.name), None)
        beside = ", ".join(own.name for own in folders(folder.parent) if own != folder)
        fix = f": rename '{other}' to '{folder.name}'" if other else f" (beside it: {beside})" if beside else ""
        if below := next((own.name for own in folders(folder) if images(own)), None):
            fix = f": they are in its folder '{below}': move them up"
        raise DataError(f"class '{class_name}': no image in {folder} ({', '.join(IMAGE_SUFFIXES)}), which must hold some{fix}")
    return found


def with_masks(
    root: Path, split: Literal["train", "test"], kind: str, found: Sequence[Path], masks: Sequence[Path] = (), several: bool = False
) -> list[Item]:
    """Items of one folder of images; a mask, or folder of masks, is named as its image, all of them with or without ``_mask``.

    Raises:
        DataError: If one mask is named as several images are, or one of the images as a mask of another.
    """
    named, stems = {_name(path): path for path in masks}, [_name(path) for path in found]
    ends = ("_mask", "") if all(f"{stem}_mask" in named for stem in stems) else ("", "_mask")  # names of images may end in _mask
    items, whose, every = list[Item](), dict[Path, str](), set(stems)
    for path, stem in zip(found, stems, strict=True):
        mask = next((named[f"{stem}{end}"] for end in ends if f"{stem}{end}" in named), None)
        if mask is None and f"{stem}_mask" in every:
            raise DataError(
                f"{path.parent}: {stem}_mask is named as the mask of {path.name}: masks lie in a folder of their own, or rename it"
            )
        if mask is not None and whose.setdefault(mask, path.name) != path.name:
            raise DataError(f"{mask} could be the mask of {whose[mask]} and of {path.name} in {path.parent}: rename all but one")
        items.append(Item(split, kind, _inside(path, root), _inside(mask, root) if mask else "", several))
    return items


def _name(path: Path) -> str:
    """By which images and masks find each other: an accent is one with its letter."""
    return unicodedata.normalize("NFC", path.name if path.is_dir() else path.stem)


def in_order(items: Sequence[Item]) -> list[Item]:
    """Training images first, good ones before others, then by type and name."""
    return sorted(items, key=lambda item: (item.split != "train", item.type != GOOD, item.type, item.image))


def mask_values(path: Path) -> list[int]:
    """The values of a mask's marked pixels, in ascending order."""
    return [int(value) for value in np.unique(mask_numbers(path)) if value]


def table_of(path: Path, columns: Sequence[str], further: Sequence[str] = ()) -> pd.DataFrame:
    """A csv or parquet file that says what images show: these columns as text, "" where there is nothing, and further ones where it has
    them. Rows are numbered from 0.

    Raises:
        DataError: If it cannot be read, lacks one of the columns, or has one twice or in capitals.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            csv = path.suffix != ".parquet"
            frame = pd.read_csv(path, keep_default_na=False, dtype=str, index_col=False) if csv else pd.read_parquet(path)
    except pd.errors.ParserWarning as error:
        raise DataError(
            f"{path}: rows have more fields than the first line names: quote what holds a comma, or name every column"
        ) from error
    except (ValueError, OSError) as error:
        raise DataError(f"{path} cannot be read as a table ({FORM}): {error}") from error
    names = [str(name).strip() for name in frame.columns]
    frame.columns = pd.Index(names)
    if odd := [name for name in names if name not in (*columns, *further) and name.lower().split(".")[0] in (*columns, *further)]:
        called = odd[0].lower().split(".")[0]
        raise DataError(f"{path}: column '{odd[0]}' is not read: one is called '{called}', and there is one of that name")
    missing = [name for name in columns if name not in frame]
    if missing:
        raise DataError(f"{path} has no column '{missing[0]}': it must hold {', '.join(columns)} ({FORM})")
    kept = frame[[name for name in (*columns, *further) if name in frame]].reset_index(drop=True).astype(object)
    return kept.where(kept.notna(), "").astype(str).apply(lambda column: column.str.strip())


def _inside(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()
