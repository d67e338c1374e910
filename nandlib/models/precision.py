"""``precision: auto``: whether bfloat16 pays on this device, measured."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Literal

import torch

MARGIN = 0.8  # bfloat16 must take less than this share of float32's time: a gain that is smaller is not worth its rounding
ROWS, WIDTH, REPEATS = 256, 1024, 3  # small: a processor without such instructions takes far longer
ROWS_OF_A_GPU = 16384  # which must be filled, or it is the launch that is measured


@lru_cache(maxsize=8)
def bfloat16_cost(device: str) -> float:
    """Time of a matrix product as wide as ViT-L/14 in bfloat16, as a share of that in float32: median of passes in turn, once a process."""
    rows = ROWS if device == "cpu" else ROWS_OF_A_GPU
    left, right = torch.ones(rows, WIDTH, device=device), torch.ones(WIDTH, WIDTH, device=device)
    pairs = {dtype: (left.to(dtype), right.to(dtype)) for dtype in (torch.bfloat16, torch.float32)}

    def seconds(dtype: torch.dtype) -> float:
        start = time.perf_counter()
        torch.matmul(*pairs[dtype])[0, 0].item()  # waits for the device
        return time.perf_counter() - start

    turns = [tuple(map(seconds, pairs)) for _ in range(REPEATS + 1)][1:]
    return statistics.median(half / full for half, full in turns)


def measured_precision(device: str, cost: Callable[[str], float] = bfloat16_cost) -> Literal["float32", "autocast"]:
    """``"autocast"`` where bfloat16 takes less than `MARGIN` of float32's time on a device, else ``"float32"``.

    Args:
        device: A torch device.
        cost: What bfloat16 takes there, as a share of float32's time.
    """
    return "autocast" if cost(device) < MARGIN else "float32"
