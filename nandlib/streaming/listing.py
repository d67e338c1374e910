"""Images of folders, files and addresses, walked in order: none of it is held, however many they are."""

from __future__ import annotations

import heapq
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path, PurePosixPath

import fsspec

from nandlib.data.addresses import below, is_address, local_path
from nandlib.data.images import IMAGE_SUFFIXES, is_hidden, is_image, is_unread, whole_path
from nandlib.errors import DataError
from nandlib.streaming.results import PARTS


@dataclass(frozen=True)
class Listing:
    """All images of some places, with their subfolders: iterating walks them, sorted by their parts.

    Attributes:
        places: Absolute folders and files, or addresses that `fsspec` opens (``s3://bucket/images``).
        root: A folder that all of them are in.
        without: Folders below which nothing is taken, links followed.
    """

    places: tuple[str, ...]
    root: str
    without: tuple[Path, ...] = ()

    @classmethod
    def of(cls, places: Sequence[Path | str], without: Sequence[Path] = ()) -> Listing:
        """Images of folders and files.

        Args:
            places: Folders and files, or addresses of one file system.
            without: Folders below which nothing is taken, unless a place lies in them: results and maps may lie among the images.

        Raises:
            DataError: If a place does not exist, a file is no image by its name, nothing is found, or addresses and paths are mixed.
        """
        places = [local_path(place) for place in places]
        if not places:
            raise DataError("no place was given: give image files, or folders of them")
        remote = [is_address(place) for place in places]
        if any(remote):
            if len(places) > 1:
                raise DataError(f"{places[remote.index(True)]}: give one address, or folders and files of this machine")
            place, chain, rest = str(places[0]).partition("::")
            place = place if place.endswith("://") else place.rstrip("/")
            folder = place[: place.rindex("/") + 1] if is_image(PurePosixPath(place).name) else place
            found = cls((f"{place}{chain}{rest}",), f"{folder}{chain}{rest}")
        else:
            paths = [whole_path(place) for place in places]
            for path in paths:
                _check_place(path)
            real = [path.resolve() for path in paths]
            barred = [folder for folder in map(Path.resolve, without) if not any(path.is_relative_to(folder) for path in real)]
            alone = len(paths) == 1 and paths[0].is_dir()
            try:
                root = str(paths[0] if alone else os.path.commonpath([path if path.is_dir() else path.parent for path in paths]))
            except ValueError as error:
                raise DataError(f"{', '.join(map(str, places))} lie on several drives: give images of one") from error
            found = cls(tuple(map(str, paths)), root, tuple(barred))
        if next(iter(found), None) is None:
            raise DataError(f"no image in {', '.join(map(str, places))}: looked for {', '.join(IMAGE_SUFFIXES)}")
        return found

    def __iter__(self) -> Iterator[str]:
        """Names of images: posix paths below `root`."""
        walks = [_walk_address(place) if is_address(place) else self._walk(Path(place)) for place in self.places]
        for name, _ in groupby(heapq.merge(*walks, key=lambda name: PurePosixPath(name).parts)):  # places may overlap
            yield name

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def unread(self) -> list[str]:
        """Names of pictures in folders of this machine that are of a kind that is not read, such as ``.webp``."""
        folders = [Path(place) for place in self.places if not is_address(place) and Path(place).is_dir()]
        found = {_name(path, self.root) for folder in folders for path in _walk(folder, self.without, wanted=is_unread)}
        return sorted(found)

    def path(self, name: str) -> str:
        """The path or address of an image."""
        return below(self.root, name) if is_address(self.root) else f"{self.root.rstrip('/')}/{name}"

    def _walk(self, place: Path) -> Iterator[str]:
        paths = _walk(place, self.without) if place.is_dir() else iter([place])
        return (_name(path, self.root) for path in paths)


def _name(path: Path, root: str) -> str:
    name = path.relative_to(root).as_posix()
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{name!r}: the name of this image is no UTF-8: rename it") from error
    return name


def find_images(places: Sequence[Path]) -> list[Path]:
    """All images in folders (with their subfolders) and files, as absolute paths, sorted.

    Raises:
        DataError: If a place does not exist, a file is no image by its name, or nothing is found.
    """
    listing = Listing.of(places)
    return [Path(listing.path(name)) for name in listing]


def _check_place(place: Path) -> None:
    if not place.exists():
        raise DataError(f"{place} does not exist: give image files, or folders of them")
    if place.is_file() and not is_image(place.name):
        raise DataError(f"{place} is no image: {', '.join(IMAGE_SUFFIXES)} are read")


def _walk(folder: Path, without: Sequence[Path], within: Sequence[Path] = (), wanted: Callable[[str], bool] = is_image) -> Iterator[Path]:
    """Links to folders are followed, unless they lead back to one that they are `within`; what `nand apply` has written is left out, and
    what a system puts beside images."""
    real = folder.resolve()
    if real in within or any(real.is_relative_to(own) for own in without):
        return
    try:
        with os.scandir(folder) as entries:
            kinds = sorted((entry.name, _is_folder(entry)) for entry in entries if not is_hidden(entry.name))
    except (FileNotFoundError, NotADirectoryError):
        if not within:
            raise
        return  # it has gone since it was seen
    if within and {("setting.json", False), ("shards", True)} <= set(kinds):  # results of another run, whose overlays are no images
        kinds = [(name, is_folder) for name, is_folder in kinds if name not in PARTS]
    for name, is_folder in kinds:
        if is_folder:
            yield from _walk(folder / name, without, (*within, real), wanted)
        elif wanted(name):
            yield folder / name


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads in a circle, or where nobody may look
        return False


def _walk_address(address: str) -> Iterator[str]:
    """Names below an address; a file system that is not here lists them at once."""
    try:
        files, root = fsspec.core.url_to_fs(address)
        found = sorted(map(PurePosixPath, files.find(root)), key=lambda path: path.parts)
    except Exception as error:  # of any file system
        raise DataError(f"{address} cannot be listed ({error}): see whether the address is right and its package is installed") from error
    top = PurePosixPath(root).parent if is_image(PurePosixPath(root).name) else PurePosixPath(root)
    results = {path.parent / part for path in found if path.name == "setting.json" and path.parent != top for part in PARTS}
    names = (path.relative_to(top) for path in found if is_image(path.name) and not results & set(path.parents))
    return (str(name) for name in names if not any(map(is_hidden, name.parts)))
