"""Reading ahead: threads read, decode and resize what comes next while a network works on what came before."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

S = TypeVar("S")
T = TypeVar("T")
MOST_READERS = 16


def cores() -> int:
    """Of this machine, that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def ahead(do: Callable[[S], T], of: Iterable[S], most: int) -> Iterator[T]:
    """What `do` gives for each, in order; threads are at most that many ahead."""
    with ThreadPoolExecutor(min(cores(), MOST_READERS)) as pool:
        waiting = deque[Future[T]]()
        try:
            for one in of:
                waiting.append(pool.submit(do, one))
                if len(waiting) > most:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def batched(things: Iterable[T], size: int) -> Iterator[list[T]]:
    """So many at a time; the last may be fewer."""
    batch = []
    for one in things:
        batch.append(one)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
