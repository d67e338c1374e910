"""Patch scores as smooth maps, as several detectors make them."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from torch import Tensor

SIGMA = 4.0  # pixels


def smooth_map(patch_scores: Tensor, size: tuple[int, int]) -> Tensor:
    """Patch scores ``(B, h, w)`` as maps ``(B, H, W)``: bilinear with half-pixel centres, Gaussian σ = 4, the border mirrored."""
    large = F.interpolate(patch_scores[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]
    return torch.from_numpy(np.stack([gaussian_filter(single, SIGMA) for single in large.detach().cpu().numpy()]))
