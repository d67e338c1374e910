"""Patch scores as smooth maps, as several detectors make them."""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

SIGMA = 4.0  # pixels


def smooth_map(patch_scores: Tensor, size: tuple[int, int]) -> Tensor:
    """Patch scores ``(B, h, w)`` as maps ``(B, H, W)``: bilinear with half-pixel centres, Gaussian σ = 4, the border mirrored.

    Both are linear and treat rows and columns alike, so they are one matrix from the left and one from the right.
    """
    rows, columns = (_spread(cells, pixels, SIGMA) for cells, pixels in zip(patch_scores.shape[1:], size, strict=True))
    return (rows @ patch_scores.detach().cpu().double() @ columns.T).float()


@lru_cache(maxsize=8)  # a detector's maps are all of one size
def _spread(cells: int, pixels: int, sigma: float) -> Tensor:
    """``(pixels, cells)``: what the score of each cell adds to each pixel of a row of them."""
    each = F.interpolate(torch.eye(cells, dtype=torch.float64)[None], pixels, mode="linear", align_corners=False)[0]
    return torch.from_numpy(gaussian_filter1d(each.numpy(), sigma, axis=1).T)
