"""Features before and after a network that rebuilds them: the neck that makes them, the map that compares them, the scores of the map.

All resizing has aligned corners. N images, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def aligned(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear resizing of ``(N, C, h, w)`` to `size` with aligned corners and no smoothing."""
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=True)


def neck(stages: Sequence[Tensor], grid: tuple[int, int]) -> Tensor:
    """Feature maps ``(N, C_i, h_i, w_i)`` of several sizes, resized to one and stacked: ``(N, ΣC, h, w)``."""
    return torch.cat([aligned(stage, grid) for stage in stages], 1)


def distance_map(rebuilt: Tensor, features: Tensor, size: tuple[int, int]) -> Tensor:
    """L2 distance over channels of ``(N, C, h, w)`` and ``(N, C, h, w)``, resized: ``(N, H, W)``, ≥ 0."""
    return aligned((rebuilt - features).square().sum(1, keepdim=True).sqrt(), size)[:, 0]


def pooled_score(maps: Tensor, pool: int = 16) -> Tensor:
    """The official image score of UniAD and OneNIP ``(N,)``: the maximum of ``(N, H, W)`` maps after an average pool of stride 1."""
    return F.avg_pool2d(maps[:, None], pool, stride=1).flatten(1).amax(1)
