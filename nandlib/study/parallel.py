"""Classes side by side: one process a core, one thread a process."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, TypeVar

import torch
from tqdm.auto import tqdm

from nandlib.children import end_with_parent
from nandlib.memory import keep_freed_memory

MOST_WORKERS = 4  # a worker holds about a gigabyte
T = TypeVar("T")


def each(work: Callable[[str], T], classes: Sequence[str], *, name: str, progress: bool) -> Iterator[T]:
    """What `work` gives for every class, in their order.

    For what follows from stored similarities and maps: many small steps, of which a second thread gains little. A network's pass
    uses all threads by itself, and is held once.

    Args:
        work: Of one class. A worker keeps it from class to class; what it gives is pickled.
        classes: The classes.
        name: Before the progress bar.
        progress: Show one.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    how = "fork" if sys.platform == "linux" else "spawn"  # forked workers need import nothing anew
    workers = min(cores, MOST_WORKERS, max(len(classes), 1))
    with ProcessPoolExecutor(workers, get_context(how), _start, (work,)) as pool:
        yield from tqdm(pool.map(_do, classes), total=len(classes), desc=name, disable=not progress)


_work: Callable[[str], Any] | None = None  # of a worker process, which keeps what it has loaded from class to class


def _start(work: Callable[[str], Any]) -> None:
    global _work
    _work = work
    end_with_parent()
    torch.set_num_threads(1)
    keep_freed_memory()


def _do(class_name: str) -> Any:
    assert _work is not None
    return _work(class_name)
