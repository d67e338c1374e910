"""OneNIP's networks (Gao, ECCV 2024): features rebuilt with the help of one normal image, and a refiner of what they differ by.

Written from the paper and from recorded values of the official code, which has no licence: none of it is here. Parameters carry the
official names, so that official checkpoints load.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nandlib.detectors.rebuilt import aligned
from nandlib.detectors.tokens import Encoder, LearnedPosition, attend, jitter, neighbour_mask


class TwoWayLayer(nn.Module):
    """The prompt's tokens attend to the image's, pass two linear layers, and the image's attend to them.

    Args:
        width, heads, feedforward, dropout: As everywhere.
        as_first_published: Update the image's tokens with the linear layers' output in place of their own attention: the code, and the
            checkpoints, of September 2024.
    """

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float, as_first_published: bool = False) -> None:
        super().__init__()
        self.cross_attn_prompt_to_image = nn.MultiheadAttention(width, heads, dropout, batch_first=True)
        self.cross_attn_image_to_prompt = nn.MultiheadAttention(width, heads, dropout, batch_first=True)
        self.mlp = nn.ModuleDict({"lin1": nn.Linear(width, feedforward), "lin2": nn.Linear(feedforward, width)})
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout, self.as_first_published = nn.Dropout(dropout), as_first_published

    def forward(self, prompt: Tensor, image: Tensor, position: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """The two streams ``(N, T, D)`` after this layer."""
        seen = attend(self.cross_attn_prompt_to_image, prompt + position, image + position, image, mask)
        prompt = self.norm1(prompt + self.dropout(seen))
        inner = self.mlp["lin2"](F.relu(self.mlp["lin1"](prompt)))
        prompt = self.norm2(prompt + self.dropout(inner))
        seen = attend(self.cross_attn_image_to_prompt, image + position, prompt + position, prompt, mask)
        image = self.norm3(image + self.dropout(inner if self.as_first_published else seen))
        return prompt, image


class TwoWayDecoder(nn.Module):
    """Some `TwoWayLayer`; at last the prompt's tokens attend to the image's without a mask. They are the output."""

    def __init__(self, layers: int, width: int, heads: int, feedforward: int, dropout: float, as_first_published: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TwoWayLayer(width, heads, feedforward, dropout, as_first_published) for _ in range(layers))
        self.final_attn_token_to_image = nn.MultiheadAttention(width, heads, dropout, batch_first=True)
        self.norm, self.dropout = nn.LayerNorm(width), nn.Dropout(dropout)

    def forward(self, prompt: Tensor, image: Tensor, position: Tensor, mask: Tensor | None) -> Tensor:
        for layer in self.layers:
            prompt, image = layer(prompt, image, position, mask)
        seen = attend(self.final_attn_token_to_image, prompt + position, image + position, image)
        out: Tensor = self.norm(prompt + self.dropout(seen))
        return out


class Refiner(nn.Module):
    """|rebuilt - given| ``(N, C, h, w)`` to logits ``(N, 16 h, 16 w)``: twice convolution and transposed convolution, then ×4 (or to a
    size that is given)."""

    def __init__(self, channels: int, width: int = 128) -> None:
        super().__init__()
        self.upconv1, self.upconv2 = self._block(channels, width), self._block(width, width)
        self.predictor = nn.Conv2d(width, 1, 1)

    @staticmethod
    def _block(channels: int, width: int) -> nn.Sequential:
        convolution = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        return nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU(), nn.ConvTranspose2d(width, width, 2, stride=2))

    def forward(self, difference: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        logits = self.predictor(self.upconv2(self.upconv1(difference)))
        return aligned(logits, size or (4 * logits.shape[-2], 4 * logits.shape[-1]))[:, 0]


class OneNipNetwork(nn.Module):
    """Features and those of one normal image in, features out.

    Args:
        channels: Of the features.
        grid: Rows and columns of tokens.
        width, heads, feedforward: Of the transformer.
        layers: Of encoder and decoder.
        window: That attention may not see around a token.
        dropout: Of attention weights, residual branches and the encoder's linear layers.
        refiner: Its width.
        as_first_published: See `TwoWayLayer`.
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
        dropout: float = 0.1,
        refiner: int = 128,
        as_first_published: bool = False,
    ) -> None:
        super().__init__()
        self.pos_embed = LearnedPosition(grid, width)
        self.transformer = nn.ModuleDict(
            {
                "encoder": Encoder(layers[0], width, heads, feedforward, dropout),
                "decoder": TwoWayDecoder(layers[1], width, heads, feedforward, dropout, as_first_published),
            }
        )
        self.input_proj, self.output_proj = nn.Linear(channels, width), nn.Linear(width, channels)
        self.seghead = Refiner(channels, refiner)
        self.grid = grid
        self.register_buffer("mask", neighbour_mask(grid, window), persistent=False)

    def forward(self, features: Tensor, prompts: Tensor, noise: Tensor | None = None) -> Tensor:
        """Rebuild features with the help of normal images.

        Args:
            features: ``(m · n, C, h, w)``: first the n of one kind, then those of the next; m = 1, or 2 in training.
            prompts: ``(n, C, h, w)`` of normal images; each serves m features.
            noise: ``((m + 1) · n, T, C)``, jitters the tokens of both.
        """
        tokens = torch.cat([features, prompts]).flatten(2).transpose(1, 2)
        position = self.pos_embed()
        x = self.input_proj(tokens if noise is None else jitter(tokens, noise))
        image, prompt = self.transformer["encoder"](x, position, self.mask).split([len(features), len(prompts)])
        prompt = prompt.repeat(len(features) // len(prompts), 1, 1)
        out: Tensor = self.output_proj(self.transformer["decoder"](prompt, image, position, self.mask))
        return out.transpose(1, 2).unflatten(2, self.grid)


def dice_loss(probability: Tensor, mask: Tensor) -> Tensor:
    """1 - (Σps + 1) / (Σp² + Σs² + 1) of each ``(N, H, W)``: ``(N,)``. Without the usual factor 2: a perfect answer to a mask gives ½."""
    overlap = (probability * mask).flatten(1).sum(1)
    squares = probability.square().flatten(1).sum(1) + mask.square().flatten(1).sum(1)
    return 1 - (overlap + 1) / (squares + 1)


def scale_of(rebuilt: Tensor) -> Tensor:
    """c = (max + min) / 2 of reconstruction maps: it brings the refiner's map, in [0, 1], to their scale."""
    return (rebuilt.amax() + rebuilt.amin()) / 2


def joined_map(rebuilt: Tensor, refined: Tensor, scale: Tensor | float) -> Tensor:
    """½ · reconstruction map + ½ · c · refiner's map, all ``(N, H, W)``."""
    return 0.5 * rebuilt + 0.5 * scale * refined


def losses(
    network: OneNipNetwork, query: Tensor, synthetic: Tensor, prompt: Tensor, noise: Tensor, masks: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One step's loss is MSE + ½ · Dice: what is rebuilt ``(2n, C, h, w)``, the refiner's logits ``(2n, H, W)``, MSE and Dice.

    Both the normal and the synthetic images are to be rebuilt as the normal ones; the refiner sees what each differs by from its own
    features, before jitter.

    Args:
        network: In training mode.
        query: ``(n, C, h, w)`` features of normal images.
        synthetic: Of the same images with anomalies.
        prompt: Of other normal images of their classes.
        noise: ``(3n, T, C)``, jitters the tokens of all three.
        masks: ``(2n, H, W)``: empty ones, then those of the anomalies.
    """
    features = torch.cat([query, synthetic])
    rebuilt = network(features, prompt, noise)
    logits = network.seghead((rebuilt - features).abs(), (masks.shape[-2], masks.shape[-1]))
    return rebuilt, logits, F.mse_loss(rebuilt, torch.cat([query, query])), dice_loss(logits.sigmoid(), masks).mean()
