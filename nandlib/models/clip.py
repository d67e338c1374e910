"""APRIL-GAN's model: CLIP ViT-L/14@336 at 518 px with four linear projections of its patch tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from nandlib.errors import ModelError
from nandlib.models.base import ImageFeatures, Placement

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

    def forward(self, tokens: list[Tensor]) -> Tensor:
        """Raw tokens, L times ``(N, P, width)``, to unit-norm tokens ``(N, L, P, embed_dim)``."""
        return torch.stack([layer(t) / layer(t).norm(dim=-1, keepdim=True) for layer, t in zip(self.fc, tokens, strict=True)], 1)


def load_projections(path: Path, width: int = 1024, embed_dim: int = 768) -> Projections:
    """Projections from ``.safetensors``, or from the official ``.pth`` (``{'trainable_linearlayer': …}``).

    Raises:
        ModelError: If the file is missing or holds something else.
    """
    if not path.is_file():
        raise ModelError(
            f"{path} is missing: put APRIL-GAN's projections trained on VisA there (file visa_pretrained.pth of the "
            "official repository VAND-APRIL-GAN, folder exps/pretrained)"
        )
    if path.suffix == ".safetensors":
        state = load_file(path)
    else:
        content = torch.load(path, map_location="cpu", weights_only=True)
        state = content.get("trainable_linearlayer", content)
    projections = Projections(width, embed_dim)
    try:
        projections.load_state_dict(state)
    except RuntimeError as error:
        raise ModelError(f"{path} does not hold projections {width} → {embed_dim} for four layers: {error}") from error
    return projections


def clip_input(image: Image.Image, side: int) -> Tensor:
    """RGB of any size to ``(3, side, side)``: squashed bicubically, CLIP's mean and standard deviation."""
    squashed = image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
    array = (np.asarray(squashed, np.float32) / 255 - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    return torch.from_numpy(array).permute(2, 0, 1).contiguous()


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
        self, clip: nn.Module, projections: Projections, tokenizer: Callable[[list[str]], Tensor], placement: Placement = Placement()
    ) -> None:
        self.placement = placement
        self.clip = clip.eval().requires_grad_(False).to(placement.device)
        self.projections = projections.eval().requires_grad_(False).to(placement.device)
        self.tokenizer = tokenizer

    @classmethod
    def load(cls, weights: Path, placement: Placement = Placement(), pretrained: str | None = "openai") -> ClipModel:
        """The paper's model: `weights` is the file of the projections, `pretrained` open_clip's tag or a local file.

        Plain GELU on weights trained with QuickGELU: that is what the official code does at 518 px.

        Raises:
            ModelError: If CLIP's weights can neither be found nor fetched, or the projections are missing.
        """
        import open_clip

        projections = load_projections(weights)
        try:
            clip = open_clip.create_model(ARCHITECTURE, pretrained=pretrained, force_image_size=IMAGE_SIZE)
        except (OSError, RuntimeError) as error:
            raise ModelError(
                f"CLIP {ARCHITECTURE} (pretrained '{pretrained}') is not on this machine and could not be fetched: {error}. "
                "Run once with a network, or copy open_clip's cache folder here"
            ) from error
        return cls(clip, projections, open_clip.get_tokenizer(ARCHITECTURE), placement)

    def preprocess(self, image: Image.Image) -> Tensor:
        """RGB of any size, squashed bicubically to 518 x 518, CLIP's mean and standard deviation."""
        return clip_input(image, self.image_size)

    @torch.no_grad()
    def encode_image(self, batch: Tensor) -> ImageFeatures:
        with self.placement.autocast():
            output = self.clip.visual.forward_intermediates(
                batch.to(self.placement.device), indices=[block - 1 for block in BLOCKS], normalize_intermediates=False, output_fmt="NLC"
            )
        grid = self.clip.visual.grid_size
        tokens = self.projections([layer.float() for layer in output["image_intermediates"]])
        image = F.normalize(output["image_features"].float(), dim=-1)
        return ImageFeatures(tokens.cpu(), image.cpu(), (int(grid[0]), int(grid[1])))

    @torch.no_grad()
    def encode_text(self, sentences: Sequence[str], batch: int = 128) -> Tensor:
        chunks = [self.tokenizer(list(sentences[start : start + batch])) for start in range(0, len(sentences), batch)]
        features = [self.clip.encode_text(chunk.to(self.placement.device)) for chunk in chunks]
        return torch.cat(features).cpu()

    def patch_backbone(self) -> nn.Module:
        raise ModelError("PatchCore uses wide_resnet50_2, not CLIP: set patchcore.backbone_weights in the preset")
