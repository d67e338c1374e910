"""The manifest: one validated row per image of a data set (`nandlib.data.layouts`).

Images may be png, jpg, bmp or tif, grey or colour, of any size. Only what is measured by pixel needs masks: an image without one is left
out there, and a note says so.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
import pandera.pandas as pa
from pandera.errors import SchemaError, SchemaErrors
from tqdm.auto import tqdm

from nandlib.data.config import DataConfig
from nandlib.data.groups import GOOD, PLAIN_NAME, Grouping
from nandlib.data.images import PICTURE_SUFFIXES, is_hidden, load_image, load_mask, pixel_key
from nandlib.data.layouts import LAYOUTS, Item, Layout, layout_of
from nandlib.data.layouts.base import folders
from nandlib.errors import DataError, nearest

SCANS = ("xyz", "gt")  # folders of MVTec 3D-AD that hold no photographs
MOST_ERRORS = 5  # images that an error names
MOST_FOLDERS = 20  # that notes name one by one
TEXT_COLUMNS = ("class", "split", "type", "group", "image", "mask")

MANIFEST = pa.DataFrameSchema(
    {
        "class": pa.Column(str),
        "split": pa.Column(str, pa.Check.isin(["train", "test"])),
        "type": pa.Column(str),
        "group": pa.Column(str, description="'good', the type's group, or '' if it always stays abnormal"),
        "image": pa.Column(str, unique=True, description="path relative to the root"),
        "mask": pa.Column(str, description="path relative to the root, '' for good images and where there is none"),
        "width": pa.Column(int, pa.Check.gt(0)),
        "height": pa.Column(int, pa.Check.gt(0)),
        "mask_area": pa.Column(
            float, pa.Check.in_range(0, 1), nullable=True, description="fraction of the pixels; 0 for good images, NaN without a mask"
        ),
    },
    strict=True,
    ordered=True,
)


def read_manifest(path: Path) -> pd.DataFrame:
    """A manifest written by a study, validated.

    Raises:
        DataError: If the file is none.
    """
    try:
        frame = pd.read_csv(path, keep_default_na=False, na_values={"mask_area": ""}, dtype=dict.fromkeys(TEXT_COLUMNS, str))
        return MANIFEST.validate(frame)
    except (ValueError, OSError, SchemaError, SchemaErrors) as error:
        why = "other columns or values than one has" if isinstance(error, (SchemaError, SchemaErrors)) else str(error)
        raise DataError(f"{path} is no manifest that a study has written ({why}): delete it, and run the study again") from error


def build_manifest(root: Path, config: DataConfig, grouping: Grouping, progress: bool = True) -> tuple[pd.DataFrame, list[str]]:
    """Scan `root`, check every file, and group the anomaly types.

    Returns:
        The manifest, sorted by class, split, type and file name, and notes on what is odd but allowed: skipped files, folders whose
        images are not used (also beside the classes, where all of them are taken), pictures that are there twice, masks that are missing or
        mark nothing or all, classes without a protocol.

    Raises:
        DataError: If the root or a folder is missing or empty, a training image shows a defect, a class has no good image to train on or
            to test, a mask has another size than its image, an image cannot be read, or a type is in no group.
        PresetError: If the preset or the grouping names a class or type that is not there.
    """
    if not root.is_dir():
        raise DataError(f"data.root: {root} is not a folder: put the data set there (or a link to it) or change the preset")
    layout = layout_of(root, config.layout)
    names = _classes(root, layout, config, grouping)
    items = {name: layout.items(root, name) for name in names}
    _check_types(root, layout, items, config, grouping)
    rows = [row for name in names for row in _class_rows(name, items[name], config, grouping)]
    _check_once(root, [str(row["image"]) for row in rows])
    notes: list[str] = []

    def check(row: dict[str, object]) -> dict[str, object] | str | DataError:
        try:
            return row | _measure(root, row)
        except DataError as error:
            if config.on_unreadable == "skip" and "cannot be read" in str(error):
                with_it = "" if str(row["image"]) in str(error) else f"{row['image']}, with its mask: "
                return f"skipped: {with_it}{error}"
            return error

    with ThreadPoolExecutor(2) as pool:
        checked = list(tqdm(pool.map(check, rows), total=len(rows), desc="manifest", disable=not progress))
    if wrong := [str(row) for row in checked if isinstance(row, DataError)]:
        raise DataError("\n".join([*wrong[:MOST_ERRORS], *([f"and {len(wrong) - MOST_ERRORS} more"] if len(wrong) > MOST_ERRORS else [])]))
    notes += [row for row in checked if isinstance(row, str)]
    trained = {str(row["class"]) for row in checked if isinstance(row, dict) and row["split"] == "train"}
    if untrained := [name for name in names if name not in trained]:
        why = next((note for note, row in zip(checked, rows, strict=True) if isinstance(note, str) and row["class"] == untrained[0]), "")
        raise DataError(f"class '{untrained[0]}': none of its training images can be read; {why or 'it has none'}")
    compared = {str(row["class"]) for row in checked if isinstance(row, dict) and row["split"] == "test" and row["type"] == GOOD}
    if alone := [name for name in names if name not in compared]:
        raise DataError(f"class '{alone[0]}': no good test image that can be read: anomalous ones are compared with these")
    everything = names == sorted(layout.classes(root))
    notes += layout.lacking(root) if everything else []
    notes += list(_left_out(root, items, everything))
    notes += list(_twice([row for row in checked if isinstance(row, dict)]))
    frame = MANIFEST.validate(pd.DataFrame([row for row in checked if isinstance(row, dict)], columns=list(MANIFEST.columns)))
    for (class_name, type_name), part in frame[frame["type"] != "good"].groupby(["class", "type"], sort=False):
        if missing := int((part["mask"] == "").sum()):
            notes.append(f"no masks: {class_name}/{type_name} ({missing} of {len(part)} images)")
    empty = frame[(frame["mask"] != "") & (frame["mask_area"] == 0)]
    notes += [f"empty mask: {path}" for path in empty["mask"]]
    notes += [f"everything is marked: {path}" for path in frame[frame["mask_area"] == 1]["mask"]]
    for class_name, part in frame[frame["split"] == "test"].groupby("class", sort=False):
        groups = sorted(set(part["group"]) - {"good", ""})
        if len(groups) < 2:
            notes.append(
                f"class '{class_name!s}' has one group only ({', '.join(groups) or 'none'}): no protocol possible, left out of the tables"
            )
    return frame, notes


def _classes(root: Path, layout: Layout, config: DataConfig, grouping: Grouping) -> list[str]:
    found = layout.classes(root)
    if not found:
        if within := next((below for below in folders(root) if layout.classes(below)), None):
            raise DataError(f"data.root: {root} holds a data set in its folder '{within.name}': give that one, {within}, or link it there")
        other = next((name for name, own in LAYOUTS.items() if own is not layout and own.fits(root)), None)
        fix = f": it looks like '{other}', which data.layout can say" if other else ""
        raise DataError(f"data.root: {root} holds no class folder ({'; '.join(layout.lacking(root)) or layout.described}){fix}")
    for key, names in (("classes", config.classes or ()), ("exclude_classes", config.exclude_classes)):
        for name in names:
            if name not in found:
                raise DataError(f"data.{key}: no class '{name}' in {root}: {nearest(name, found)}")
    chosen = [name for name in (config.classes or found) if name not in config.exclude_classes]
    if not chosen:
        raise DataError(f"data.exclude_classes leaves none of {', '.join(config.classes or sorted(found))} ({root}): take one out of it")
    grouping.check_classes(chosen)
    return sorted(chosen)


def _check_types(root: Path, layout: Layout, items: Mapping[str, Sequence[Item]], config: DataConfig, grouping: Grouping) -> None:
    present = {item.type for own in items.values() for item in own}
    for name in [*items, *sorted(present)]:
        if not PLAIN_NAME.fullmatch(name):
            raise DataError(
                f"data.root: {root} has a class or type named '{name}': such names stand in tables, commands and pages, so they hold "
                "letters, digits, spaces and . , + - _ ( ) only (an accent is one with its letter, as in Unicode's form NFC): rename it"
            )
        if name.lower() == GOOD != name and name in present.difference(config.exclude_types):
            raise DataError(f"data.root: {root} has a type named '{name}': normal images are of type '{GOOD}': rename it")
    parts = {part for own in items.values() for item in own if item.several for part in item.type.split("+")}
    for key, names, known in (("exclude_types", config.exclude_types, present), ("abnormal_types", config.abnormal_types, present | parts)):
        for name in names:
            if name == GOOD:
                raise DataError(f"data.{key}: '{GOOD}' is no type of defect: take it out")
            if name not in known and name not in _of_other_classes(root, layout, items):
                raise DataError(f"data.{key}: no type '{name}' in {root}: {nearest(name, sorted(known - {GOOD}))}")
    for name, own in items.items():
        defects = [item for item in own if item.split == "train" and item.type not in (GOOD, *config.exclude_types)]
        if defects:
            raise DataError(
                f"data.root: {root}: class '{name}' has {len(defects)} training images of type '{defects[0].type}' or others "
                f"({defects[0].image}): training is on good images alone: make them test images, or leave them out"
            )
        anomalous = dict.fromkeys(item.type for item in own if item.type not in (GOOD, *config.exclude_types) and not item.several)
        grouping.check_types(name, list(anomalous), config.abnormal_types, config.exclude_types)


def _of_other_classes(root: Path, layout: Layout, items: Mapping[str, Sequence[Item]]) -> set[str]:
    """Types that only classes show which the study does not take."""
    found = [item for name in layout.classes(root) if name not in items for item in layout.items(root, name)]
    return {part for item in found for part in (item.type, *(item.type.split("+") if item.several else ()))}


def _check_once(root: Path, images: Sequence[str]) -> None:
    for image, times in Counter(images).items():
        if times > 1:
            raise DataError(f"data.root: {root} names the image '{image}' {times} times: once, with all that it shows")


def _twice(rows: Sequence[Mapping[str, object]]) -> Iterator[str]:
    """A note for every picture that is there several times, whatever its files are called."""
    same: dict[object, list[object]] = {}
    for row in rows:
        same.setdefault(row["pixels"], []).append(row["image"])
    for images in same.values():
        if len(images) > 1:
            others = f" and {len(images) - 2} more" if len(images) > 2 else ""
            yield f"the same picture: {images[0]} and {images[1]}{others}"


def _left_out(root: Path, items: Mapping[str, Sequence[Item]], everything: bool) -> Iterator[str]:
    """A note for every folder, in that of a class, with images that are not read; with `everything`, also for what lies beside."""
    known = {place for own in items.values() for item in own for place in (item.image, item.mask)}
    places = {PurePosixPath(os.path.commonpath([PurePosixPath(item.image).parent for item in own])) for own in items.values()}
    places |= {PurePosixPath(name) for name in items if (root / name).is_dir()}
    found = Counter[str]()
    for path in sorted({path for start in ([root] if everything else [root / place for place in places]) for path in start.rglob("*")}):
        place = PurePosixPath(path.relative_to(root).as_posix())
        folder = place.parent
        picture = path.suffix.lower() in PICTURE_SUFFIXES and not any(map(is_hidden, place.parts))
        if picture and folder.name not in SCANS and str(place) not in known and str(folder) not in known:
            beside = not any(folder.is_relative_to(own) for own in places)
            found[f"{folder.parts[0]}, which is none of the classes" if beside and folder.parts else str(folder)] += 1
    while len(found) > MOST_FOLDERS and any("/" in where for where in found):  # those above them, which are fewer
        above = Counter[str]()
        for where, count in found.items():
            above[where.rpartition("/")[0] or where] += count
        found = above
    yield from (f"not used: {count} images in {where}" for where, count in found.items())


def _class_rows(class_name: str, items: Sequence[Item], config: DataConfig, grouping: Grouping) -> Iterator[dict[str, object]]:
    for item in items:
        if item.type not in config.exclude_types:
            group = GOOD if item.type == GOOD else grouping.group_of(class_name, item.type)
            if item.several or item.type in config.abnormal_types:
                group = ""
            yield {
                "class": class_name,
                "split": item.split,
                "type": item.type,
                "group": group,
                "image": item.image,
                "mask": item.mask,
            }


def _measure(root: Path, row: dict[str, object]) -> dict[str, object]:
    image = load_image(root / str(row["image"]))
    width, height = image.size
    area = 0.0 if row["type"] == "good" else np.nan
    if row["mask"]:
        mask = load_mask(root / str(row["mask"]))
        if mask.shape != (height, width):
            raise DataError(
                f"{root / str(row['mask'])} is {mask.shape[1]} x {mask.shape[0]} pixels but its image {row['image']} is "
                f"{width} x {height}: a mask must have the size of its image"
            )
        area = float(mask.mean())
    return {"width": width, "height": height, "mask_area": area, "pixels": pixel_key(image)}


def table1(manifest: pd.DataFrame) -> pd.DataFrame:
    """Table 1: class, group, type, number of test images; only classes and groups of the protocol."""
    test = manifest[(manifest["split"] == "test") & ~manifest["group"].isin(["good", ""])]
    return test.groupby(["class", "group", "type"], sort=False).size().reset_index(name="n_images")
