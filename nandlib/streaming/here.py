"""Shards on this machine: some processes, each of a few threads."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from multiprocessing import get_context

import torch

from nandlib.children import end_with_parent
from nandlib.data.ahead import cores
from nandlib.errors import EngineError
from nandlib.memory import keep_freed_memory
from nandlib.streaming.results import Shard
from nandlib.streaming.work import Work

MOST_WORKERS = 4  # unless more are asked for: a worker holds about a gigabyte
FORKS = sys.platform == "linux"
AHEAD = 2  # shards that a worker has been given


@dataclass(frozen=True)
class Here:
    """An engine for `nandlib.streaming.apply.apply`: this process, or several that are forked from it and share what is loaded.

    Attributes:
        workers: Processes; None: one a core, at most `MOST_WORKERS`. A forked process cannot use several threads: with those, and where
            there is no forking, one works.
        threads: Of each. Sums are rounded differently by other numbers of threads: those of one number are the same bytes.

    Raises:
        EngineError: If several processes of several threads are asked for, or none.
    """

    workers: int | None = None
    threads: int = 1

    def __post_init__(self) -> None:
        if self.threads < 1 or (self.workers is not None and self.workers < 1):
            raise EngineError(f"{self.workers} workers of {self.threads} threads: one or more of either")
        if (self.workers or 1) > 1 and not FORKS:
            raise EngineError(f"{self.workers} workers: this system forks no processes: leave workers out, take several threads")
        if (self.workers or 1) > 1 and self.threads > 1:
            raise EngineError(f"{self.workers} workers of {self.threads} threads: only workers of one thread share this machine; take Ray")

    def __call__(self, work: Work, shards: Iterator[Shard]) -> Iterator[int]:
        """Gives the number of images of every shard that is done, in whatever order.

        Raises:
            NandError: What the work raised.
            EngineError: If a process was killed.
        """
        workers = self.workers or (min(cores(), MOST_WORKERS) if self.threads == 1 and FORKS else 1)
        yield from self._alone(work, shards) if workers == 1 else _together(work, shards, workers)

    def _alone(self, work: Work, shards: Iterator[Shard]) -> Iterator[int]:
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            yield from map(work, shards)
        finally:
            torch.set_num_threads(before)


def _together(work: Work, shards: Iterator[Shard], workers: int) -> Iterator[int]:
    with ProcessPoolExecutor(workers, get_context("fork"), _start, (work,)) as pool:
        running = {pool.submit(_do, shard) for shard in islice(shards, AHEAD * workers)}
        try:
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                running |= {pool.submit(_do, shard) for shard in islice(shards, len(done))}
                yield from (future.result() for future in done)
        except BrokenProcessPool as error:
            raise EngineError(
                "a process of this run was killed (often: no memory was left): run the same command again, with fewer --workers; "
                "what is finished is kept"
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


_work: Work  # of a worker process


def _start(work: Work) -> None:
    global _work
    _work = work
    end_with_parent()
    torch.set_num_threads(1)
    keep_freed_memory()


def _do(shard: Shard) -> int:
    return _work(shard)
