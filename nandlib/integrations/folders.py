"""A text applied to a folder: images and a detector, or maps of any detector, to adapted maps, scores and overlays."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import tifffile
from PIL import Image
from tqdm.auto import tqdm

from nandlib.data.images import IMAGE_SUFFIXES, as_image
from nandlib.data.maps import MAP_SUFFIXES, MapFolder, check_maps
from nandlib.errors import DataError
from nandlib.method.adapt import AdaptedDetector
from nandlib.show.style import MAP_COLOURS

BATCH = 8  # images at a time


def find_images(places: Sequence[Path], without: Sequence[Path] = ()) -> tuple[list[Path], Path]:
    """All images in folders (with their subfolders) and files, as absolute paths, sorted; and the folder that all of them are in.

    Args:
        places: Folders and files.
        without: Folders below which nothing is taken, unless a place lies in them: results and maps may lie among the images.

    Raises:
        DataError: If a place does not exist, a file is no image by its name, or nothing is found.
    """
    found: list[Path] = []
    places = [place.absolute() for place in places]
    for place in places:
        if place.is_dir():
            found += [p for p in place.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")]
        elif not place.exists():
            raise DataError(f"{place} does not exist: give image files, or folders of them")
        elif place.suffix.lower() not in IMAGE_SUFFIXES:
            raise DataError(f"{place} is no image: {', '.join(IMAGE_SUFFIXES)} are read")
        else:
            found.append(place)
    barred = [folder for folder in map(Path.absolute, without) if not any(place.is_relative_to(folder) for place in places)]
    found = [path for path in found if not any(path.is_relative_to(folder) for folder in barred)]
    if not found:
        raise DataError(f"no image in {', '.join(map(str, places))}: looked for {', '.join(IMAGE_SUFFIXES)}")
    root = places[0] if len(places) == 1 and places[0].is_dir() else Path(os.path.commonpath([path.parent for path in found]))
    return sorted(set(found)), root


def map_folder(folder: Path, images: Sequence[Path], root: Path) -> MapFolder:
    """The maps of images: under the images' relative paths, or, where no two images share a name, under their names alone.

    Raises:
        DataError: If an image has no map, or a map cannot be read; the message names the first and says how many more.
    """
    unique = len({image.stem for image in images}) == len(images)
    for maps in (MapFolder(folder, root), *((MapFolder(folder),) if unique else ())):
        missing = [image for image in images if not _has(maps, image)]
        if not missing:
            for image in images:
                _check_readable(maps.path_of(image))
            return maps
    relative = missing[0].relative_to(root).with_suffix("")
    raise DataError(
        f"{len(missing)} of {len(images)} images have no map, the first is {missing[0]}: expected {folder / relative} "
        + (f"(or {relative.name} in that folder) " if unique else "(several images share a name, so the folders must be the same) ")
        + f"with one of {', '.join(MAP_SUFFIXES)}"
    )


def _check_readable(path: Path) -> None:
    try:
        if path.suffix == ".npy":
            np.load(path, mmap_mode="r")
        else:
            tifffile.TiffFile(path).close()
    except (ValueError, OSError, EOFError, tifffile.TiffFileError) as error:
        raise DataError(f"{path} cannot be read as an anomaly map: {error}") from error


def _has(maps: MapFolder, image: Path) -> bool:
    try:
        return maps.path_of(image).is_file()
    except DataError:
        return False


def apply(
    adapted: AdaptedDetector, images: Sequence[Path], root: Path, out: Path, *, overlays: bool = True, progress: bool = False
) -> pd.DataFrame:
    """Write ``maps/<image>.npy`` (A_final, float32 ``(H, W)``), ``overlays/<image>.png`` and ``scores.csv`` to a folder.

    Args:
        adapted: From `nandlib.add_normality`.
        images: Files.
        root: A folder that all of them are in: results are named by what follows it.
        out: The folder; made if it does not exist.
        overlays: Write pictures: image, A and A_final over it, on one scale.
        progress: Show a progress bar.

    Returns:
        What ``scores.csv`` holds: image, score_before, score_after (maxima of A and A_final), removed (share of the sum of A that
        is gone, in percent).

    Raises:
        DataError: If two images would have the same results, or a map is not as it must be.
    """
    named = [image.relative_to(root) for image in images]
    stems = [name.with_suffix("") for name in named]
    if len(set(stems)) < len(stems):
        twice = next(name for k, name in enumerate(stems) if name in stems[:k])
        raise DataError(f"two images are called {twice}: their results would be one file; rename one of them")
    rows = []
    with tqdm(total=len(images), desc="apply", unit="image", disable=not progress) as bar:
        for start in range(0, len(images), BATCH):
            batch = list(images[start : start + BATCH])
            before = check_maps(adapted.detector(batch), len(batch), type(adapted.detector).__name__)
            for k, after in enumerate(adapted.damp(batch, before)):
                at = start + k
                _write_map(after, out / "maps" / f"{stems[at]}.npy")
                if overlays:
                    _write_overlay(batch[k], before[k], after, out / "overlays" / f"{stems[at]}.png")
                whole = float(before[k].sum(dtype=np.float64))
                removed = 100 * (1 - float(after.sum(dtype=np.float64)) / whole) if whole else 0.0
                rows.append(
                    {"image": named[at].as_posix(), "score_before": before[k].max(), "score_after": after.max(), "removed": removed}
                )
                bar.update()
    table = pd.DataFrame(rows)
    table.to_csv(out / "scores.csv", index=False)
    return table


def _write_map(single: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, single)


def _write_overlay(image: Path, before: np.ndarray, after: np.ndarray, path: Path) -> None:
    """The image, A over it and A_final over it, side by side; both maps on the scale of A."""
    picture = as_image(image)
    picture.thumbnail((512, 512))
    low, high = min(0.0, float(before.min())), max(float(before.max()), 1e-12)
    panels = [picture]
    for single in (before, after):
        share = ((single - low) / (high - low)).clip(0, 1)
        colours = Image.fromarray((mpl.colormaps[MAP_COLOURS](share)[..., :3] * 255).astype(np.uint8)).resize(picture.size)
        panels.append(Image.blend(picture, colours, 0.55))
    strip = Image.new("RGB", (3 * picture.width + 8, picture.height), "white")
    for k, panel in enumerate(panels):
        strip.paste(panel, (k * (picture.width + 4), 0))
    path.parent.mkdir(parents=True, exist_ok=True)
    strip.save(path)
