"""APRIL-GAN's model: CLIP ViT-L/14@336 at 518 px with four linear projections of its patch tokens."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from nandlib.errors import DataError, ModelError
from nandlib.models.base import ImageFeatures, Placement, own_randomness, refuse_text, whole_float32
from nandlib.models.checkpoints import read_state, refuse_infinite
from nandlib.models.last import LastAnswer
from nandlib.settings import RANDOM

if TYPE_CHECKING:
    from open_clip import CLIP
    from open_clip.transformer import VisionTransformer

ARCHITECTURE = "ViT-L-14-336"
IMAGE_SIZE = 518
BLOCKS = (6, 12, 18, 24)  # 1-based: the patch tokens after these blocks are used
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


class Projections(nn.Module):
    """One ``Linear(1024, 768)`` with bias per block; state-dict keys as in the official checkpoint: ``fc.<i>.weight``."""

    def __init__(self, width: int, embed_dim: int, n_layers: int = len(BLOCKS)) -> None:
        super().__init__()
        self.fc = nn.ModuleList(nn.Linear(width, embed_dim) for _ in range(n_layers))

    def forward(self, tokens: Sequence[Tensor]) -> Tensor:
        """Raw tokens, L times ``(N, P, width)``, to unit-norm tokens ``(N, L, P, embed_dim)``."""
        return torch.stack([unit_norm(layer(t)) for layer, t in zip(self.fc, tokens, strict=True)], 1)


def unit_norm(features: Tensor) -> Tensor:
    """L2 normalisation over the last axis, without the usual epsilon: as the official code does."""
    return features / features.norm(dim=-1, keepdim=True)


def load_projections(path: Path, width: int = 1024, embed_dim: int = 768) -> Projections:
    """Projections from ``.safetensors``, or from the official ``.pth`` (``{'trainable_linearlayer': …}``).

    Raises:
        ModelError: If the file is missing or holds something else.
    """
    projections = Projections(width, embed_dim)
    try:
        state = read_state(path)
        projections.load_state_dict(state)
    except RuntimeError as error:
        raise ModelError(f"{path} does not hold projections {width} → {embed_dim} for four layers: {error}") from error
    refuse_infinite(state, path)
    return projections


@contextmanager
def _unsaid(message: str) -> Iterator[None]:
    """Context in which the root logger passes over a message."""

    def other(record: logging.LogRecord) -> bool:
        return message not in record.getMessage()

    logging.getLogger().addFilter(other)
    try:
        yield
    finally:
        logging.getLogger().removeFilter(other)


def load_clip(architecture: str, weights: Path, **arguments: object) -> CLIP:
    """A CLIP of open_clip with the weights of a file, or random ones (always the same).

    Plain GELU, also on OpenAI's weights, which were trained with QuickGELU: that is what the official APRIL-GAN does at
    518 px, and open_clip where weights come from a file.

    Raises:
        ModelError: If the file is missing, does not hold this architecture, or holds what is no number.
    """
    import open_clip

    with own_randomness(), _unsaid("Model initialized randomly"):  # of real weights untrue, of random ones known
        torch.manual_seed(0)
        clip = open_clip.create_model(architecture, pretrained=None, **arguments)
    if weights == RANDOM:
        return clip
    # in float32, whatever the file holds: positions of half precision could not be brought to another size
    state = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in read_state(weights).items()}
    refuse_infinite(state, weights)
    try:
        open_clip.model.resize_pos_embed(state, clip)
        open_clip.model.resize_text_pos_embed(state, clip)
        state["logit_scale"] = state["logit_scale"].reshape(clip.logit_scale.shape)
        clip.load_state_dict(state)
    except Exception as error:  # a damaged file can raise anything
        raise ModelError(f"{weights} does not hold the weights of CLIP {architecture}: {error}") from error
    return clip


def tokens_first(tower: VisionTransformer, first: bool = True) -> VisionTransformer:
    """A tower whose blocks take ``(P, N, width)``: it computes the same, and takes and gives what it did.

    torch's ``nn.MultiheadAttention`` then neither takes its fast path, which in float32 forms the whole matrix of attention on processors,
    nor projects transposed tokens as P products of N rows each, which makes a batch slower than its images one by one.
    """
    tower.transformer.batch_first = not first
    for block in tower.transformer.resblocks:
        block.attn.batch_first = not first
    return tower


def clip_input(image: Image.Image, side: int) -> Tensor:
    """RGB of any size to ``(3, side, side)``: squashed bicubically, CLIP's mean and standard deviation."""
    squashed = image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
    array = (np.asarray(squashed, np.float32) / 255 - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    return torch.from_numpy(np.ascontiguousarray(array.transpose(2, 0, 1)))


@torch.no_grad()
def encode_tokens(clip: CLIP, tokens: Tensor) -> Tensor:
    """CLIP's text features ``(n, D)`` of token ids ``(n, 77)``, without the padding that no sentence reaches.

    A token sees those before it alone, and the feature is that of the last one: what follows in all sentences changes nothing.
    """
    last = tokens.argmax(1)  # the token of the end has the highest id
    length = int(last.max()) + 1
    placed = clip.token_embedding(tokens[:, :length]) + clip.positional_embedding[:length]
    seen = clip.ln_final(clip.transformer(placed, attn_mask=clip.attn_mask[:length, :length]))
    projected: Tensor = seen[torch.arange(len(tokens)), last] @ clip.text_projection
    return projected


class ClipModel:
    """CLIP with projections (see `VisionLanguageModel`).

    Args:
        clip: An open_clip model with a vision transformer, image size 518, plain GELU.
        projections: Of the patch tokens after the blocks `BLOCKS`.
        tokenizer: Sentences to token ids ``(n, 77)``.
    """

    temperature = 100.0
    image_size = IMAGE_SIZE
    n_layers = len(BLOCKS)

    def __init__(
        self, clip: CLIP, projections: Projections, tokenizer: Callable[[list[str]], Tensor], placement: Placement = Placement()
    ) -> None:
        self.placement, self._last = placement, LastAnswer[tuple[list[Tensor], Tensor]]()
        self.clip = clip.eval().requires_grad_(False).to(placement.device)
        self.projections = projections.eval().requires_grad_(False).to(placement.device)
        self.tokenizer, self.tower = tokenizer, tokens_first(self.clip.visual)
        self._compiled = torch.compile(self.tower.forward_intermediates) if placement.compiled else None

    @classmethod
    def load(cls, weights: Path, clip_weights: Path, placement: Placement = Placement()) -> ClipModel:
        """The paper's model: CLIP ViT-L/14@336 at 518 px from `clip_weights`, projections from `weights`; or `RANDOM`.

        Raises:
            ModelError: If a file is missing or does not fit.
        """
        import open_clip

        clip = load_clip(ARCHITECTURE, clip_weights, force_image_size=IMAGE_SIZE)
        if weights == RANDOM:
            with own_randomness():
                torch.manual_seed(1)
                projections = Projections(1024, 768)
        else:
            projections = load_projections(weights)
        return cls(clip, projections, open_clip.get_tokenizer(ARCHITECTURE), placement)

    def preprocess(self, image: Image.Image) -> Tensor:
        """RGB of any size, squashed bicubically to 518 x 518, CLIP's mean and standard deviation."""
        return clip_input(image, self.image_size)

    def _forward(self, batch: Tensor) -> tuple[list[Tensor], Tensor]:
        """Raw tokens after each of `BLOCKS` without CLS, ``(N, P, width)``, and the projected CLS ``(N, D)``; float32.

        Those of the last batch are remembered (`LastAnswer`): a detector and a normality that see the same images share one pass.
        """
        return self._last(batch, lambda: self._passed(batch))

    def _passed(self, batch: Tensor) -> tuple[list[Tensor], Tensor]:
        run = self._compiled or self.tower.forward_intermediates
        with self.placement.running():
            output = run(
                batch.to(self.placement.device), indices=[block - 1 for block in BLOCKS], normalize_intermediates=False, output_fmt="NLC"
            )
        return [layer.float().contiguous() for layer in output["image_intermediates"]], output["image_features"].float()

    @whole_float32()
    @torch.no_grad()
    def encode_image(self, batch: Tensor) -> ImageFeatures:
        raw, image = self._forward(batch)
        grid = self.tower.grid_size
        return ImageFeatures(self.projections(raw), F.normalize(image, dim=-1).cpu(), (int(grid[0]), int(grid[1])))

    @torch.no_grad()
    def raw_tokens(self, batch: Tensor) -> list[Tensor]:
        return [layer.cpu() for layer in self._forward(batch)[0]]

    @whole_float32()
    @torch.no_grad()
    def encode_text(self, sentences: Sequence[str], batch: int = 128) -> Tensor:
        refuse_text(sentences)
        chunks = [self.tokenizer(list(sentences[start : start + batch])) for start in range(0, len(sentences), batch)]
        for sentence, ids in zip(sentences, (ids for chunk in chunks for ids in chunk), strict=True):
            if ids[-1]:  # its last token stands where a longer one is cut off
                raise DataError(f"“{sentence}” is longer than the {len(ids)} tokens that CLIP reads: say it in fewer words")
        found = [encode_tokens(self.clip, chunk.to(self.placement.device)) for chunk in chunks]
        return torch.cat(found).cpu() if found else torch.empty(0, self.clip.text_projection.shape[1])

    def patch_backbone(self) -> nn.Module:
        raise ModelError("PatchCore uses wide_resnet50_2, not CLIP: set patchcore.backbone_weights in the preset")
