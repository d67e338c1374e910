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


def neck(stages: Sequence[Tensor], strides: Sequence[int], stride: int = 16) -> Tensor:
    """Feature maps of several strides, resized to one and stacked: ``(N, ΣC, h, w)``.

    Args:
        stages: ``(N, C_i, h_i, w_i)``.
        strides: Pixels a cell of each.
        stride: Pixels a cell of the result.
    """
    sizes = [(int(stage.shape[-2] * own / stride), int(stage.shape[-1] * own / stride)) for stage, own in zip(stages, strides, strict=True)]
    return torch.cat([aligned(stage, size) for stage, size in zip(stages, sizes, strict=True)], 1)


def distance_map(rebuilt: Tensor, features: Tensor, stride: int = 16) -> Tensor:
    """L2 distance over channels of ``(N, C, h, w)`` and ``(N, C, h, w)``, resized: ``(N, h · stride, w · stride)``, ≥ 0."""
    distance = (rebuilt - features).square().sum(1, keepdim=True).sqrt()
    return aligned(distance, (features.shape[-2] * stride, features.shape[-1] * stride))[:, 0]


def pooled_score(maps: Tensor, pool: int = 16) -> Tensor:
    """The official image score of UniAD and OneNIP ``(N,)``: the maximum of ``(N, H, W)`` maps after an average pool of stride 1."""
    return F.avg_pool2d(maps[:, None], pool, stride=1).flatten(1).amax(1)
