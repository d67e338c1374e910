"""Two frozen teachers of different kinds, fused; two students, of which one sees noise: HetNet-style.

Known of HetNet (arXiv 2506.16050), from its project page: frozen *CNN and Transformer teachers*; noise from a Gaussian *N(μ_ij, Σ_ij) of
each position*, estimated from the training set, *replaces boxes of the CNN teacher's maps*; *fusion for every scale*, both resized
features and an attention between their pooled vectors; three scales joined by 0, 1 and 2 convolutions of 3 × 3; *two students*, each
with a one-class embedding: reconstruction on clean features, matched to the CNN teacher at three scales, and denoising on noisy ones,
matched to the other.

This study's own: widths; how the attention of the pooled vectors enters (as a gate on the channels of either teacher); how a draw from
N(μ_ij, Σ_ij + εI) is made; boxes; the map, the mean of both students' 1 - cos, σ = 4; as the second teacher a small transformer on
pixels, which is left as it starts or trained to fill in patches; at full size DeiT-B, and Wide ResNet-50-2 as the first.

B images, C_k channels of scale k, from the finest (k = 0) to the coarsest.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

HEADS = 4
HIDDEN = 0.5  # share of the patches that the second teacher learns to fill in
MOST_DRAWN = 64  # images, at most, whose deviations carry the noise


class PatchTransformer(nn.Module):
    """A small transformer on the patches of images.

    Args:
        side: Pixels a side.
        patch: Pixels a side of a patch.
        width: Channels of its tokens.
        depth: Layers; a third of them lies before each of the three maps.
    """

    def __init__(self, side: int, patch: int, width: int = 96, depth: int = 6) -> None:
        super().__init__()
        self.grid = side // patch
        self.embed = nn.Conv2d(3, width, patch, stride=patch)
        self.position = nn.Parameter(0.02 * torch.randn(1, self.grid**2, width))
        self.hidden = nn.Parameter(0.02 * torch.randn(width))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, HEADS, 2 * width, 0.0, "gelu", batch_first=True, norm_first=True) for _ in range(depth)
        )
        self.fill = nn.Linear(width, 3 * patch**2)

    def forward(self, images: Tensor) -> list[Tensor]:
        """``(B, 3, side, side)`` to three maps ``(B, width, g, g)``."""
        x, found = self.embed(images - 0.5).flatten(2).transpose(1, 2) + self.position, list[Tensor]()
        for k, layer in enumerate(self.layers, 1):
            x = layer(x)
            if k % (len(self.layers) // 3) == 0:
                found.append(x.transpose(1, 2).unflatten(2, (self.grid, self.grid)))
        return found

    def filling_loss(self, images: Tensor, hidden: Tensor) -> Tensor:
        """Squared error of the pixels of hidden patches ``(B, T)`` bool, each patch normalised, filled in from the others."""
        tokens = self.embed(images - 0.5).flatten(2).transpose(1, 2)
        x = torch.where(hidden[..., None], self.hidden, tokens) + self.position
        for layer in self.layers:
            x = layer(x)
        side = images.shape[-1] // self.grid
        target = F.unfold(images, side, stride=side).transpose(1, 2)
        target = (target - target.mean(-1, keepdim=True)) / (target.std(-1, keepdim=True) + 1e-2)
        return F.mse_loss(self.fill(x)[hidden], target[hidden])


def hidden_patches(count: int, tokens: int) -> Tensor:
    """Which patches are hidden ``(count, tokens)``, half of each image's; drawn from torch's global generator."""
    return torch.rand(count, tokens).argsort(1) < int(HIDDEN * tokens)


class PositionNoise:
    """N(μ_ij, Σ_ij + εI) of every position of a map, estimated from normal images.

    Σ_ij of n images has rank n - 1: a draw is μ + Σ_k w_k (x_k - μ) / √(n - 1) + √ε · v with standard normal w and v, which has exactly
    that distribution, without a matrix of C × C for every position.

    Args:
        features: ``(n, C, h, w)`` of normal images.
        epsilon: ε, as a share of the mean variance of the channels: over the images, or, where those are one or all the same, over places.
    """

    def __init__(self, features: Tensor, epsilon: float) -> None:
        some = features[np.linspace(0, len(features) - 1, min(len(features), MOST_DRAWN)).astype(int)]
        self.mean = features.mean(0)
        deviations = (some - some.mean(0)) / max(1, len(some) - 1) ** 0.5
        self.deviations = deviations.contiguous(memory_format=torch.channels_last)  # as `draw` multiplies them: several times faster
        over_images, over_places = (features.var(axes, correction=0).mean() for axes in (0, (0, 2, 3)))
        self.spread = float((epsilon * (over_images if over_images > 0 else over_places)).sqrt())

    def draw(self, count: int) -> Tensor:
        """``(count, C, h, w)``, from torch's global generator."""
        weights = torch.randn(count, len(self.deviations), *self.mean.shape[-2:])
        noise = torch.einsum("bnhw,nchw->bchw", weights, self.deviations)
        return self.mean + noise + self.spread * torch.randn(count, *self.mean.shape)


def random_boxes(count: int, most: int, rng: np.random.Generator) -> list[list[tuple[float, float, float, float]]]:
    """For each image one to `most` boxes: top, left, bottom, right as shares of its sides, a fifth to a half of them long."""
    found = []
    for _ in range(count):
        sides = rng.uniform(0.2, 0.5, (int(rng.integers(1, most + 1)), 2))
        starts = rng.uniform(0, 1, sides.shape) * (1 - sides)
        found.append([(float(t), float(s), float(t + h), float(s + w)) for (t, s), (h, w) in zip(starts, sides, strict=True)])
    return found


def in_boxes(boxes: Sequence[Sequence[tuple[float, float, float, float]]], grid: tuple[int, int]) -> Tensor:
    """Which cells of a grid lie in the boxes: ``(B, 1, h, w)`` bool."""
    found = torch.zeros(len(boxes), 1, *grid, dtype=torch.bool)
    for own, image in zip(boxes, found, strict=True):
        for top, left, bottom, right in own:
            rows, columns = _cells(top, bottom, grid[0]), _cells(left, right, grid[1])
            image[0, rows, columns] = True
    return found


def _cells(start: float, end: float, side: int) -> slice:
    first = min(round(start * side), side - 1)
    return slice(first, max(first + 1, round(end * side)))


class Fusion(nn.Module):
    """Both teachers' features of one scale, gated by an attention between their pooled vectors, and joined.

    Args:
        channels: Of the CNN teacher and of the Transformer teacher.
        width: Of what comes out.
    """

    def __init__(self, channels: tuple[int, int], width: int) -> None:
        super().__init__()
        self.inside = nn.ModuleList(nn.Conv2d(own, width, 1) for own in channels)
        self.attention = nn.MultiheadAttention(width, HEADS, batch_first=True)
        self.gate = nn.Linear(width, width)

    def forward(self, local: Tensor, far: Tensor) -> Tensor:
        """``(B, C, h, w)`` and ``(B, D, g, g)``, which is resized: ``(B, width, h, w)``."""
        far = F.interpolate(far, size=local.shape[-2:], mode="bilinear", align_corners=False)
        both = [project(own) for project, own in zip(self.inside, (local, far), strict=True)]
        pooled = torch.stack([own.mean((2, 3)) for own in both], 1)
        gates = self.gate(self.attention(pooled, pooled, pooled, need_weights=False)[0]).sigmoid()[..., None, None]
        return both[0] * gates[:, 0] + both[1] * gates[:, 1]


def _convolution(inside: int, outside: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inside, outside, 3, stride, 1, bias=False), nn.BatchNorm2d(outside), nn.ReLU())


class Student(nn.Module):
    """A one-class embedding of the joined scales, and a decoder to the CNN teacher's features of three scales.

    Args:
        channels: Of the CNN teacher's scales, the finest first.
        width: Of the embedding.
    """

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.embedding = nn.Sequential(nn.Conv2d(3 * width, width, 1), _convolution(width, width))
        self.up = nn.ModuleList(_convolution(width, width) for _ in channels)
        self.out = nn.ModuleList(nn.Conv2d(width, own, 1) for own in channels)

    def forward(self, joined: Tensor, sizes: Sequence[tuple[int, int]]) -> list[Tensor]:
        """``(B, 3 · width, h, w)`` to features of the given sizes, the finest first."""
        x, found = self.embedding(joined), list[Tensor]()
        for up, out, size in zip(reversed(self.up), reversed(self.out), reversed(sizes), strict=True):
            x = up(F.interpolate(x, size=size, mode="bilinear", align_corners=False))
            found.insert(0, out(x))
        return found


class HetNetwork(nn.Module):
    """Fusion, joining, and both students.

    Args:
        channels: Of the CNN teacher's three scales, the finest first.
        second: Of the Transformer teacher's maps.
        width: Of all else.
    """

    def __init__(self, channels: Sequence[int], second: int, width: int) -> None:
        super().__init__()
        self.fusions = nn.ModuleList(Fusion((own, second), width) for own in channels)
        self.joining = nn.ModuleList(nn.Sequential(*(_convolution(width, width, 2) for _ in range(2 - k))) for k in range(3))
        self.rebuilding, self.denoising = Student(channels, width), Student(channels, width)

    def join(self, local: Sequence[Tensor], far: Sequence[Tensor]) -> Tensor:
        """Three fused scales on the coarsest grid: two, one and no convolution of 3 × 3 with stride 2; ``(B, 3 · width, h, w)``."""
        size, fused = (local[-1].shape[-2], local[-1].shape[-1]), list[Tensor]()
        for fusion, joining, *teachers in zip(self.fusions, self.joining, local, far, strict=True):
            own = joining(fusion(*teachers))
            fused.append(own if own.shape[-2:] == size else F.adaptive_avg_pool2d(own, size))
        return torch.cat(fused, 1)

    def forward(
        self, local: Sequence[Tensor], far: Sequence[Tensor], noisy: Sequence[Tensor] | None = None
    ) -> tuple[list[Tensor], list[Tensor]]:
        """What the reconstruction and the denoising student make of clean features, or the latter of noisy ones, where they are given."""
        sizes = [(own.shape[-2], own.shape[-1]) for own in local]
        clean = self.join(local, far)
        return self.rebuilding(clean, sizes), self.denoising(clean if noisy is None else self.join(noisy, far), sizes)


def unlike(one: Sequence[Tensor], other: Sequence[Tensor]) -> list[Tensor]:
    """1 - cos of the channels at every position, of each scale: ``(B, h, w)`` in [0, 2]."""
    return [1 - F.cosine_similarity(a, b, dim=1) for a, b in zip(one, other, strict=True)]


def distillation_losses(network: HetNetwork, local: Sequence[Tensor], far: Sequence[Tensor], noisy: Sequence[Tensor]) -> dict[str, Tensor]:
    """``rebuild``: the reconstruction student against the CNN teacher; ``denoise``: the denoising student on noisy features against it."""
    rebuilt, denoised = network(local, far, noisy)
    pairs = {"rebuild": (rebuilt, local), "denoise": (denoised, [own.detach() for own in rebuilt])}
    return {name: torch.stack([scale.mean() for scale in unlike(*pair)]).sum() for name, pair in pairs.items()}


def patch_scores(network: HetNetwork, local: Sequence[Tensor], far: Sequence[Tensor]) -> Tensor:
    """Mean over both students of Σ over scales of 1 - cos, on the finest grid: ``(B, h, w)``, ≥ 0."""
    size, total = local[0].shape[-2:], torch.zeros(())
    for student in network(local, far):
        for scale in unlike(student, local):
            total = total + F.interpolate(scale[:, None], size=size, mode="bilinear", align_corners=False)[:, 0] / 2
    return total
