"""What transformers that rebuild features share: neighbour-masked attention, positions, jitter, encoder layers.

UniAD and OneNIP write an image as tokens, row by row: token = row · w + column. N images, T = h · w tokens, C channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nandlib.errors import PresetError


def neighbour_mask(grid: tuple[int, int], window: tuple[int, int]) -> Tensor:
    """Which keys a query may not see: those around it. ``(T, T)`` bool, True where blocked, (query, key).

    Args:
        grid: Rows and columns of tokens.
        window: Height and width around the query; an even side blocks as much as the next odd one.

    Raises:
        PresetError: If some query could see nothing at all.
    """
    row, column = (axis.flatten() for axis in torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij"))
    blocked = ((row[:, None] - row).abs() <= window[0] // 2) & ((column[:, None] - column).abs() <= window[1] // 2)
    if blocked.all(1).any():
        raise PresetError(f"a window of {window[0]} x {window[1]} hides the whole grid of {grid[0]} x {grid[1]} tokens: take a smaller one")
    return blocked


def sine_position(grid: tuple[int, int], width: int, temperature: float = 10_000.0) -> Tensor:
    """Fixed positions ``(T, width)`` in [-1, 1]: sines and cosines of the row in the first half, of the column in the second."""
    half = width // 2
    period = temperature ** (2 * (torch.arange(half) // 2) / half)
    axes = []
    for axis in torch.meshgrid(*(torch.arange(1, side + 1) / (side + 1e-6) * 2 * torch.pi for side in grid), indexing="ij"):
        angle = axis.flatten()[:, None] / period
        axes.append(torch.stack([angle[:, 0::2].sin(), angle[:, 1::2].cos()], 2).flatten(1))
    return torch.cat(axes, 1)


class LearnedPosition(nn.Module):
    """Learned positions ``(T, width)``: of the column in the first half, of the row in the second; they start uniform in [0, 1)."""

    def __init__(self, grid: tuple[int, int], width: int) -> None:
        super().__init__()
        self.row_embed, self.col_embed = nn.Embedding(grid[0], width // 2), nn.Embedding(grid[1], width // 2)
        for table in (self.row_embed, self.col_embed):
            nn.init.uniform_(table.weight)

    def forward(self) -> Tensor:
        row, column = self.row_embed.weight, self.col_embed.weight
        return torch.cat([column.expand(len(row), -1, -1), row[:, None].expand(-1, len(column), -1)], -1).flatten(0, 1)


def jitter(tokens: Tensor, noise: Tensor, scale: float = 20.0) -> Tensor:
    """Feature jittering of UniAD: ``(…, C)`` tokens, each moved by noise · ‖token‖₂ / C · scale.

    Args:
        tokens: Features.
        noise: Standard normal, of their shape.
        scale: α of the paper.
    """
    return tokens + noise * tokens.norm(dim=-1, keepdim=True) / tokens.shape[-1] * scale


def attend(attention: nn.MultiheadAttention, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """Multi-head attention of ``(N, T, D)`` tokens, without its weights."""
    out: Tensor = attention(query, key, value, attn_mask=mask, need_weights=False)[0]
    return out


class EncoderLayer(nn.Module):
    """Self-attention and two linear layers, each followed by residual and norm; position on queries and keys alone."""

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(width, heads, dropout, batch_first=True)
        self.linear1, self.linear2 = nn.Linear(width, feedforward), nn.Linear(feedforward, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, position: Tensor, mask: Tensor | None) -> Tensor:
        at = x + position
        x = self.norm1(x + self.dropout(attend(self.self_attn, at, at, x, mask)))
        inner = self.dropout(F.relu(self.linear1(x)))
        out: Tensor = self.norm2(x + self.dropout(self.linear2(inner)))
        return out


class Encoder(nn.Module):
    """Some `EncoderLayer` one after the other; no norm of its own."""

    def __init__(self, layers: int, width: int, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(width, heads, feedforward, dropout) for _ in range(layers))

    def forward(self, x: Tensor, position: Tensor, mask: Tensor | None) -> Tensor:
        for layer in self.layers:
            x = layer(x, position, mask)
        return x


@torch.no_grad()
def initialise(network: nn.Module, generator: torch.Generator) -> None:
    """Xavier-uniform for every matrix of linear and convolutional layers, their biases 0, learned queries N(0, 1).

    The official code makes deep copies of one layer and redraws the linear layers alone: the stacked input projections of the
    attentions of one kind, and the learned queries, start equal in all layers.
    """
    first: dict[str, Tensor] = {}
    for name, module in network.named_modules():
        if isinstance(module, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.xavier_uniform_(module.weight, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        own = (
            module.in_proj_weight
            if isinstance(module, nn.MultiheadAttention)
            else module.weight
            if name.endswith("learned_embed")
            else None
        )
        if own is None:
            if isinstance(module, nn.Embedding):
                nn.init.uniform_(module.weight, generator=generator)
            continue
        kind = ".".join(part for part in name.split(".") if not part.isdigit())
        if kind not in first:
            started = torch.empty_like(own)
            if isinstance(module, nn.MultiheadAttention):
                nn.init.xavier_uniform_(started, generator=generator)
            else:
                nn.init.normal_(started, generator=generator)
            first[kind] = started
        own.copy_(first[kind])
        if isinstance(module, nn.MultiheadAttention):
            nn.init.zeros_(module.in_proj_bias)
