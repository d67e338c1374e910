"""Work in parts on a Ray cluster: workers load what it needs once, and what one that dies was doing is done elsewhere."""

from __future__ import annotations

import socket
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

import ray
import torch
from ray.exceptions import RayError, RayTaskError

from nandlib.errors import EngineError, NandError
from nandlib.memory import keep_freed_memory
from nandlib.streaming.here import AHEAD

Part = TypeVar("Part")
RETRIES = 10  # of a part whose worker or node dies: what kills every worker would be tried for ever


@dataclass(frozen=True)
class Cluster:
    """An engine for `nandlib.streaming.apply.apply`, whose parts are shards of images, and for `nandlib.streaming.passes.run_passes`.

    Images and results must be where every node sees them: on a shared file system, or images at an address.

    Attributes:
        address: Of a running cluster ("auto", "host:6379", "ray://…"); None: one on this machine, for this run.
        workers: How many; None: one a processor of the cluster.
        threads: Of a worker, which takes that many processors.
        gpus: Of a worker, a share of one allowed.
    """

    address: str | None = None
    workers: int | None = None
    threads: int = 1
    gpus: float = 0

    def __call__(self, work: Callable[[Part], int], parts: Iterator[Part]) -> Iterator[int]:
        """Gives what the work gives for every part that is done, in whatever order.

        Raises:
            NandError: What a worker raised.
            EngineError: If the cluster cannot be reached, or is lost.
        """
        mine = not ray.is_initialized()
        try:
            if mine:
                _knock(self.address)
                _init(self.address)
            yield from self._run(work, parts)
        except RayTaskError as error:
            if isinstance(error.cause, NandError):
                raise error.cause from error
            raise
        except (RayError, OSError) as error:
            raise EngineError(f"the Ray cluster {self.address or 'on this machine'} failed ({error}): what is finished is kept") from error
        finally:
            if mine:
                ray.shutdown()

    def _check_room(self) -> None:
        """Work that no node has room for waits for ever on this machine, an error; a cluster elsewhere may grow, a warning."""
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if any(node.get("CPU", 0) >= self.threads and node.get("GPU", 0) >= self.gpus for node in nodes):
            return
        asked = f"{self.threads} threads" + (f" and {self.gpus} GPU" if self.gpus else "")
        most = max((int(node.get("CPU", 0)) for node in nodes), default=0)
        said = f"no node of the cluster has {asked} for a worker (the largest has {most} processors)"
        if self.address is None:
            raise EngineError(f"{said}: ask for less")
        warnings.warn(f"{said}: waiting for one that has", stacklevel=2)

    def _run(self, work: Callable[[Part], int], parts: Iterator[Part]) -> Iterator[int]:
        self._check_room()
        processors = max(1, int(ray.cluster_resources().get("CPU", 1)) // self.threads)
        do = ray.remote(_do).options(num_cpus=self.threads, num_gpus=self.gpus, max_retries=RETRIES)  # of processes and nodes that die
        held = [ray.put(work)]  # in a list: a worker fetches it once, and not with every part
        running = {do.remote(held, self.threads, part) for part in islice(parts, self.workers or AHEAD * processors)}
        while running:
            (done,), _ = ray.wait(list(running))
            running.remove(done)
            running |= {do.remote(held, self.threads, part) for part in islice(parts, 1)}
            yield ray.get(done)


_works: dict[Any, Callable[[Any], int]] = {}  # of a worker process: the one that it holds, by its reference


def _do(held: list[Any], threads: int, part: Any) -> int:
    """On a node, in a process that goes on to the next part."""
    (reference,) = held
    if reference not in _works:
        _works.clear()
        torch.set_num_threads(threads)
        keep_freed_memory()
        _works[reference] = ray.get(reference)
    return _works[reference](part)


def _init(address: str | None) -> None:
    try:
        ray.init(address or "local", include_dashboard=False, log_to_driver=False, configure_logging=False)
    except (ValueError, RuntimeError) as error:  # no address, or a cluster of another version
        raise EngineError(f"the Ray cluster {address} cannot be reached ({error}): give host:port, ray://host:port or auto") from error


def _knock(address: str | None) -> None:
    """Raise OSError if nobody answers at "host:port": Ray itself would try for a quarter of an hour."""
    host, colon, port = (address or "").partition(":")
    if colon and port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()
