"""The manifest: one validated row per image of a folder in MVTec AD layout.

Layout: ``<class>/train/good/*``, ``<class>/test/good/*``, ``<class>/test/<type>/*`` and, for defective images,
``<class>/ground_truth/<type>/<stem>_mask.*`` or ``<stem>.*``. Images may be png, jpg, bmp or tif, grey or colour, of
any size. Only what is measured by pixel needs masks: an image without one is left out there, and a note says so.
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pandera.pandas as pa
from tqdm.auto import tqdm

from nandlib.data.config import DataConfig
from nandlib.data.groups import Grouping
from nandlib.data.images import IMAGE_SUFFIXES, load_image, load_mask
from nandlib.errors import DataError, nearest

PLAIN_NAME = re.compile(r"\w[\w .,+()-]*")
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
    """A manifest written by a study, validated."""
    frame = pd.read_csv(path, keep_default_na=False, na_values={"mask_area": ""}, dtype=dict.fromkeys(TEXT_COLUMNS, str))
    return MANIFEST.validate(frame)


def build_manifest(root: Path, config: DataConfig, grouping: Grouping, progress: bool = True) -> tuple[pd.DataFrame, list[str]]:
    """Scan `root`, check every file, and group the anomaly types.

    Returns:
        The manifest, sorted by class, split, type and file name, and notes on what is odd but allowed: skipped
        files, missing and empty masks, classes without a protocol.

    Raises:
        DataError: If the root or a folder is missing or empty, a mask has another size than its image, an image cannot
            be read, or a type is in no group.
        PresetError: If the preset or the grouping names a class or type that is not there.
    """
    if not root.is_dir():
        raise DataError(f"data.root: {root} is not a folder: put the data set there (or a link to it) or change the preset")
    rows = []
    for name in _classes(root, config, grouping):
        rows += _class_rows(root, name, config, grouping)
    notes: list[str] = []

    def check(row: dict[str, object]) -> dict[str, object] | str:
        try:
            return row | _measure(root, row)
        except DataError as error:
            if config.on_unreadable == "skip" and "cannot be read" in str(error):
                return f"skipped: {error}"
            raise

    with ThreadPoolExecutor(2) as pool:
        checked = list(tqdm(pool.map(check, rows), total=len(rows), desc="manifest", disable=not progress))
    notes += [row for row in checked if isinstance(row, str)]
    frame = MANIFEST.validate(pd.DataFrame([row for row in checked if isinstance(row, dict)], columns=list(MANIFEST.columns)))
    for (class_name, type_name), part in frame[frame["type"] != "good"].groupby(["class", "type"], sort=False):
        if missing := int((part["mask"] == "").sum()):
            notes.append(f"no masks: {class_name}/{type_name} ({missing} of {len(part)} images)")
    empty = frame[(frame["mask"] != "") & (frame["mask_area"] == 0)]
    notes += [f"empty mask: {path}" for path in empty["mask"]]
    for class_name, part in frame[frame["split"] == "test"].groupby("class", sort=False):
        groups = sorted(set(part["group"]) - {"good", ""})
        if len(groups) < 2:
            notes.append(
                f"class '{class_name!s}' has one group only ({', '.join(groups) or 'none'}): no protocol possible, left out of the tables"
            )
    return frame, notes


def _classes(root: Path, config: DataConfig, grouping: Grouping) -> list[str]:
    found = sorted(p.name for p in root.iterdir() if (p / "test").is_dir() or (p / "train").is_dir())
    if not found:
        raise DataError(f"data.root: {root} holds no class folder (<class>/train/good, <class>/test/<type>)")
    for key, names in (("classes", config.classes or ()), ("exclude_classes", config.exclude_classes)):
        for name in names:
            if name not in found:
                raise DataError(f"data.{key}: no class '{name}' in {root}: {nearest(name, found)}")
    chosen = [name for name in (config.classes or found) if name not in config.exclude_classes]
    grouping.check_classes(chosen)
    present = {p.name for name in chosen for p in (root / name / "test").glob("*") if p.is_dir()}
    for name in [*chosen, *sorted(present)]:
        if not PLAIN_NAME.fullmatch(name):
            raise DataError(
                f"data.root: {root} has a folder named '{name}': names of classes and types stand in tables, commands and pages, so they "
                f"hold letters, digits, spaces and . , + - _ ( ) only: rename the folder"
            )
    for key, names in (("exclude_types", config.exclude_types), ("abnormal_types", config.abnormal_types)):
        for name in names:
            if name not in present:
                raise DataError(f"data.{key}: no type '{name}' in {root}: {nearest(name, sorted(present - {'good'}))}")
    return sorted(chosen)


def _images(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES) if folder.is_dir() else []


def _class_rows(root: Path, class_name: str, config: DataConfig, grouping: Grouping) -> list[dict[str, object]]:
    base = root / class_name
    types = sorted(p.name for p in (base / "test").iterdir() if p.is_dir()) if (base / "test").is_dir() else []
    anomalous = [t for t in types if t != "good" and t not in config.exclude_types]
    grouping.check_types(class_name, anomalous, config.abnormal_types)
    folders = [("train", "good"), ("test", "good"), *(("test", t) for t in anomalous)]
    rows: list[dict[str, object]] = []
    for split, type_name in folders:
        images = _images(base / split / type_name)
        if not images:
            raise DataError(f"class '{class_name}' is empty: no image in {base / split / type_name} ({', '.join(IMAGE_SUFFIXES)})")
        masks = {} if type_name == "good" else {p.stem: p for p in _images(base / "ground_truth" / type_name)}
        for image in images:
            mask = masks.get(f"{image.stem}_mask") or masks.get(image.stem)
            rows.append(
                {
                    "class": class_name,
                    "split": split,
                    "type": type_name,
                    "group": _group(class_name, type_name, config, grouping),
                    "image": image.relative_to(root).as_posix(),
                    "mask": "" if mask is None else mask.relative_to(root).as_posix(),
                }
            )
    return rows


def _group(class_name: str, type_name: str, config: DataConfig, grouping: Grouping) -> str:
    if type_name == "good":
        return "good"
    return "" if type_name in config.abnormal_types else grouping.group_of(class_name, type_name)


def _measure(root: Path, row: dict[str, object]) -> dict[str, object]:
    width, height = load_image(root / str(row["image"])).size
    area = 0.0 if row["type"] == "good" else np.nan
    if row["mask"]:
        mask = load_mask(root / str(row["mask"]))
        if mask.shape != (height, width):
            raise DataError(
                f"{root / str(row['mask'])} is {mask.shape[1]} x {mask.shape[0]} pixels but its image {row['image']} is "
                f"{width} x {height}: a mask must have the size of its image"
            )
        area = float(mask.mean())
    return {"width": width, "height": height, "mask_area": area}


def table1(manifest: pd.DataFrame) -> pd.DataFrame:
    """Table 1: class, group, type, number of test images; only classes and groups of the protocol."""
    test = manifest[(manifest["split"] == "test") & ~manifest["group"].isin(["good", ""])]
    return test.groupby(["class", "group", "type"], sort=False).size().reset_index(name="n_images")
