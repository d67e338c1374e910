"""A plain table of images: the layout of those that have none."""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import pandas as pd

from nandlib.data.addresses import is_address, read
from nandlib.data.groups import GOOD
from nandlib.data.held import written
from nandlib.data.layouts.base import Item, in_order, table_of
from nandlib.errors import DataError

FILES = ("images.csv", "images.parquet")
NEEDED = ("image", "class", "split", "type")


class Table:
    """``images.csv`` or ``images.parquet`` in the folder: image, class, split (train, test), type (``good`` or its name), and mask.

    Paths are relative to the folder, or addresses that `fsspec` opens (``https://…``, ``s3://…``): what lies there is fetched once, to
    ``fetched/`` in the folder. A type with commas names several: such an image is always abnormal.
    """

    name = "table"
    described = "images.csv or images.parquet with image, class, split, type, mask"

    def fits(self, root: Path) -> bool:
        """There is such a file."""
        return any((root / name).is_file() for name in FILES)

    def classes(self, root: Path) -> list[str]:
        """Values of ``class``."""
        return sorted(set(_read(root)["class"]))

    def lacking(self, root: Path) -> list[str]:
        """See `Layout.lacking`."""
        there = [name for name in FILES if (root / name).is_file()]
        return [f"of {' and '.join(there)} the first is read"] if len(there) > 1 else []

    def items(self, root: Path, class_name: str) -> list[Item]:
        """See `Layout.items`."""
        frame = _read(root)
        found = []
        for row in frame[frame["class"] == class_name].to_dict("records"):
            names = sorted({part.strip() for part in row["type"].split(",") if part.strip()})
            if (len(names) > 1 and GOOD in names) or "+" in row["type"]:
                raise DataError(f"{root}: type '{row['type']}' of {row['image']}: a type's name has no '+', and 'good' stands alone")
            image, mask = (_fetched(root, place) for place in (row["image"], row["mask"] if names != [GOOD] else ""))
            found.append(Item(row["split"], "+".join(names), image, mask, len(names) > 1))
        for split in ("train", "test"):
            if not any(item.split == split and item.type == GOOD for item in found):
                raise DataError(f"class '{class_name}' is empty: no row of {root} with split '{split}' and type 'good'")
        return in_order(found)


def _fetched(root: Path, place: str) -> str:
    """A path below the folder: of an address, that of what was fetched from it."""
    if not is_address(place):
        return PurePosixPath(place).as_posix() if place else ""  # without "./": one file is one image
    folder = hashlib.sha256(place.encode()).hexdigest()[:16]  # files of one name from several addresses
    path = root / "fetched" / folder / PurePosixPath(urlsplit(place).path).name
    if not path.is_file():
        content = read(place)
        written(path, lambda partial: Path(partial).write_bytes(content))
    return path.relative_to(root).as_posix()


def _leads_out(place: str) -> bool:
    return not is_address(place) and (Path(place).is_absolute() or ".." in Path(place).parts)


def _read(root: Path) -> pd.DataFrame:
    path = next((path for path in map(root.joinpath, FILES) if path.is_file()), None)
    if path is None:
        raise DataError(f"{root} holds neither {' nor '.join(FILES)}")
    frame = table_of(path, NEEDED, ["mask"])
    frame = frame.assign(mask=frame.get("mask", ""))
    if frame.empty:
        raise DataError(f"{path} has no row: one for every image")
    wrong = frame.loc[~frame["split"].isin(["train", "test"]), "split"]
    if len(wrong):
        raise DataError(f"{path}: split is '{wrong.iloc[0]}' in row {wrong.index[0] + 2}: train or test")
    for name in ("image", "class", "type"):
        empty = frame.index[frame[name].str.strip(" ,") == ""]
        if len(empty):
            raise DataError(f"{path}: no {name} in row {empty[0] + 2}")
    spelt = frame.index[(frame["type"] != GOOD) & (frame["type"].str.strip().str.lower() == GOOD)]
    if len(spelt):
        raise DataError(f"{path}: type is '{frame.loc[spelt[0], 'type']}' in row {spelt[0] + 2}: normal images are of type '{GOOD}'")
    for name in ("image", "mask"):
        windows = [place for place in frame[name] if "\\" in place]
        if windows:
            raise DataError(f"{path}: {name} '{windows[0]}' has a backslash: folders are parted by /")
        outside = frame.loc[frame[name].map(_leads_out), name]
        if len(outside):
            raise DataError(
                f"{path}: {name} '{outside.iloc[0]}' leaves the folder: paths are relative to it, or addresses (file:///… of this machine)"
            )
    return frame
