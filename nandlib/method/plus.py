"""`nand_plus`, this study's own rule: normality detection by region, against what else a defect may be, calibrated on normal images.

Where the paper asks of every pixel "the added type, or flawless?", `nand_plus` asks of every region of the anomaly map "the added
type, or another defect?". Three changes, each of which `PlusConfig` can switch off:

1. *Regions.* The unit is the catchment area of one peak of A, so that a blob's halo is damped with its core.
2. *Competitors.* The softmax is against other descriptions of defects: a fixed generic bank (texts that mean nearly the same as the
   added one join it instead), or the class's other known types.
3. *Calibration.* From the similarity with each text its mean over training-normal images is taken, since some texts are near to
   everything.

It assumes that A is at least 0, and small where nothing is wrong: a region's core is where A is near its peak.

Shapes: n images, K texts, P = h * w patch tokens, D features, R regions of one image, H x W pixels of a map.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.segmentation import watershed
from torch import Tensor

from nandlib.errors import DataError
from nandlib.method.config import PlusConfig


@dataclass(frozen=True)
class Regions:
    """The catchment areas of the peaks of anomaly maps.

    Attributes:
        labels: ``(n, H, W)``, the number of the region of every pixel, from 0, image by image.
        weights: Per image ``(R, P)``: how much each patch token counts for each region; rows sum to 1.
    """

    labels: np.ndarray
    weights: list[Tensor]

    def pool(self, similarity: Tensor) -> list[Tensor]:
        """Weighted means over the patches of every region: ``(n, K, P)`` to n times ``(R, K)``."""
        return [weights @ image.T for weights, image in zip(self.weights, similarity, strict=True)]

    def paint(self, values: Sequence[Tensor]) -> Tensor:
        """Values of regions, n times ``(R,)``, as maps ``(n, H, W)``."""
        flat = [value.index_select(0, torch.from_numpy(labels).flatten()) for value, labels in zip(values, self.labels, strict=True)]
        return torch.stack(flat).view(self.labels.shape)


def find_regions(maps: Tensor, grid: tuple[int, int], plus: PlusConfig = PlusConfig()) -> Regions:
    """Watershed of anomaly maps, one region a peak.

    Args:
        maps: ``(n, H, W)``, larger is more anomalous.
        grid: ``(h, w)`` of the patch tokens.
        plus: ``peak_distance`` between peaks, as a share of the map's longer side; ``focus``: a pixel counts (A / peak)^focus.
    """
    n, height, width = maps.shape
    fold = -(-grid[0] // height), -(-grid[1] // width)  # a pixel of a map that is coarser than the grid lies over several patches
    tall, wide = fold[0] * height, fold[1] * width
    cell = (np.arange(tall) * grid[0] // tall)[:, None] * grid[1] + np.arange(wide) * grid[1] // wide
    cells = grid[0] * grid[1]
    labels, weights = np.empty((n, height, width), np.int64), []
    for k, single in enumerate(maps.numpy().astype(np.float64)):
        peaks = _peaks(single, max(1, round(plus.peak_distance * max(height, width))))
        markers = np.zeros(single.shape, np.int64)
        markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
        labels[k] = watershed(-single, markers) - 1 if len(peaks) else 0  # a flat map is one region
        count = int(labels[k].max()) + 1
        height_of = np.maximum(ndimage.maximum(single, labels[k], np.arange(count)), 1e-12)
        share = np.clip(single / height_of[labels[k]], 1e-6, 1) ** plus.focus
        whose, much = (own.repeat(fold[0], 0).repeat(fold[1], 1) for own in (labels[k], share))
        table = np.bincount((whose * cells + cell).ravel(), much.ravel(), count * cells).reshape(count, cells)
        weights.append(torch.from_numpy(table / table.sum(1, keepdims=True)).float())
    return Regions(labels, weights)


def _peaks(single: np.ndarray, distance: int) -> np.ndarray:
    """``(M, 2)`` pixels of a map, `distance` apart and the highest first; one of a plateau, however large: a map may have been clipped."""
    top = single == ndimage.maximum_filter(single, 2 * distance + 1)
    plateaus = ndimage.label(top, np.ones((3, 3)))[0]
    first = np.unique(plateaus[top], return_index=True)[1]
    rows, columns = (own[first] for own in np.nonzero(top))
    alone = np.full_like(single, single.min())
    alone[rows, columns] = single[rows, columns]
    found: np.ndarray = peak_local_max(alone, min_distance=distance, exclude_border=False)
    return found


def synonyms(added: Tensor, bank: Tensor, plus: PlusConfig = PlusConfig()) -> Tensor:
    """Which texts of the bank say nearly the same as the added one: ``(B,)`` bool, from features ``(D,)`` and ``(B, D)`` of unit norm.

    Cosines are taken of what differs from the bank's mean: in CLIP's space all texts lie in one narrow cone.
    """
    centre = bank.mean(0)
    return F.normalize(bank - centre, dim=-1) @ F.normalize(added - centre, dim=0) >= plus.synonym


def sides(
    plus: PlusConfig, own: int, features: Tensor, *, normal: int, abnormal: int, types: Sequence[int], bank: Sequence[int]
) -> tuple[list[int], list[int]]:
    """The texts on either side of the softmax: the added text (with its synonyms) and its rivals, as positions.

    Args:
        plus: ``competitors`` and ``synonym``.
        own: Position of the added text.
        features: ``(K, D)`` of all texts, unit norm.
        normal, abnormal: Positions of f_nor and f_abn.
        types: Positions of the texts of other types.
        bank: Positions of the generic texts.
    """
    if plus.competitors == "normal":
        return [own], [normal]
    if plus.competitors == "types":
        return [own], [k for k in types if k != own]
    near = synonyms(features[own], features[list(bank)], plus).tolist()
    return [own, *(k for k, same in zip(bank, near, strict=True) if same)], [
        abnormal,
        *(k for k, same in zip(bank, near, strict=True) if not same),
    ]


def competition(added: Tensor, rivals: Tensor, prior: float) -> Tensor:
    """Probability of the added text against its rivals, p = e^a / (e^a + prior · Σ e^r), from logits ``(…)`` and ``(M, …)``."""
    return torch.sigmoid(added - torch.logsumexp(rivals, 0) - math.log(prior))


def plus_suppression(
    similarity: Tensor,
    added: Sequence[int],
    rivals: Sequence[int],
    *,
    regions: Regions | None,
    grid: tuple[int, int],
    size: tuple[int, int],
    temperature: float,
    plus: PlusConfig = PlusConfig(),
) -> Tensor:
    """A_sup of `nand_plus`.

    Args:
        similarity: ``(n, K, P)``, cosine similarity of the patch tokens with K texts, mean over the layers, less each text's mean on
            normal images.
        added: Texts of the added normality: its own, and its synonyms of the bank; their logits are averaged.
        rivals: Texts it competes with.
        regions: Of the anomaly maps; None: every patch for itself.
        grid: ``(h, w)``.
        size: ``(H, W)`` of the map where there are no regions.
        temperature: The model's; times ``plus.sharpness``.
        plus: Parameters.

    Returns:
        ``(n, H, W)`` in [0, 1].

    Raises:
        DataError: If there is no rival.
    """
    if not rivals:
        raise DataError("nand_plus needs a text to compete with: no other type is known (plus.competitors: bank needs none)")
    scale, prior = temperature * plus.sharpness, plus.known_prior if plus.competitors == "types" else plus.prior

    def probability(logits: Tensor) -> Tensor:  # texts first
        return competition(logits[list(added)].mean(0), logits[list(rivals)], prior)

    if regions is None:
        found = probability(scale * similarity.transpose(0, 1)).unflatten(1, grid)[:, None]
        return F.interpolate(found, size=size, mode="bilinear", align_corners=True)[:, 0]
    return regions.paint([probability(scale * pooled.T) for pooled in regions.pool(similarity)])
