"""UniAD's network (You et al., NeurIPS 2022): one transformer that rebuilds the features of every class.

Neighbour-masked attention and a learned query in every decoder layer keep it from copying its input. Parameters carry the official
names, so that official checkpoints load.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from nandlib.detectors.tokens import Encoder, LearnedPosition, attend, jitter, neighbour_mask


class DecoderLayer(nn.Module):
    """A learned query that attends to the memory, then to the layer before; residual and norm after each, and after the linear layers."""

    def __init__(self, tokens: int, width: int, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.learned_embed = nn.Embedding(tokens, width)
        self.self_attn = nn.MultiheadAttention(width, heads, dropout, batch_first=True)
        self.multihead_attn = nn.MultiheadAttention(width, heads, dropout, batch_first=True)
        self.linear1, self.linear2 = nn.Linear(width, feedforward), nn.Linear(feedforward, width)
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, before: Tensor, memory: Tensor, position: Tensor, masks: tuple[Tensor | None, Tensor | None]) -> Tensor:
        x = self.learned_embed.weight.expand(len(memory), -1, -1)
        x = self.norm1(x + self.dropout(attend(self.self_attn, x + position, memory + position, memory, masks[0])))
        x = self.norm2(x + self.dropout(attend(self.multihead_attn, x + position, before + position, before, masks[1])))
        inner = self.dropout(F.relu(self.linear1(x)))
        out: Tensor = self.norm3(x + self.dropout(self.linear2(inner)))
        return out


class Decoder(nn.Module):
    """Some `DecoderLayer`, the first of which sees the memory as the layer before; one more norm at the end."""

    def __init__(self, layers: int, tokens: int, width: int, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(tokens, width, heads, feedforward, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, memory: Tensor, position: Tensor, masks: tuple[Tensor | None, Tensor | None]) -> Tensor:
        x = memory
        for layer in self.layers:
            x = layer(x, memory, position, masks)
        out: Tensor = self.norm(x)
        return out


class UniAdNetwork(nn.Module):
    """Features in, features out.

    Args:
        channels: Of the features.
        grid: Rows and columns of tokens.
        width, heads, feedforward: Of the transformer.
        layers: Of encoder and decoder.
        window: That attention may not see around a token.
        masked: Which attentions it hides: the encoder's, the decoder's to the memory, the decoder's to the layer before.
        dropout: Of attention weights, residual branches and linear layers.

    Raises:
        PresetError: If the window hides everything from some token.
    """

    mask: Tensor

    def __init__(
        self,
        channels: int = 272,
        grid: tuple[int, int] = (14, 14),
        *,
        width: int = 256,
        heads: int = 8,
        feedforward: int = 1024,
        layers: tuple[int, int] = (4, 4),
        window: tuple[int, int] = (7, 7),
        masked: tuple[bool, bool, bool] = (True, True, True),
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.pos_embed = LearnedPosition(grid, width)
        self.transformer = nn.ModuleDict(
            {
                "encoder": Encoder(layers[0], width, heads, feedforward, dropout),
                "decoder": Decoder(layers[1], grid[0] * grid[1], width, heads, feedforward, dropout),
            }
        )
        self.input_proj, self.output_proj = nn.Linear(channels, width), nn.Linear(width, channels)
        self.grid, self.masked = grid, masked
        self.register_buffer("mask", neighbour_mask(grid, window), persistent=False)

    def forward(self, features: Tensor, noise: Tensor | None = None) -> Tensor:
        """Rebuild ``(N, C, h, w)``; `noise` ``(N, T, C)`` jitters the tokens (`nandlib.detectors.tokens.jitter`)."""
        tokens = features.flatten(2).transpose(1, 2)
        x = self.input_proj(tokens if noise is None else jitter(tokens, noise))
        position = self.pos_embed()
        masks = [self.mask if hides else None for hides in self.masked]
        memory = self.transformer["encoder"](x, position, masks[0])
        out: Tensor = self.output_proj(self.transformer["decoder"](memory, position, (masks[1], masks[2])))
        return out.transpose(1, 2).unflatten(2, self.grid)
