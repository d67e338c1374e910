"""The work on one shard of images: read ahead, looked at batch by batch, written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from nandlib.data.addresses import read
from nandlib.data.ahead import ahead, batched
from nandlib.data.batch import Batch, Preprocess
from nandlib.data.held import written
from nandlib.data.images import ImageLike, load_image
from nandlib.data.maps import MapFolder, check_maps
from nandlib.detectors.base import TorchDetector
from nandlib.errors import DataError
from nandlib.method.adapt import AdaptedDetector
from nandlib.streaming.listing import Listing
from nandlib.streaming.overlay import overlay
from nandlib.streaming.results import Digest, Results, Shard, digest


@dataclass(frozen=True)
class How:
    """What is written, and how.

    Attributes:
        store: "files": ``maps/<image>.npy``; "shards": all maps of a shard in one safetensors file, float32 under the images' names.
        overlays: Write ``overlays/<image>.png``.
        batch: Images that go through a network at once.
        skip_unreadable: Note what cannot be read in ``unreadable.csv`` and go on, instead of stopping there.

    Raises:
        DataError: If there is no such store, or no image in a batch.
    """

    store: Literal["files", "shards"] = "files"
    overlays: bool = True
    batch: int = 8
    skip_unreadable: bool = False

    def __post_init__(self) -> None:
        if self.store not in ("files", "shards") or self.batch < 1:
            raise DataError(f"store is {self.store!r}, batch {self.batch}: 'files' or 'shards', and 1 or more")

    def files(self, results: Results, name: str) -> list[Path]:
        """Map and overlay of an image, as far as they are files of their own."""
        stem = PurePosixPath(name).with_suffix("")
        of_map = [results.folder / f"maps/{stem}.npy"] if self.store == "files" else []
        return of_map + ([results.folder / f"overlays/{stem}.png"] if self.overlays else [])

    def there(self, results: Results, name: str) -> bool:
        """Whether they are there, and not empty, as a machine that fell may leave them."""
        return all(path.is_file() and path.stat().st_size for path in self.files(results, name))

    def read(self, detector: Any, listing: Listing, name: str) -> tuple[Digest, bytes | DataError]:
        """What has changed if an image has, and the image's content: nothing and why, if that cannot be read and is skipped."""
        try:
            content = read(listing.path(name))
            return digest_of(detector, listing, name, content), content
        except DataError as error:
            return b"", self.problem(error)

    def problem(self, error: DataError) -> DataError:
        """That of an image which is skipped.

        Raises:
            DataError: If none is.
        """
        if not self.skip_unreadable:
            raise DataError(f"{error}; --skip-unreadable (`How(skip_unreadable=True)`) lists such images and goes on") from error
        return error


@dataclass(frozen=True)
class _Read:
    """An image as the readers hand it on; without one, the problem."""

    name: str
    digest: Digest
    image: Image.Image | None
    inputs: Mapping[Preprocess, torch.Tensor] = field(default_factory=dict)
    problem: str | None = None


@dataclass(frozen=True)
class Work:
    """What is done with shards of images; the same bytes come of it wherever and however often it is done.

    Attributes:
        adapted: The detector with its normalities.
        listing: Where the images are.
        results: Where the results go.
        how: What is written.
    """

    adapted: AdaptedDetector
    listing: Listing
    results: Results
    how: How

    @torch.no_grad()
    def __call__(self, shard: Shard) -> int:
        """Write all results of a shard, its scores last. Gives the number of its images.

        Raises:
            DataError: If an image cannot be read, a map is not as it must be, or a file cannot be written.
        """
        rows, maps = [], dict[str, torch.Tensor]()
        for path in (path for name in shard.images for path in self.how.files(self.results, name)):
            with suppress(OSError):  # there is none, or writing will say why it cannot be replaced
                path.unlink()  # of another content: if this run is stopped, no row vouches for it
        for batch in batched(ahead(self._read, shard.images, 2 * self.how.batch), self.how.batch):
            ready = [one for one in batch if one.image is not None]
            found = self._scores(ready, maps) if ready else {}
            rows += [{"image": one.name, "digest": one.digest, "problem": one.problem, **found.get(one.name, {})} for one in batch]
        if self.how.store == "shards":
            written(self.results.shards / f"{shard.name}.safetensors", partial(save_file, maps))
        self.results.write(shard, rows)
        return len(shard.images)

    def _read(self, name: str) -> _Read:
        own, content = self.how.read(self.adapted.detector, self.listing, name)
        if isinstance(content, DataError):
            return _Read(name, own, None, problem=str(content))
        try:
            image = load_image(self.listing.path(name), content)
        except DataError as error:
            return _Read(name, own, None, problem=str(self.how.problem(error)))
        return _Read(name, own, image, {preprocess: preprocess(image) for preprocess in self._preprocesses})

    @property
    def _preprocesses(self) -> tuple[Preprocess, ...]:
        """Of the networks that see images, the detector's and the model's: the readers' work, not the network's thread's."""
        detector, model = self.adapted.detector, self.adapted.model
        own = [detector.preprocess] if isinstance(detector, TorchDetector) else []
        return tuple(dict.fromkeys([*own, *([model.preprocess] if self.adapted.names else [])]))

    def _scores(self, ready: Sequence[_Read], maps: dict[str, torch.Tensor]) -> dict[str, dict[str, Any]]:
        """Write maps and overlays of a batch, or gather the maps; rows by name."""
        detector, images = self.adapted.detector, [one.image for one in ready if one.image is not None]
        pictures = Batch(images, {preprocess: [one.inputs[preprocess] for one in ready] for preprocess in self._preprocesses})
        paths: list[ImageLike] = [self.listing.path(one.name) for one in ready]
        before = check_maps(detector(paths if isinstance(detector, MapFolder) else pictures), len(images), type(detector).__name__)
        rows = {}
        for one, image, base, after in zip(ready, images, before, self.adapted.damp(pictures, before), strict=True):
            stem = PurePosixPath(one.name).with_suffix("")
            if self.how.store == "shards":
                maps[one.name] = torch.from_numpy(np.ascontiguousarray(after))
            else:
                written(self.results.folder / f"maps/{stem}.npy", partial(_save, array=after))
            if self.how.overlays:
                written(self.results.folder / f"overlays/{stem}.png", partial(overlay(image, base, after).save, format="png"))
            whole = float(base.sum(dtype=np.float64))
            removed = 100 * (1 - float(after.sum(dtype=np.float64)) / whole) if whole else 0.0
            rows[one.name] = {"score_before": base.max(), "score_after": after.max(), "removed": removed}
        return rows


def digest_of(detector: Any, listing: Listing, name: str, content: bytes) -> Digest:
    """Of all that is an image's own: its content, and its map's where maps come from files."""
    of_map = digest(read(str(detector.path_of(listing.path(name))))) if isinstance(detector, MapFolder) else b""
    return digest(content) + of_map


def _save(path: Path, array: np.ndarray) -> None:
    with open(path, "wb") as file:  # numpy.save would add a suffix
        np.save(file, array)
