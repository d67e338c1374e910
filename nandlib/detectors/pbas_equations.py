"""PBAS's equations (Chen et al., TCSVT 2025): centres, a boundary, and features synthesised beyond it.

Parts that GLASS of the same authors shares come from anomalib. B images, P patches an image, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from anomalib.models.image.glass.components import Discriminator, Projection
from torch import Tensor, nn

BEYOND, KEPT, PATCH = 0.25, 0.9, 3


def embed(layers: Sequence[Tensor], width: int) -> Tensor:
    """Patch embeddings ``(B · P, width)``: 3 × 3 neighbourhoods of every layer, on the first one's grid, averaged to `width` and joined.

    A coarser layer is resized after its neighbourhoods have been taken, each of the nine offsets as an image (half-pixel centres).

    Args:
        layers: ``(B, C_i, h_i, w_i)``, the finest first.
        width: Of the embedding.
    """
    grid, found = layers[0].shape[-2:], []
    for layer in layers:
        around = F.unfold(layer, PATCH, padding=PATCH // 2)
        if layer.shape[-2:] != grid:
            around = F.interpolate(around.unflatten(2, layer.shape[-2:]), size=grid, mode="bilinear", align_corners=False).flatten(2)
        found.append(channel_means(around, width))
    return channel_means(torch.cat(found, 1), width).transpose(1, 2).flatten(0, 1)


def channel_means(features: Tensor, width: int) -> Tensor:
    """``(B, C, P)`` averaged to ``(B, width, P)``, over spans of channels: `torch.nn.functional.adaptive_avg_pool1d` along the channels, to
    the last bit, but sooner, since whole rows of patches are added at once."""
    channels, span = features.shape[1], torch.arange(width, device=features.device)
    first = span * channels // width
    length = -(-(span + 1) * channels // width) - first
    total = features[:, first]
    for k in range(1, int(length.max())):
        longer = (length > k).nonzero()[:, 0]
        total.index_add_(1, longer, features[:, first[longer] + k])
    return total / length[:, None]


def networks(width: int, hidden: int, generator: torch.Generator | None = None) -> tuple[Projection, Discriminator]:
    """The projection and the discriminator, as the official code starts them: Xavier-normal matrices, torch's own biases, norms 1 and 0."""
    found = Projection(width, width), Discriminator(width, 2, hidden)
    for module in (part for network in found for part in network.modules()):
        if isinstance(module, nn.Linear):
            nn.init.xavier_normal_(module.weight, generator=generator)
            if module.bias is not None:
                bound = module.in_features**-0.5
                nn.init.uniform_(module.bias, -bound, bound, generator=generator)
        elif isinstance(module, nn.BatchNorm1d):
            nn.init.ones_(module.weight)
    return found


def remember(bank: Tensor | None, features: Tensor) -> Tensor:
    """The bank of centres ``(P, C)`` after one more batch ``(B, P, C)``.

    The mean of a batch sets the bank; later, each position's mean goes into its most similar slot, 0.9 old and 0.1 new. Slots are
    chosen against the bank as the batch found it; positions that share one come one after the other.
    """
    mean = features.mean(0)
    if bank is None:
        return mean
    slots, bank = nearest_centres(mean, bank), bank.clone()
    for slot, value in zip(slots.tolist(), mean, strict=True):
        bank[slot] = KEPT * bank[slot] + (1 - KEPT) * value
    return bank


def nearest_centres(features: Tensor, bank: Tensor) -> Tensor:
    """Of each feature ``(n, C)`` the slot of highest cosine similarity ``(n,)``."""
    return (F.normalize(features, dim=1) @ F.normalize(bank, dim=1).T).argmax(1)


def synthesise(features: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
    """Features beyond the boundary z + (d / ‖d‖) · r · k ``(n, C)``, and ‖d‖ ``(n,)``, with d = z - centre and r the mean of ‖d‖.

    Only the offset is constant: gradients of the synthesised features reach the projection.
    """
    offset = features - centres
    distance = offset.norm(dim=1)
    direction = offset / distance.clamp_min(torch.finfo(distance.dtype).tiny)[:, None]  # 0 at a centre, as of a single normal image
    return features + (direction * distance.mean() * BEYOND).detach(), distance


def losses(projected: Tensor, bank: Tensor, discriminator: nn.Module) -> dict[str, Tensor]:
    """The three terms of the loss: mean ‖d‖, and binary cross-entropies of normal (0) and synthesised (1) features, judged in one call."""
    beyond, distance = synthesise(projected, bank[nearest_centres(projected.detach(), bank)])
    judged = discriminator(torch.cat([projected, beyond]))
    if not judged.isfinite().all():  # which cross-entropy would refuse in words of its own
        return dict.fromkeys(("centre", "normal", "synthesised"), distance.mean() * torch.nan)
    normal, other = judged.split(len(projected))
    return {
        "centre": distance.mean(),
        "normal": F.binary_cross_entropy(normal, torch.zeros_like(normal)),
        "synthesised": F.binary_cross_entropy(other, torch.ones_like(other)),
    }


def optimisers(projection: nn.Module, discriminator: nn.Module, factor: float = 1.0) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
    """Adam 1e-4 with an L2 penalty of 1e-5, and AdamW 2e-4 with its default decay of 0.01; both rates times a factor."""
    return (
        torch.optim.Adam(projection.parameters(), 1e-4 * factor, weight_decay=1e-5),
        torch.optim.AdamW(discriminator.parameters(), 2e-4 * factor),
    )
