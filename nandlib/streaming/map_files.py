"""A folder of anomaly maps as the detector of some images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tifffile

from nandlib.data.maps import MAP_SUFFIXES, MapFolder
from nandlib.errors import DataError
from nandlib.streaming.listing import Listing


def map_folder(folder: Path, listing: Listing, examples: Sequence[Path] = ()) -> MapFolder:
    """The maps of images: under the images' relative paths, or, where no two images share a name, under their names alone.

    Of a single image the path may begin in any folder above it, the longest first.

    Args:
        folder: Of the maps.
        listing: The images.
        examples: Other images whose maps are asked for: names count among these too.

    Raises:
        DataError: If an image has no map, or a map cannot be read; the message names the first and says how many more.
    """
    images = [Path(listing.path(name)) for name in listing]
    every = {image.absolute() for image in (*images, *examples)}
    unique = len({image.stem for image in every}) == len(every)
    above = sorted(images[0].absolute().parents, key=lambda root: len(root.parts)) if len(images) == 1 else []
    place = folder.absolute()  # workers of a cluster stand in other folders
    for maps in (*(MapFolder(place, root) for root in above or [Path(listing.root)]), *((MapFolder(place),) if unique else ())):
        missing = [image for image in (*images, *examples) if not maps.has([image])]
        if not missing:
            for image in images:
                _check_readable(maps.path_of(image))
            return maps
    relative = (missing[0].relative_to(listing.root) if missing[0] in images else Path(missing[0].name)).with_suffix("")
    raise DataError(
        f"{len(missing)} of {len(images) + len(examples)} images have no map, the first is {missing[0]}: expected {folder / relative} "
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
