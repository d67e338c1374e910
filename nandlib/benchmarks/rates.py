"""Rates of streaming, for benchmarks."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from nandlib.method.adapt import AdaptedDetector
from nandlib.streaming.apply import Engine, apply
from nandlib.streaming.listing import Listing
from nandlib.streaming.work import How

TEXTS = ("loose thread", "oil stain", "dust", "scratch", "faded print")


def copies(paths: Sequence[Path], count: int, folder: Path) -> Listing:
    """Links to images, each as often as is needed."""
    folder.mkdir()
    for k in range(count):
        path = paths[k % len(paths)]
        (folder / f"{k:06d}{path.suffix}").symlink_to(path.resolve())
    return Listing.of([folder])


def streamed(adapted: AdaptedDetector, listing: Listing, engine: Engine, how: How, workers: int = 1) -> Callable[[], float]:
    """Gives images a second, from when every one of so many workers has done its first shard to the last."""

    def run() -> float:
        done: list[tuple[float, int]] = []

        class Timed:
            threads = engine.threads

            def __call__(self, work: Any, shards: Iterator[Any]) -> Iterator[int]:
                for count in engine(work, shards):
                    done.append((time.perf_counter(), count))
                    yield count

        with tempfile.TemporaryDirectory() as out:
            apply(lambda: adapted, listing, Path(out), {}, how, engine=Timed())
        return sum(count for _, count in done[workers:]) / (done[-1][0] - done[workers - 1][0])

    return run
