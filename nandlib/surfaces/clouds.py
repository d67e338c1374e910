"""Point clouds: read, checked, written. P points."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import tifffile
from scipy.spatial import cKDTree

from nandlib.errors import DataError
from nandlib.numbers import as_numbers
from nandlib.surfaces.normals import NEIGHBOURS, normals_of

FEWEST = 16  # points that make a surface
FINE = 1e-5  # share of the extent by which a file may round coordinates
FLAT = 1e-9  # share of the greatest coordinate, or of one unit: below it a cloud has no extent
LARGEST = 1e15  # coordinate: squares of differences stay numbers in float32
_DECIMAL_COMMA = re.compile(r"(?<![^;\s])[+-]?\d+,\d+(?:[eE][+-]?\d+)?(?![^;\s])")
_EMPTY_CELL = re.compile(r"(?<![^,])\s*(?=,)")  # nothing before a comma, or between two


@dataclass(frozen=True, eq=False)  # arrays are not compared by one truth
class Cloud:
    """Points of a surface.

    Attributes:
        points: ``(P, 3)`` float64.
        grid: ``(H, W)`` int64 of an organised cloud: the point that lies in each cell, or -1; None: in no order.
    """

    points: np.ndarray
    grid: np.ndarray | None = None
    _found: list[np.ndarray] = field(default_factory=list, init=False, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.points)

    @cached_property
    def normals(self) -> np.ndarray:
        """``(P, 3)``: which way it faces at every point (`nandlib.surfaces.normals`)."""
        return normals_of(self.points, self.grid, self.nearest(NEIGHBOURS))

    def nearest(self, count: int) -> np.ndarray:
        """Of every point the nearest ones, itself first: positions ``(P, count)``, or all where there are fewer.

        The most that were asked for are kept, and fewer taken from these: ask for the most first.
        """
        count = min(count, len(self))
        known = self._found[0] if self._found else np.empty((len(self), 0), np.int32)
        if known.shape[1] < count:
            known = cKDTree(self.points).query(self.points, range(1, count + 1))[1].astype(np.int32)
            self._found[:] = [known]
        return known[:, :count].astype(np.intp)


def as_cloud(points: np.ndarray, source: str = "the cloud") -> Cloud:
    """A cloud from an array: ``(P, 3)`` in no order, or ``(H, W, 3)`` organised, where cells without a point are zero or no numbers.

    Of points in no order that are equal, one is kept: in a descriptor a neighbour at no distance would count for all others. Cells of a
    grid that hold the same numbers hold none, nor does an origin that is there more than once: so files say that nothing was measured.

    Args:
        points: Coordinates, in any unit.
        source: What they are, for messages.

    Raises:
        DataError: If it is no such array, too few points are left, or all lie in one place or on one line.
    """
    given = as_numbers(points, source)
    array = given.astype(np.float64)
    if array.ndim not in (2, 3) or array.shape[-1] != 3:
        raise DataError(f"{source}: expected points (P, 3) or an organised cloud (H, W, 3), got an array {array.shape}")
    valid = np.asarray(np.isfinite(array).all(-1))
    if array.ndim == 3:
        valid &= (array != 0).any(-1)
    found = array[valid]
    _, places, counts = np.unique(found, axis=0, return_inverse=True, return_counts=True)
    empty = counts[places.ravel()] > 1
    if array.ndim == 2:
        empty &= (found == 0).all(-1)
    if 0 < empty.sum() < len(found):
        valid[valid] = ~empty
        found = array[valid]
    if len(found) < FEWEST:
        raise DataError(f"{source}: {len(found)} usable points of {valid.size}: a surface needs {FEWEST} or more")
    extent = np.ptp(found, 0)
    if not extent.max() > FLAT * max(1.0, float(np.abs(found).max())):
        raise DataError(f"{source}: all points lie in one place: nothing was measured")
    if np.abs(found).max() > LARGEST:
        raise DataError(f"{source}: coordinates beyond {LARGEST:g}: give them in another unit, or leave such points out")
    if given.dtype in (np.float16, np.float32) and not _step(found, given.dtype) <= FINE * extent.max():
        raise DataError(f"{source}: {given.dtype} has rounded these coordinates coarsely: centre them before, or give float64")
    if _on_a_line(np.linalg.svd(found - found.mean(0), compute_uv=False)):
        raise DataError(f"{source}: all points lie on one line: they are no surface")
    if array.ndim == 2:
        different = np.sort(np.unique(found, axis=0, return_index=True)[1])
        if len(different) < FEWEST:
            raise DataError(f"{source}: {len(different)} different points of {valid.size}: a surface needs {FEWEST} or more")
        return Cloud(found[different])
    grid = np.full(valid.shape, -1)
    grid[valid] = np.arange(len(found))
    return Cloud(found, grid)


def along_axes(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centred points along their own axes, the longest first, ``(P, 3)``, and these axes ``(3, 3)``, one a row.

    Along each axis the longer tail is ahead, whatever the order of the points; a cloud that is symmetric about one has no such tail.

    Raises:
        DataError: If they lie on one line.
    """
    centred = points - points.mean(0)
    _, spread, axes = np.linalg.svd(centred, full_matrices=False)
    if _on_a_line(spread):
        raise DataError("the points lie on one line: they are no surface")
    along = centred @ axes.T
    ahead = np.where((along**3).sum(0) < 0, -1.0, 1.0)
    return along * ahead, axes * ahead[:, None]


def _step(points: np.ndarray, dtype: np.dtype) -> float:
    """By how much a type of numbers rounds the greatest coordinate."""
    with np.errstate(over="ignore"):
        return float(np.spacing(np.abs(points).max().astype(dtype)))


def _on_a_line(spread: np.ndarray) -> bool:
    """Of singular values, the greatest first."""
    return bool(spread[1] <= 1e-6 * spread[0])


def read_cloud(path: str | Path) -> Cloud:
    """A cloud from a file: PLY (by trimesh), XYZ (first three columns), OBJ, ``.npy`` ``(P, 3)`` or ``(H, W, 3)``, or MVTec 3D-AD's
    organised ``.tiff``. Of a mesh the vertices are read: one of few has to be sampled first.

    Raises:
        DataError: If it is missing, of another kind, or holds no surface.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path} is missing")
    suffix = path.suffix.lower()
    try:
        if suffix in (".tiff", ".tif"):
            return as_cloud(tifffile.imread(path), str(path))
        if suffix == ".npy":
            return as_cloud(np.load(path, allow_pickle=False), str(path))
        if suffix in (".xyz", ".obj"):
            return as_cloud(_rows(path), str(path))
        if suffix == ".ply":
            import trimesh

            loaded = trimesh.load(path, process=False)
            mesh = isinstance(loaded, trimesh.Trimesh) and len(loaded.faces) > 0
            points = _as_promised(np.asarray(getattr(loaded, "vertices", np.empty((0, 3)))), path)
            return as_cloud(points, f"{path} (a mesh, of which vertices are read)" if mesh else str(path))
    except DataError:
        raise
    except Exception as error:  # of three libraries, each with its own
        raise DataError(f"{path} cannot be read as a cloud: {error}") from error
    raise DataError(f"{path}: clouds are read from .ply, .xyz, .obj, .npy and .tiff")


def _as_promised(points: np.ndarray, path: Path) -> np.ndarray:
    """The points of a PLY, in float32 where its header says so; DataError if it holds fewer than the header promises."""
    with path.open("rb") as file:
        head = file.read(65536).partition(b"end_header")[0]
    promised = re.search(rb"element\s+vertex\s+(\d+)", head)
    if promised and len(points) < int(promised[1]):
        raise DataError(f"{path} is cut off: its header promises {int(promised[1])} points, it holds {len(points)}")
    return points.astype(np.float32) if re.search(rb"property\s+float(32)?\s+x", head) else points


def _rows(path: Path) -> np.ndarray:
    """Points ``(P, 3)`` of a text: a row a point, after a count or the names of columns; or the vertices of an OBJ."""
    lines = [line.split("#")[0].strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    if any(len(found := _DECIMAL_COMMA.findall(line)) > 2 and len(found) == len(re.split(r"[;\s]+", line)) for line in lines):
        raise DataError(f"{path}: its numbers have decimal commas, which here part columns: write points")
    lines = [_EMPTY_CELL.sub("nan", line.replace(";", ",")).replace(",", " ").strip() for line in lines]
    if path.suffix.lower() == ".obj":
        lines = [line[2:] for line in lines if line.split(None, 1)[:1] == ["v"]]
    lines = [line for line in lines if line]
    first = lines[0].split() if lines else []
    head = bool(first) and (len(first) < 3 or first[0][0].isalpha())
    return np.loadtxt(lines[head:], usecols=(0, 1, 2), ndmin=2) if lines[head:] else np.empty((0, 3))


def write_cloud(cloud: Cloud, path: str | Path) -> Path:
    """Write points as PLY (float32, by trimesh), XYZ or ``.npy`` (float64; an organised cloud as ``(H, W, 3)``, NaN where there is
    no point).

    Raises:
        DataError: For another kind of file, or if PLY would round points by as much as they lie apart.
    """
    path = Path(path)
    step = _step(cloud.points, np.dtype(np.float32))
    if path.suffix.lower() == ".ply" and not step <= FINE * np.ptp(cloud.points, 0).max():
        raise DataError(f"{path}: PLY holds float32, which would round these coordinates by {step:.2g}: write .npy or .xyz, or centre them")
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix.lower() == ".npy":
        grid = cloud.grid
        with path.open("wb") as file:  # numpy would add a suffix of its own to .NPY
            np.save(file, cloud.points if grid is None else np.where(grid[..., None] >= 0, cloud.points[grid], np.nan))
    elif path.suffix.lower() == ".xyz":
        np.savetxt(path, cloud.points, fmt="%.17g")
    elif path.suffix.lower() == ".ply":
        import trimesh

        trimesh.PointCloud(cloud.points).export(path)
    else:
        raise DataError(f"{path}: clouds are written to .ply, .xyz and .npy")
    return path
