"""A masked autoencoder that sees a signal at two scales: MMAE-ECG-style.

Known of MMAE-ECG (arXiv 2502.05494), from its abstract and figures: a signal of K × Q is cut into T segments; a *global set* of all T and a
*local set* of δ consecutive ones, drawn at random, are *masked separately* at a ratio θ; what stays of both, with *distinct positional
embeddings*, goes into one *light encoder*; *one Transformer block* reconstructs; the loss is the squared error of *segments that are each
normalised*; at test *several complementary masks* are aggregated to scores of points and records.

This study's own: widths; the block sees the places of hidden segments as one learned token; complementary masks are the parts of a random
partition of the segments, so that every segment is hidden once in each; errors of the global and the local set are averaged.

N records, T segments of F = K · Q / T values.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

STILL = 0.1  # of the deviation of all normal segments, below which a segment's own is not divided by


def segments_of(signals: Tensor, segments: int) -> Tensor:
    """``(N, K, Q)`` to ``(N, T, F)``: each segment with all its leads."""
    return signals.unflatten(2, (segments, -1)).transpose(1, 2).flatten(2)


def normalised(segments: Tensor, least: float) -> Tensor:
    """Every segment less its mean, by its deviation, or by `least` where that is larger: a flat segment has no shape."""
    return (segments - segments.mean(-1, keepdim=True)) / segments.std(-1, keepdim=True).clamp_min(least)


def hidden_at_random(count: int, tokens: int, ratio: float) -> Tensor:
    """Which tokens are hidden ``(count, tokens)`` bool, the same number in every row, at least one (halves are rounded to the even
    number). From torch's global generator."""
    return torch.rand(count, tokens).argsort(1) < max(1, round(ratio * tokens))


def complementary(tokens: int, ratio: float, generator: torch.Generator) -> list[Tensor]:
    """The ⌈1 / ratio⌉ parts of one random partition ``(tokens,)`` bool: every token is hidden in exactly one.

    Each hides `ratio` of them, or less where 1 / ratio is no whole number.
    """
    order = torch.randperm(tokens, generator=generator)
    found = []
    for part in order.tensor_split(math.ceil(1 / ratio)):
        hidden = torch.zeros(tokens, dtype=torch.bool)
        hidden[part] = True
        found.append(hidden)
    return found


class MultiScaleAutoencoder(nn.Module):
    """Reconstructs hidden segments of a global and a local set.

    Args:
        features: F.
        segments: T.
        local: δ.
        width: Of the tokens.
        layers: Of the encoder.
        heads: Of its attention.
    """

    def __init__(self, features: int, segments: int, local: int, width: int, layers: int, heads: int = 4) -> None:
        super().__init__()
        self.local = local
        self.embed = nn.Linear(features, width)
        self.global_position, self.local_position = (nn.Parameter(0.02 * torch.randn(segments, width)) for _ in range(2))
        self.encoder = nn.ModuleList(_block(width, heads) for _ in range(layers))
        self.hidden = nn.Parameter(0.02 * torch.randn(width))
        self.block, self.norm, self.out = _block(width, heads), nn.LayerNorm(width), nn.Linear(width, features)

    def forward(self, segments: Tensor, hidden: Tensor, starts: Tensor, hidden_local: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstructions of all segments of both sets.

        Args:
            segments: ``(N, T, F)``, normalised.
            hidden: ``(N, T)`` bool, the same number in every row.
            starts: ``(N,)`` of the local sets.
            hidden_local: ``(N, δ)`` bool, the same number in every row.

        Returns:
            ``(N, T, F)`` and ``(N, δ, F)``.
        """
        places = starts[:, None] + torch.arange(self.local, device=starts.device)
        rows = torch.arange(len(segments), device=starts.device)[:, None]
        positions = torch.cat([self.global_position.expand(len(segments), -1, -1), self.local_position[places]], 1)
        tokens = self.embed(torch.cat([segments, segments[rows, places]], 1)) + positions
        seen = ~torch.cat([hidden, hidden_local], 1)
        kept = tokens[seen].unflatten(0, (len(segments), -1))
        for layer in self.encoder:
            kept = layer(kept)
        every = (self.hidden + positions).masked_scatter(seen[..., None], kept)
        found = self.out(self.norm(self.block(every)))
        return found[:, : segments.shape[1]], found[:, segments.shape[1] :]

    def errors(self, segments: Tensor, hidden: Tensor, starts: Tensor, hidden_local: Tensor) -> tuple[Tensor, Tensor]:
        """Squared errors of the hidden segments, ``(N, T, F)`` summed over both sets, and in how many sets each was hidden ``(N, T)``."""
        whole, part = self(segments, hidden, starts, hidden_local)
        places = starts[:, None] + torch.arange(self.local, device=starts.device)
        rows = torch.arange(len(segments), device=starts.device)[:, None]
        squared, counts = (whole - segments).square() * hidden[..., None], hidden.float()
        added = torch.zeros_like(squared).index_put((rows, places), (part - segments[rows, places]).square() * hidden_local[..., None])
        return squared + added, counts + torch.zeros_like(counts).index_put((rows, places), hidden_local.float())


def _block(width: int, heads: int) -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(width, heads, 2 * width, 0.0, "gelu", batch_first=True, norm_first=True)
