"""A U-Net that fills in what one mask hides, and gates that attenuate its skip connections: FADeR-style.

Known of FADeR (arXiv 2407.04597), from its abstract alone: a network reconstructs images by inpainting under *one deterministic mask*;
then *two-layer MLPs attenuate the features of its skip connections*, as a soft mask in decoding; they are trained from *patch-wise
reconstruction error*, without labels of defects.

This study's own: the mask is a chequerboard; the U-Net's sizes; one gate ``σ(MLP(C → C/4 → C))`` for each position of each skip, trained
on normal images with synthetic corruptions to close (w → 0) where the frozen network's error is high, and to rebuild the clean image; the
map is the multi-scale gradient-magnitude similarity of Xue et al. (2014), as RIAD uses it.

N images, S pixels a side, RGB in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STABLE = 0.0026  # of the gradient-magnitude similarity
SCALES = 4  # of its pyramid
OPEN = 3.0  # the gates' bias at first: σ(3) = 0.95


def chequerboard(side: int, cell: int) -> Tensor:
    """``(1, 1, side, side)``: 0 where the image is hidden, 1 where it is seen, in cells of `cell` pixels."""
    place = torch.arange(side) // cell
    return ((place[:, None] + place) % 2).float()[None, None]


def _block(inside: int, outside: int) -> nn.Sequential:
    parts: list[nn.Module] = []
    for width in (inside, outside):
        parts += [nn.Conv2d(width, outside, 3, padding=1, bias=False), nn.BatchNorm2d(outside), nn.ReLU()]
    return nn.Sequential(*parts)


class InpaintingUNet(nn.Module):
    """Images ``(N, 3, S, S)``, of which it sees the cells of a chequerboard, to whole images of the same shape.

    Args:
        side: S, a multiple of 2 for every level but the last.
        widths: Channels of the levels, the finest first.
        cell: Of the mask.
    """

    mask: Tensor

    def __init__(self, side: int, widths: Sequence[int], cell: int) -> None:
        super().__init__()
        self.down = nn.ModuleList(_block(*pair) for pair in zip((4, *widths[:-1]), widths, strict=True))
        self.up = nn.ModuleList(_block(deep + fine, fine) for deep, fine in zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.out = nn.Conv2d(widths[0], 3, 1)
        self.register_buffer("mask", chequerboard(side, cell))

    def forward(self, images: Tensor, gates: Gates | None = None) -> Tensor:
        return self.rebuilt(self.encoded(images), gates)

    def encoded(self, images: Tensor) -> list[Tensor]:
        """What the encoder makes of the masked images and the mask, the finest first: all but the last go over the skip connections."""
        seen, found = torch.cat([images * self.mask, self.mask.expand(len(images), -1, -1, -1)], 1), list[Tensor]()
        for block in self.down:
            seen = block(seen if not found else F.max_pool2d(found[-1], 2))
            found.append(seen)
        return found

    def rebuilt(self, encoded: Sequence[Tensor], gates: Gates | None = None) -> Tensor:
        """Whole images ``(N, 3, S, S)`` from `encoded`, their skips attenuated by gates."""
        *skips, x = encoded
        for block in self.up:
            skip = skips.pop()
            skip = skip if gates is None else skip * gates.weights(skip, len(skips))
            x = block(torch.cat([F.interpolate(x, scale_factor=2.0, mode="nearest"), skip], 1))
        found: Tensor = self.out(x).sigmoid()
        return found


class Gates(nn.Module):
    """A soft mask for every skip connection: two layers on each position's channels.

    Args:
        widths: Channels of the skips, the finest first.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, max(1, width // 4), 1), nn.ReLU(), nn.Conv2d(max(1, width // 4), width, 1)) for width in widths
        )
        for level in self.levels:
            nn.init.zeros_(level[2].weight)  # type: ignore[index]  # a sequence of layers
            nn.init.constant_(level[2].bias, OPEN)  # type: ignore[index]  # a sequence of layers

    def weights(self, skip: Tensor, level: int) -> Tensor:
        """w in (0, 1), of the shape of a level's skip ``(N, C, h, w)``."""
        found: Tensor = self.levels[level](skip).sigmoid()
        return found


def gradient_magnitude(grey: Tensor) -> Tensor:
    """Of ``(N, 1, h, w)`` by Prewitt's filters, the border repeated: the same shape."""
    across = torch.tensor([[1.0, 0.0, -1.0]] * 3, device=grey.device)[None, None] / 3
    padded = F.pad(grey, (1, 1, 1, 1), mode="replicate")
    x, y = F.conv2d(padded, across), F.conv2d(padded, across.transpose(2, 3))
    return (x.square() + y.square() + 1e-8).sqrt()


def dissimilarity(images: Tensor, rebuilt: Tensor, scales: int = SCALES) -> Tensor:
    """1 - MSGMS: how much gradient magnitudes differ, mean over a pyramid of grey images; ``(N, 1, S, S)`` in [0, 1].

    GMS = (2 g₁ g₂ + c) / (g₁² + g₂² + c).
    """
    size, total = images.shape[-2:], torch.zeros_like(images[:, :1])
    first, second = images.mean(1, keepdim=True), rebuilt.mean(1, keepdim=True)
    for scale in range(scales):
        if scale:
            first, second = F.avg_pool2d(first, 2), F.avg_pool2d(second, 2)
        g1, g2 = gradient_magnitude(first), gradient_magnitude(second)
        lost = 1 - (2 * g1 * g2 + STABLE) / (g1.square() + g2.square() + STABLE)
        total = total + F.interpolate(lost, size=size, mode="bilinear", align_corners=False)
    return total / scales


def inpainting_loss(images: Tensor, rebuilt: Tensor) -> Tensor:
    """Squared error and 1 - MSGMS, means over pixels, of what the U-Net makes of normal images."""
    return F.mse_loss(rebuilt, images) + dissimilarity(images, rebuilt).mean()


@torch.no_grad()
def errors(network: InpaintingUNet, images: Tensor, batch_size: int) -> Tensor:
    """`dissimilarity` of images ``(n, 3, S, S)`` and what the network makes of them, without gates: ``(n, 1, S, S)``, in main memory."""
    parts = (part.to(network.mask.device) for part in images.split(batch_size))
    return torch.cat([dissimilarity(part, network(part)).cpu() for part in parts])


def gate_losses(network: InpaintingUNet, gates: Gates, corrupted: Tensor, clean: Tensor, error: Tensor, level: float) -> dict[str, Tensor]:
    """How the gates are trained; the network is frozen.

    Args:
        network: The U-Net.
        gates: Its gates.
        corrupted: Images with synthetic corruptions ``(N, 3, S, S)``.
        clean: The same without.
        error: The frozen network's on the corrupted images (`errors`).
        level: The error of patches from which on a gate should be shut: a high quantile over normal images.

    Returns:
        ``rebuild``: `inpainting_loss` of the gated network against the clean image; ``close``: binary cross-entropy of every position's
        mean gate against 1 - min(1, error / level).
    """
    with torch.no_grad():
        encoded = network.encoded(corrupted)
    close = []
    for number, skip in enumerate(encoded[:-1]):
        target = 1 - (F.adaptive_avg_pool2d(error, skip.shape[-1]) / level).clamp_max(1)
        close.append(F.binary_cross_entropy(gates.weights(skip, number).mean(1, keepdim=True), target))
    return {"rebuild": inpainting_loss(clean, network.rebuilt(encoded, gates)), "close": torch.stack(close).mean()}
