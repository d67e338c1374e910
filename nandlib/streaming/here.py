"""Shards on this machine: some processes, each of a few threads."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from multiprocessing import get_context

import torch

from nandlib.errors import EngineError
from nandlib.memory import keep_freed_memory
from nandlib.streaming.results import Shard
from nandlib.streaming.work import Work

MOST_WORKERS = 4  # unless more are asked for: a worker holds about a gigabyte
AHEAD = 2  # shards that a worker has been given


@dataclass(frozen=True)
class Here:
    """An engine for `nandlib.streaming.apply.apply`.

    Attributes:
        workers: Processes; None: as many as the processor has room for, at most `MOST_WORKERS`.
        threads: Of each. Sums are rounded differently by other numbers of threads: those of one number are the same bytes.
    """

    workers: int | None = None
    threads: int = 1

    def __call__(self, work: Work, shards: Iterator[Shard]) -> Iterator[int]:
        """Gives the number of images of every shard that is done, in whatever order.

        Raises:
            NandError: What the work raised.
            EngineError: If a process was killed.
        """
        how = "fork" if sys.platform == "linux" else "spawn"  # forked workers share what is loaded
        with ProcessPoolExecutor(self._workers(), get_context(how), _start, (work, self.threads)) as pool:
            running = {pool.submit(_do, shard) for shard in islice(shards, AHEAD * self._workers())}
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

    def _workers(self) -> int:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return self.workers or max(1, min(cores // self.threads, MOST_WORKERS))


_work: Work  # of a worker process


def _start(work: Work, threads: int) -> None:
    global _work
    _work = work
    torch.set_num_threads(threads)
    keep_freed_memory()


def _do(shard: Shard) -> int:
    return _work(shard)
