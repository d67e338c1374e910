"""Anomaly maps, the form in which everything speaks of a detector: float32 ``(H, W)``, larger is more anomalous."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tifffile
from torch import Tensor

from nandlib.data.images import ImageLike, whole_path
from nandlib.errors import DataError

MAP_SUFFIXES = (".npy", ".tiff", ".tif")
NPY = b"\x93NUMPY"  # the first bytes of such a file


class Detector(Protocol):
    """Any callable from a sequence of images to maps ``(N, H, W)``, larger is more anomalous."""

    def __call__(self, images: Sequence[ImageLike]) -> Any: ...


class MapFolder:
    """A detector whose maps are already on disk, as .npy or .tiff, under the images' names.

    Args:
        folder: The maps: ``<folder>/<image path relative to image_root, without suffix>.npy`` (or .tiff).
        image_root: Root of the images; None: maps are found by the stem of the image's name alone.
    """

    def __init__(self, folder: str | Path, image_root: str | Path | None = None) -> None:
        self.folder = whole_path(folder)  # whoever changes the working directory still finds it
        self.image_root = None if image_root is None else whole_path(image_root)
        if self.folder.is_file():
            raise DataError(
                f"{self.folder} is a file, not a folder of anomaly maps: a checkpoint of anomalib's Engine is opened by "
                "nandlib.integrations.anomalib.load_module; another network is given as a function from a list of images to maps"
            )
        if not self.folder.is_dir():
            raise DataError(f"{self.folder} is not a folder of anomaly maps (a detector of a name is made by nandlib.fit_detector)")
        self._taken = dict[Path, Path]()  # map → image, of every call, since the next asks for others

    def path_of(self, image: str | Path) -> Path:
        """The map file of an image.

        Raises:
            DataError: If there is none.
        """
        image, stem = Path(image), Path(Path(image).stem)
        if self.image_root is not None:
            whole, root = whole_path(image), self.image_root
            if not whole.is_relative_to(root):  # as it is named; by the files themselves, links followed
                whole, root = Path(os.path.realpath(image)), root.resolve()
            if not whole.is_relative_to(root):
                raise DataError(
                    f"{image} is not inside image_root {self.image_root}, of whose images {self.folder} holds the maps: put it there, "
                    "and its map here"
                )
            stem = whole.relative_to(root).with_suffix("")
        for suffix in MAP_SUFFIXES:
            path = self.folder / stem.with_name(stem.name + suffix)
            if path.is_file():
                return path
        raise DataError(f"no anomaly map for {image}: expected {self.folder / stem} with one of {', '.join(MAP_SUFFIXES)}")

    def has(self, images: Sequence[ImageLike]) -> bool:
        """Whether there are maps of all of these."""
        try:
            return all(isinstance(image, (str, Path)) and self.path_of(image).is_file() for image in images)
        except DataError:
            return False

    def __call__(self, images: Sequence[ImageLike]) -> list[np.ndarray]:
        """One ``(H, W)`` map an image; `images` must be paths."""
        maps = []
        for image in images:
            if not isinstance(image, (str, Path)):
                raise DataError("a folder of maps needs the paths of the images, not the images themselves")
            path, whole = self.path_of(image), Path(os.path.realpath(image))
            found, other = check_map(_read(path), str(path)), self._taken.get(path, whole)
            if other != whole and (other.exists() or not whole.exists()):  # else it has moved
                fix = "give MapFolder the image_root" if self.image_root is None else "rename one of them"
                raise DataError(f"{other} and {image} would share the map {path}: {fix}")
            self._taken[path] = whole
            maps.append(found)
        return maps


def _read(path: Path) -> np.ndarray:
    """The array of a map file. Objects are never loaded, and a header that promises more than the file holds gets nothing.

    Raises:
        DataError: If it cannot be read.
    """
    try:
        with path.open("rb") as file:
            if path.suffix == ".npy" and file.read(len(NPY)) != NPY:
                raise ValueError("it does not begin as a .npy file")  # numpy would advise to load it unsafely
        found = np.load(path, mmap_mode="r", allow_pickle=False) if path.suffix == ".npy" else tifffile.imread(path)
    except Exception as error:  # of libraries that trust what they read
        raise DataError(f"{path} cannot be read as an anomaly map ({error}): write it anew, with numpy.save or tifffile.imwrite") from error
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "fiub":
        raise DataError(f"{path}: an anomaly map holds numbers, not {getattr(found, 'dtype', type(found).__name__)}")
    return np.array(found)  # in memory: a mapped file would stay open


def check_map(array: Any, source: str) -> np.ndarray:
    """One anomaly map as float32 ``(H, W)``, in memory of its own: a detector may use its again. Leading dimensions of length 1 are
    dropped, and of a prediction its ``anomaly_map`` is taken.

    Raises:
        DataError: If it has another number of dimensions or holds NaN, infinity or a value below 0; the message names `source`.
    """
    array = array.get("anomaly_map", array) if isinstance(array, Mapping) else getattr(array, "anomaly_map", array)
    if isinstance(array, Tensor):
        array = array.detach().cpu().float().numpy()
    try:
        with np.errstate(over="ignore"):  # found below
            array, given = np.array(array, np.float32, order="C"), np.asarray(array)
    except (TypeError, ValueError) as error:
        raise DataError(f"{source}: an anomaly map must be numbers (H, W), not {type(array).__name__}") from error
    while array.ndim > 2 and array.shape[0] == 1:
        array = array[0]
    if array.ndim != 2 or 0 in array.shape:
        raise DataError(f"{source}: an anomaly map must be (H, W), not {array.shape}")
    if not np.isfinite(array).all():
        if given.dtype.kind in "fiub" and np.isfinite(given).all():
            raise DataError(f"{source}: the anomaly map goes up to {given.max():.3g}, beyond float32: scale all maps alike")
        raise DataError(f"{source}: the anomaly map holds {int((~np.isfinite(array)).sum())} NaN or infinite values")
    if array.min() < 0:
        raise DataError(
            f"{source}: the anomaly map goes down to {array.min():.3g}: only what is 0 or more can be damped (Eq. 6). Take the least value "
            f"of normal images' maps from all maps, and set what is below it to 0"
        )
    return array


def check_maps(maps: Any, n_images: int, source: str) -> list[np.ndarray]:
    """What a detector returned for `n_images` images as a list of float32 ``(H, W)`` maps.

    Raises:
        DataError: If the number or shape of the maps is wrong, or a map holds NaN, infinity or a value below 0.
    """
    maps = maps.get("anomaly_map", maps) if isinstance(maps, Mapping) else getattr(maps, "anomaly_map", maps)
    if isinstance(maps, Mapping) or (isinstance(maps, tuple) and maps and 1 < n_images == len(np.atleast_3d(maps[0])) != len(maps)):
        raise DataError(f"{source} returned a {type(maps).__name__}: it must return the maps alone, (N, H, W)")
    if not hasattr(maps, "__len__"):
        raise DataError(f"{source} returned {type(maps).__name__}, not maps (N, H, W)")
    if len(maps) != n_images:
        raise DataError(f"{source} returned {len(maps)} maps for {n_images} images: it must return (N, H, W)")
    return [check_map(single, f"{source}, image {k}") for k, single in enumerate(maps)]
