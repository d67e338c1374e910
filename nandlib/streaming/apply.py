"""A normality applied to any number of images: what is new or has changed is worked on, shard by shard."""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import pyarrow as pa
from tqdm.auto import tqdm

from nandlib.data.maps import Detector, MapFolder
from nandlib.errors import DataError
from nandlib.method.adapt import AdaptedDetector
from nandlib.streaming.here import Here
from nandlib.streaming.listing import Listing
from nandlib.streaming.results import Digest, Known, Results, Shard
from nandlib.streaming.work import How, Work

SHARD = 256  # images, at most
SHARDS = 16  # of few images, so that several workers have something to do
CAPITALS = sys.platform == "linux"  # whether file systems tell A.png from a.png


class Engine(Protocol):
    """Does work on shards, somewhere, by some threads each; gives the number of images of each that is done."""

    @property
    def threads(self) -> int: ...

    def __call__(self, work: Work, shards: Iterator[Shard], /) -> Iterator[int]: ...


def apply(
    adapted: Callable[[], AdaptedDetector],
    listing: Listing,
    out: Path,
    setting: Mapping[str, Any],
    how: How = How(),
    *,
    maps: MapFolder | None = None,
    engine: Engine = Here(),
    progress: bool = False,
) -> pa.Table:
    """Write adapted maps, overlays and scores to a folder; what is there already and has not changed stays.

    The folder gets ``shards/`` (`nandlib.streaming.results`), ``maps/`` and ``overlays/`` as `how` says, and ``scores.csv``: image,
    score_before, score_after (maxima of A and A_final), removed (share of the sum of A that is gone, in percent); with maps in shards
    ``maps.csv``: image, file. Maps and overlays of images that are gone since stay, and ``scores.csv`` does not name them. Memory grows by
    about a kilobyte an image, for names and scores.

    Args:
        adapted: Gives the adapted detector; called only if there is something to do.
        listing: The images.
        out: The folder; made if it does not exist.
        setting: What made the detector, as JSON: results of another setting are not mixed with these.
        how: What is written.
        maps: The base detector, where it is a folder of maps.
        engine: Where the work is done.
        progress: Show a progress bar.

    Returns:
        A table of `nandlib.streaming.results.SCHEMA`, a row an image that was there when the folders were walked.

    Raises:
        DataError: If two images would have the same results, the folder holds results of another setting or is being written to, an image
            cannot be read, a map is not as it must be, or a file cannot be written.
    """
    results = Results(out.absolute())  # workers of a cluster stand in other folders
    asked = {**setting, "store": how.store, "overlays": how.overlays, "batch": how.batch, "threads": engine.threads}
    count, seen = len(listing), list[str]()
    with results.held(asked), tqdm(total=count, desc="apply", unit="image", disable=not progress) as bar:
        shards = _shards(_noted(listing, seen), listing, _whole(results, how), maps, how, shard_size(count, how.batch), bar.update)
        if (first := next(shards, None)) is not None:
            for done in engine(Work(_ready(adapted()), listing, results, how), chain([first], shards)):
                bar.update(done)
        table = results.summary(seen, how.store == "shards")
    if (lost := len(seen) - len(table)) > 0:
        raise DataError(f"{out}: results of {lost} images went missing meanwhile: run the same command again, it makes what is missing")
    return table


def shard_size(images: int, batch: int) -> int:
    """Images a shard: whole batches, `SHARD` where there are many."""
    return batch * max(1, min(SHARD // batch, images // (SHARDS * batch)))


def _ready(adapted: AdaptedDetector) -> AdaptedDetector:
    """With its texts encoded: once, and not by every worker."""
    if adapted.normalities:
        adapted.texts  # noqa: B018
    return adapted


def _whole(results: Results, how: How) -> dict[str, tuple[int, Digest | None]]:
    """Generation and digest of images; None for one that must be worked on again: its files are gone, or may be another's (``000.bmp`` in
    the place of ``000.png``), or it could not be read before, which is not to be skipped this time."""
    known = results.known()
    named = Counter(PurePosixPath(name).with_suffix("") for name in known)

    def stays(name: str, row: Known) -> bool:
        if row.problem:
            return how.skip_unreadable
        own = named[PurePosixPath(name).with_suffix("")] == 1 or not how.files(results, name)
        return own and (row.maps or how.store == "files") and how.there(results, name)

    return {name: (row.generation, row.digest if stays(name, row) else None) for name, row in known.items()}


def _noted(names: Iterable[str], seen: list[str]) -> Iterator[str]:
    """Names, which are noted: folders may get and lose images meanwhile."""
    for name in names:
        seen.append(name)
        yield name


def _shards(
    names: Iterator[str],
    listing: Listing,
    known: Mapping[str, tuple[int, Digest | None]],
    maps: Detector | None,
    how: How,
    size: int,
    skipped: Callable[[int], object],
) -> Iterator[Shard]:
    """What is new or has changed, in shards. After a run that was killed they are those that it would have made."""
    pending, stems = defaultdict[int, list[str]](list), dict[PurePosixPath, set[str]]()  # of the folders that we are in
    for name in names:
        path = PurePosixPath(name)
        stems = {folder: own for folder, own in stems.items() if folder in path.parents}
        own = stems.setdefault(path.parent, set())
        stem = path.stem if CAPITALS else path.stem.casefold()
        if stem in own:
            raise DataError(f"two images are called {path.with_suffix('')}: their results would be one file; rename one of them")
        own.add(stem)
        generation = 0
        if name in known:
            generation, before = known[name]
            if how.read(maps, listing, name)[0] == before:
                skipped(1)
                continue
            generation += 1
        pending[generation].append(name)
        if len(pending[generation]) == size:
            yield Shard(tuple(pending.pop(generation)), generation)
    for generation, rest in pending.items():
        yield Shard(tuple(rest), generation)
