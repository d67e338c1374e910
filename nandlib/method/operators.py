"""The operators of NAND as pure functions on tensors: prompt ensemble, detection, suppression, image score.

Shapes: N images, L layers, P = h * w patch tokens, D features, K texts, H x W pixels of a map.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

LayerAggregation = Literal["mean", "sum", "clipped_sum", "max"]
Resize = Literal["logits", "probabilities"]


def prompt_ensemble(features: Tensor, average: Literal["normalised", "raw_mean"] = "normalised") -> Tensor:
    """Eq. 3: the mean of the text features of a prompt set.

    Args:
        features: ``(n, D)`` text features of the prompts.
        average: ``"normalised"``: unit norm per prompt, mean, unit norm. ``"raw_mean"``: mean of the features as they
            are, then unit norm.

    Returns:
        ``(D,)``, unit norm.

    Raises:
        ValueError: If there is no prompt, or no such average.
    """
    if features.ndim != 2 or len(features) == 0:
        raise ValueError(f"a prompt ensemble needs (n > 0, D) features, not {tuple(features.shape)}")
    if average not in ("normalised", "raw_mean"):
        raise ValueError(f"unknown average '{average}': normalised or raw_mean")
    if average == "normalised":
        features = F.normalize(features, dim=-1)
    return F.normalize(features.mean(0), dim=-1)


def similarities(tokens: Tensor, texts: Tensor) -> Tensor:
    """Cosine similarity of every patch token with every text, where the tokens are.

    Args:
        tokens: ``(N, L, P, D)``, unit norm.
        texts: ``(K, D)``, unit norm.

    Returns:
        ``(N, K, L, P)`` in [-1, 1].
    """
    return torch.einsum("nlpd,kd->nklp", tokens, texts.to(tokens.device))


def detect(
    similarity: Tensor,
    negatives: Sequence[Tensor],
    *,
    grid: tuple[int, int],
    size: tuple[int, int],
    temperature: float,
    resize: Resize = "logits",
    align_corners: bool = True,
) -> Tensor:
    """Eq. 4 per layer: softmax of a text against others, ``softmax(E_I^l, {f, f_1, …})_1``, as a map.

    Args:
        similarity: ``(N, L, P)`` cosine similarity with the text in question: f_abn for A, f_add for A_sup.
        negatives: Similarities, each ``(N, L, P)``, with the other texts of the softmax: f_nor in the paper.
        grid: ``(h, w)`` of the patch tokens.
        size: ``(H, W)`` of the map.
        temperature: Factor on the similarities before the softmax.
        resize: Interpolate the logits (as APRIL-GAN does) or the probabilities.
        align_corners: Of the bilinear interpolation; APRIL-GAN's is True.

    Returns:
        ``(N, L, H, W)`` in [0, 1], large where the image shows what the text says.

    Raises:
        ValueError: If `resize` is neither.
    """
    if resize not in ("logits", "probabilities"):
        raise ValueError(f"unknown resize '{resize}': logits or probabilities")
    logits = temperature * torch.stack([similarity, *negatives])
    texts, n, layers, _ = logits.shape
    planes = logits.reshape(texts * n, layers, *grid)

    def upsample(x: Tensor) -> Tensor:
        return F.interpolate(x, size=size, mode="bilinear", align_corners=align_corners)

    if resize == "logits":
        return upsample(planes).reshape(texts, n, layers, *size).softmax(0)[0]
    return upsample(planes.reshape(texts, n, layers, *grid).softmax(0)[0])


def aggregate_layers(maps: Tensor, how: LayerAggregation = "mean") -> Tensor:
    """Maps of L layers ``(N, L, H, W)`` to one ``(N, H, W)``.

    ``"sum"`` is Eq. 4's Σ_l and reaches L; ``"clipped_sum"`` is the sum clipped to 1; ``"mean"`` and ``"max"`` stay in
    [0, 1].
    """
    if how == "mean":
        return maps.mean(1)
    if how == "sum":
        return maps.sum(1)
    if how == "clipped_sum":
        return maps.sum(1).clamp_max(1)
    if how == "max":
        return maps.amax(1)
    raise ValueError(f"unknown layer aggregation '{how}': mean, sum, clipped_sum or max")


def suppress(anomaly_map: Tensor, suppression_map: Tensor) -> Tensor:
    """Eq. 6: ``A_final = A ⊙ (1 - A_sup)``.

    Args:
        anomaly_map: ``(…, H, W)``, larger is more anomalous.
        suppression_map: ``(…, H, W)`` in [0, 1], large where the added normality is.

    Raises:
        ValueError: If the maps differ in height or width.
    """
    if anomaly_map.shape[-2:] != suppression_map.shape[-2:]:
        raise ValueError(
            f"anomaly map is {tuple(anomaly_map.shape[-2:])} but suppression map {tuple(suppression_map.shape[-2:])}: "
            "resize one of them first (resize_map)"
        )
    return anomaly_map * (1 - suppression_map)


def resize_map(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps ``(N, H, W)`` to ``(N, *size)``, bilinear; unchanged if they have that size."""
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps
    return F.interpolate(maps[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]


def image_score(maps: Tensor, how: Literal["max", "topk_mean"] = "max", top_fraction: float = 0.001) -> Tensor:
    """Image scores ``(N,)`` of maps ``(N, H, W)``: the maximum (the paper's), or the mean of the top fraction."""
    if maps.ndim != 3:
        raise ValueError(f"image scores are of maps (N, H, W), not {tuple(maps.shape)}: maps[None] for a single one")
    flat = maps.flatten(1)
    if how == "max":
        return flat.amax(1)
    if how == "topk_mean":
        return flat.topk(max(1, round(top_fraction * flat.shape[1])), dim=1).values.mean(1)
    raise ValueError(f"unknown image score '{how}': max or topk_mean")
