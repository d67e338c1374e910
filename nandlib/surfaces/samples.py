"""Surfaces to train on and to test: drawn parts, or the scans of MVTec 3D-AD."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile

from nandlib.data.groups import ALWAYS_ABNORMAL, GOOD, groups_of
from nandlib.data.images import is_hidden, load_mask
from nandlib.errors import DataError, nearest
from nandlib.surfaces.clouds import FEWEST, Cloud, as_cloud
from nandlib.surfaces.config import DrawnParts, ScannedParts
from nandlib.surfaces.faults import FAULTS, faulty
from nandlib.surfaces.parts import part

LARGE = 10.0  # metres: no scan of a part is so large, but in millimetres
BORDER, NEAR = 10, 0.005  # cells of the rim of a scan, in which the table lies; and how near to its plane, in metres, a point belongs to it


@dataclass(frozen=True)
class Sample:
    """A tested surface.

    Attributes:
        cloud: Its points.
        group: ``"good"``, the type of the fault, or ``""`` for what is abnormal but of no single type.
        mask: ``(P,)`` bool: the points that are at fault.
    """

    cloud: Cloud
    group: str
    mask: np.ndarray


@dataclass(frozen=True)
class SurfaceSplit:
    """One part: clouds to train on, and samples to be tested."""

    train: Sequence[Cloud]
    test: Sequence[Sample]

    @property
    def groups(self) -> np.ndarray:
        """``(N,)`` of the tested samples."""
        return np.array([own.group for own in self.test])

    @property
    def types(self) -> list[str]:
        """All types of faults, in the order in which they occur."""
        return groups_of(own.group for own in self.test)


def split_of(name: str, data: DrawnParts | ScannedParts, root: Path) -> SurfaceSplit:
    """One part of a study.

    Raises:
        DataError: If there is no such part, or a file is missing or not what it should be.
    """
    return _drawn(name, data) if isinstance(data, DrawnParts) else _scanned(root / data.root, name, data.points)


def _drawn(name: str, data: DrawnParts) -> SurfaceSplit:
    seeds = np.random.default_rng([data.seed, *name.encode()]).integers(2**31, size=data.n_train + data.n_good + data.n_fault * len(FAULTS))
    pieces = (part(name, int(seed), data.points) for seed in seeds)
    train = [next(pieces) for _ in range(data.n_train)]
    test = [Sample(one, GOOD, np.zeros(len(one), bool)) for one in (next(pieces) for _ in range(data.n_good))]
    for fault in FAULTS:
        for number in range(data.n_fault):
            cloud, mask = faulty(next(pieces), fault, [data.seed, number, *name.encode()])
            test.append(Sample(cloud, fault, mask))
    return SurfaceSplit(train, test)


def _scanned(root: Path, name: str, points: int) -> SurfaceSplit:
    base = root / name
    types = sorted(own.name for own in (base / "test").glob("*") if own.is_dir() and not is_hidden(own.name))
    if not types:
        known = sorted(own.name for own in root.glob("*") if (own / "test").is_dir())
        why = f"parts: no class '{name}': {nearest(name, known)}" if known else f"{base / 'test'} holds no folder"
        raise DataError(f"{why}; {root} must be MVTec 3D-AD, <class>/test/<type>/xyz/*.tiff")
    train = [scan(path, points)[0] for path in _files(base / "train/good/xyz")]
    test = []
    for kind in types:
        group = ALWAYS_ABNORMAL if kind == "combined" else kind
        for path in _files(base / "test" / kind / "xyz"):
            cloud, cells, size = scan(path, points)
            mask = np.zeros(size, bool) if kind == GOOD else _mask(base / "test" / kind / "gt" / f"{path.stem}.png", size)
            test.append(Sample(cloud, group, mask[tuple(cells.T)]))
    return SurfaceSplit(train, test)


def _mask(path: Path, size: tuple[int, int]) -> np.ndarray:
    if not path.is_file():
        raise DataError(f"{path} is missing: every faulty scan needs its mask")
    mask = load_mask(path)
    if mask.shape != size:
        raise DataError(f"{path} has {mask.shape} pixels, its scan {size}: they must be of one size")
    return mask


def _files(folder: Path) -> list[Path]:
    found = sorted(path for path in folder.glob("*.tif*") if path.suffix in (".tif", ".tiff") and not is_hidden(path.name))
    if not found:
        raise DataError(f"{folder} holds no .tiff")
    return found


def scan(path: Path, points: int) -> tuple[Cloud, np.ndarray, tuple[int, int]]:
    """An organised scan, thinned evenly and without the table that it lies on; the pixel of every point ``(P, 2)``, row and column; and the
    scan's size ``(H, W)``.

    The table is the plane of the scan's rim, and all within `NEAR` of it; a scan of whose rim less than half was measured has none.

    Args:
        path: A ``.tiff`` of coordinates ``(H, W, 3)`` in metres, as in MVTec 3D-AD: `NEAR` is in metres.
        points: About as many are kept.

    Raises:
        DataError: If it cannot be read, or holds no surface beside the table.
    """
    try:
        grid = tifffile.imread(path).astype(np.float64)
    except Exception as error:  # of a library that trusts what it reads
        raise DataError(f"{path} cannot be read as an organised cloud: {error}") from error
    if grid.ndim != 3 or grid.shape[2] != 3:
        raise DataError(f"{path}: expected an organised cloud (H, W, 3), got an array {grid.shape}")
    valid = np.isfinite(grid).all(2) & (grid != 0).any(2)
    if valid.any() and np.ptp(grid[valid], 0).max() > LARGE:
        raise DataError(f"{path} extends over {np.ptp(grid[valid], 0).max():.0f}: coordinates must be metres (divide millimetres by 1000)")
    measured = int(valid.sum())
    valid &= ~_on_table(grid, valid)
    if valid.sum() < FEWEST <= measured:
        raise DataError(f"{path}: all but {valid.sum()} of {measured} points lie in the plane of the rim, which is taken for the table")
    step = max(1, round(float(np.sqrt(valid.sum() / points))))
    kept = np.where(valid[::step, ::step, None], grid[::step, ::step], 0)
    cloud = as_cloud(kept, str(path))
    assert cloud.grid is not None  # what is organised stays so
    return cloud, np.argwhere(cloud.grid >= 0) * step, (grid.shape[0], grid.shape[1])


def _on_table(grid: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """``(H, W)`` bool: near the plane of the rim, found by least squares over what was near it before, a few times."""
    border = np.ones_like(valid)
    border[BORDER:-BORDER, BORDER:-BORDER] = False
    rim = valid & border
    near = grid[rim]
    if len(near) < max(FEWEST, border.sum() / 2):
        return np.zeros_like(valid)
    distances = np.empty(valid.shape)
    for _ in range(4):
        centre = near.mean(0)
        across = np.linalg.svd(near - centre, full_matrices=False)[2][2]
        distances = np.abs((grid - centre) @ across)
        near = grid[rim & (distances <= max(NEAR, float(np.median(distances[rim]))))]
    found: np.ndarray = valid & (distances < NEAR)
    return found
