"""Images and masks from files and from memory."""

from __future__ import annotations

import hashlib
import io
import os
import threading
import warnings
from collections.abc import Iterator, Set
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageFile, ImageOps, UnidentifiedImageError

from nandlib.data.addresses import is_address, refuse_pipe
from nandlib.errors import DataError

ImageLike = str | Path | Image.Image | np.ndarray
MOST_PIXELS = 1 << 27  # of an image: 400 MB as RGB
ORIENTATION = ExifTags.Base.Orientation
PHOTOMETRIC = 262  # TIFF: 0 where 0 is white
WHITE = 250  # of 255: what a soft edge rises to
MOST_TYPES = 32  # values of a mask that are numbers of types
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")  # that are read
_OPENED = threading.Lock()  # pictures that PIL opened share their file among threads
PICTURE_SUFFIXES = (*IMAGE_SUFFIXES, ".webp", ".gif", ".jp2", ".jxl", ".jfif", ".heic", ".avif", ".pgm", ".ppm", ".pbm", ".pnm")


def load_image(path: Path | str, content: bytes | None = None) -> Image.Image:
    """An image file as 8-bit RGB, turned as its EXIF orientation says. 16-bit grey is scaled by its format's range; numbers with a point
    lie in 0 to 1, or in 0 to 255.

    Args:
        path: The file.
        content: What it holds, where that is at hand already; then `path` is only its name.

    Raises:
        DataError: If the file is missing, truncated, no image, several images, larger than `MOST_PIXELS`, or of numbers in another range.
    """
    with _opened(path, content) as image:
        return _rgb(image, path)


@contextmanager
def _opened(path: Path | str, content: bytes | None = None) -> Iterator[Image.Image]:
    """The image of a file, upright, with what it holds not looked at yet; whatever goes wrong until it is closed names the file."""
    with _named(path, "" if content is not None else ", or, in a study, set data.on_unreadable to 'skip'"):
        if content is None:
            refuse_pipe(path)
        with Image.open(path if content is None else io.BytesIO(content)) as image:
            yield _checked(image, path)


def _checked(image: Image.Image, path: Path | str) -> Image.Image:
    """What a file holds, upright; not several, nor more than can be held."""
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise DataError(f"{path} cannot be read as an image ({width} x {height} pixels): cut it into parts, or make it smaller")
    pictures = getattr(image, "n_frames", 1)
    if pictures > 1 and image.format != "MPO":  # a camera's photograph, and a smaller copy of it
        raise DataError(f"{path} cannot be read as an image (it holds {pictures}): save each as a file of its own")
    if image.format == "TIFF" and image.getexif().get(ORIENTATION, 1) > 4:  # Pillow 13 takes width for height, and reads noise
        raise DataError(f"{path} cannot be read as an image (a TIFF that lies on its side): turn it, and save it again")
    if image.format == "TIFF" and image.mode.startswith("I") and image.getexif().get(PHOTOMETRIC) == 0:  # heeded in 8 bits alone
        raise DataError(f"{path} cannot be read as an image (a TIFF in which 0 is white): save it with 0 as black")
    return _upright(image)


@contextmanager
def _named(path: Path | str, skip: str = "") -> Iterator[None]:
    """Whatever goes wrong names the file, and what can be done: to `skip` it too."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # of a library that trusts what it reads
        why = "it is none that is known" if isinstance(error, UnidentifiedImageError) else str(error)
        raise DataError(f"{path} cannot be read as an image ({why}): replace the file{skip}") from error


def _upright(image: Image.Image) -> Image.Image:
    image.load()  # damaged pixels raise here, and only here: asked again, Pillow gives what it has
    try:
        return image if image.getexif().get(ORIENTATION, 1) == 1 else ImageOps.exif_transpose(image)
    except Exception:  # an EXIF block that cannot be read says nothing
        return image


def _rgb(image: Image.Image, name: Path | str) -> Image.Image:
    """As 8-bit RGB; `name` stands in the error for numbers that no range fits."""
    if image.mode == "F":
        array = np.asarray(image)
        low, high = float(array.min()), float(array.max())
        if not (low >= 0 and high <= 255):  # no numbers too
            raise DataError(f"{name} cannot be read as an image (numbers from {low:g} to {high:g}): scale them to 0..1 or 0..255 first")
        if 1 < high < 2:  # of 0..255 hardly anything would be seen: an image of 0..1 whose resizing went beyond
            raise DataError(f"{name} cannot be read as an image (numbers from {low:g} to {high:g}): clip them to 0..1 first")
        return Image.fromarray((array * (255 if high <= 1 else 1)).round().astype(np.uint8)).convert("RGB")
    if image.mode.startswith("I"):
        whole = np.asarray(image, np.int64)
        low, high = int(whole.min()), int(whole.max())
        if low < 0 or high > 65535:
            found = f"numbers from {low} to {high}" + (", or beyond 31 bits" if low < 0 else "")
            raise DataError(f"{name} cannot be read as an image ({found}): scale them to 0..255 or 0..65535 first")
        if high <= 255 and not image.mode.startswith("I;16"):  # a bright image of 8 bits, or a dark one of 16
            raise DataError(f"{name} cannot be read as an image (32 bits, all at 255 or below): save it with 8 or 16 bits, as it is meant")
        if 0 < high < 4096:  # the same words for all, so that Python says it once
            said = "an image of 16 bits holds nothing above 4095, and is read as nearly black"
            warnings.warn(f"{said}: if it is of 8, 10 or 12 bits, multiply it by 257, 64 or 16 first", stacklevel=2)
        return Image.fromarray((whole / 257).astype(np.uint8)).convert("RGB")
    return image.convert("RGB")


def is_hidden(name: str) -> bool:
    """What a system or a server puts beside files and folders: ``._000.png``, ``.ipynb_checkpoints``, ``@eaDir``."""
    return name.startswith((".", "@"))


def is_image(name: str) -> bool:
    """Whether a file is an image that can be read, by its name."""
    return name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")


def is_unread(name: str) -> bool:
    """Whether a file is a picture of a kind that is not read, by its name."""
    return name.lower().endswith(PICTURE_SUFFIXES) and not (is_image(name) or is_hidden(name))


def refuse_single(images: Any, name: str) -> None:
    """Raise DataError for one image where a sequence of images is meant: its characters or rows would be taken for images; and for what has
    no order or no length."""
    if images is None:
        raise DataError(f"{name} is None: leave it out, or give a sequence of images")
    text = isinstance(images, np.ndarray) and images.dtype.kind in "UO"
    if getattr(images, "ndim", 0) == 2 and (text or hasattr(images, "columns")):
        raise DataError(f"{name} is a table: give its one column of images, as table['path'] or array[:, 0]")
    if text and images.ndim > 2:
        raise DataError(f"{name} is an array of {images.dtype}: give a list of images, or an array of uint8")
    if isinstance(images, (Set, Iterator)):
        raise DataError(f"{name} must be a sequence of images, in an order: sorted(paths), or list(images)")
    if isinstance(images, (str, Path)) and Path(images).is_dir():
        raise DataError(f"{name} must be a sequence of images, not a folder: sorted(Path({str(images)!r}).glob('*.png'))")
    one = isinstance(images, (str, Path, Image.Image)) or not hasattr(images, "__len__")
    if isinstance(images, np.ndarray) and images.dtype.kind in "buif" and images.size:
        one = images.ndim == 2 or (images.ndim == 3 and images.shape[-1] in (1, 3, 4))  # a stack of grey images is wider
    if one:
        raise DataError(f"{name} must be a sequence of images, not one: [image]")


def load_mask(path: Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """A mask file, or all of a folder together, as bool ``(H, W)``; resized to `size` ``(H, W)`` by nearest neighbour if given.

    A pixel is marked if its brightest channel is not 0, or, in a mask that goes to white or has many values, and so soft edges, above
    127. What is transparent is not marked, if anything else is.

    Raises:
        DataError: If the file is no image, or the folder holds none or such of several sizes.
    """
    if path.is_dir():
        parts = [load_mask(part, size) for part in sorted(path.iterdir()) if is_image(part.name)]
        if len({part.shape for part in parts}) != 1:
            raise DataError(f"{path}: {len(parts)} masks" + (" of several sizes" if parts else ": it must hold one or more"))
        together: np.ndarray = np.any(parts, axis=0)
        return together
    found = marked(_brightest(path))
    if size is not None:
        found = np.asarray(Image.fromarray(found).resize((size[1], size[0]), Image.Resampling.NEAREST))
    return found


def marked(mask: np.ndarray) -> np.ndarray:
    """Which pixels of a mask ``(H, W)`` are marked: those that are not 0, or, in a mask that goes to white, or an 8-bit one that has many
    values, and so soft edges, above half of white; numbers with a point, which lie in [0, 1], from 0.5.

    Raises:
        DataError: If numbers with a point lie elsewhere.
    """
    most = mask.max(initial=0)
    if mask.dtype.kind == "f":
        if not (np.isfinite(mask).all() and mask.min(initial=0) >= 0 and most <= 1):
            raise DataError("a mask of numbers with a point must lie in 0..1: give true and false, or uint8")
        half: np.ndarray = mask >= 0.5
        return half
    if mask.dtype != np.uint8 and most >= 257 * WHITE:  # of 16 bits
        return np.asarray(mask > 257 * 127)
    soft = mask.dtype == np.uint8 and (most >= WHITE or (most > 127 and len(np.unique(mask)) > MOST_TYPES))
    found: np.ndarray = mask > (127 if soft else 0)
    return found


def mask_numbers(path: Path) -> np.ndarray:
    """The numbers of a mask file ``(H, W)``: of 16 or 32 bits as they are, all else as 8-bit grey.

    Raises:
        DataError: If the file is no image, or one in colours, of which several would be one grey.
    """
    with _opened(path) as image:
        if image.mode.startswith("I"):
            return np.array(image, np.int32)
        pixels = np.array(_rgb(image, path))
    if (pixels != pixels[..., :1]).any():
        raise DataError(f"{path} is a mask in colours: which types it shows is said by greys, one for a type")
    return pixels[..., 0].copy()


def _brightest(path: Path) -> np.ndarray:
    """`mask_numbers`, where a colour counts by its greatest channel."""
    with _opened(path) as image:
        if image.mode.startswith("I"):
            return np.array(image, np.int32)
        bright: np.ndarray = np.array(_rgb(image, path)).max(2)
        if not image.has_transparency_data:
            return bright
        shown = np.minimum(bright, np.array(image.convert("RGBA").getchannel("A")))
        return shown if shown.any() else bright


def turned(array: np.ndarray, position: int) -> np.ndarray:
    """A view of an image or map ``(H, W, ...)`` in a position of a square: 0 as it is, 1 to 3 by quarter turns, 4 to 7 mirrored too."""
    found = np.rot90(array, position % 4)
    return found[:, ::-1] if position >= 4 else found


def evenly(count: int, most: int) -> list[int]:
    """Positions of at most `most` of `count` things, evenly over their order."""
    chosen: list[int] = np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int)).tolist()
    return chosen


def whole_path(place: str | Path) -> Path:
    """A path from the root, with no ``..`` in it. Links stay, unless a ``..`` may lead out of one."""
    place = Path(place)
    return place.resolve() if ".." in place.parts else place.absolute()


def placed(image: ImageLike) -> ImageLike:
    """A path as it is kept to be opened again, wherever the working directory is by then; all else as it is."""
    return whole_path(image) if isinstance(image, (str, Path)) and not is_address(image) else image


def kept(image: ImageLike) -> ImageLike:
    """An image that is looked at later: what is in memory as a copy, since the caller's may change."""
    if isinstance(image, (str, Path)):
        return placed(image)
    own = as_image(image).copy()
    own.filename = getattr(image, "filename", "")  # type: ignore[attr-defined]  # by which it is known again (`identities`)
    return own


def as_image(image: ImageLike) -> Image.Image:
    """A path, PIL image or uint8 array ``(H, W)`` or ``(H, W, 3)`` as an RGB image: the same, however it is given. What `PIL.Image.open`
    gives is turned as its file is; what was made of it since is taken as it is.

    Raises:
        DataError: If the file cannot be read, an array has another type or shape, there is no pixel, or numbers with a point lie in another
            range.
    """
    if isinstance(image, (str, Path)):
        return load_image(Path(image))
    if isinstance(image, (np.ndarray, Image.Image)) and 0 in (image.shape if isinstance(image, np.ndarray) else image.size):
        raise DataError(f"an image without a pixel, {getattr(image, 'shape', None) or image.size}: look at where it was cut out")
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8:
            raise DataError(f"an image array must be uint8, not {image.dtype}: scale it to 0..255 first")
        if image.ndim not in (2, 3) or image.shape[2:] not in ((), (1,), (3,), (4,)):
            raise DataError(f"an image array must be (H, W) or (H, W, 3), not {image.shape}")
        return Image.fromarray(image[..., 0] if image.shape[2:] == (1,) else image).convert("RGB")
    if not isinstance(image, Image.Image):
        raise DataError(f"an image is a path, a PIL image or a uint8 array (H, W, 3), not {type(image).__name__}")
    if not isinstance(image, ImageFile.ImageFile):
        return _rgb(image, "the image")
    name = getattr(image, "filename", "") or "the image"
    with _named(name), _OPENED:
        return _rgb(_checked(image, name), name)


def identities(image: ImageLike) -> set[Path | bytes]:
    """By what an image is known again: its file, links followed; of what is in memory its pixels, and the file that it was opened from, if
    that has the same."""
    if isinstance(image, (str, Path)):
        return set() if is_address(image) else {Path(os.path.realpath(image))}
    found: set[Path | bytes] = {pixel_key(image)}
    name = os.fsdecode(getattr(image, "filename", ""))
    with suppress(DataError):  # which is none by now
        if name and pixel_key(name) in found:
            found.add(Path(os.path.realpath(name)))
    return found


def pixel_key(image: ImageLike) -> bytes:
    """What two images share whose pixels are the same, whatever their files are called."""
    pixels = as_image(image)
    return hashlib.sha256(f"{pixels.size}".encode() + pixels.tobytes()).digest()
