"""WinCLIP, zero- and few-shot, with anomalib's windows, harmonic aggregation and scores.

What differs between the embedded and the full-size study is the encoder of images, windows and patches. At full size it is
anomalib's, with one repair for open_clip 3. On the embedded model a window embedding is the mean of its patch tokens: its
image tower has no transformer to pass a window through. Everything after the embeddings is anomalib's `WinClipModel`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path

import torch
import torch.nn.functional as F
from anomalib.models.image.winclip.prompting import create_prompt_ensemble
from anomalib.models.image.winclip.torch_model import BACKBONE, TEMPERATURE, WinClipModel
from anomalib.models.image.winclip.utils import harmonic_aggregation, make_masks, visual_association_score
from open_clip import tokenize
from PIL import Image
from torch import Tensor, nn

from nandlib.detectors.base import TorchDetector
from nandlib.models import Placement, VisionLanguageModel
from nandlib.models.clip import clip_input, encode_tokens, load_clip, tokens_first
from nandlib.models.last import LastAnswer

SCALES = (2, 3)  # sides of the windows in patches
Embeddings = tuple[Tensor, list[Tensor], Tensor]  # (N, D), one (N, n_windows, D) a scale, (N, P, C)


class Encoder:
    """Remembers the embeddings of the last batch (`LastAnswer`) and the texts of the last class, which several detectors share.

    Attributes:
        preprocess: RGB of any size to the encoder's input.
        grid_size: ``(h, w)`` of the patches.
        masks: Patches of each window, ``(n_patches, n_windows)`` a scale.
        temperature: Divides cosine similarities.
    """

    preprocess: Callable[[Image.Image], Tensor]
    grid_size: tuple[int, int]
    masks: list[Tensor]
    temperature: float
    _last_texts: tuple[str, Tensor] | None = None

    @cached_property
    def _last(self) -> LastAnswer[Embeddings]:
        return LastAnswer()

    def encode(self, batch: Tensor) -> Embeddings:
        """Embeddings of the images, of their windows and of their patches."""
        raise NotImplementedError

    def encode_text(self, sentences: list[str]) -> Tensor:
        """Text features ``(n, D)``."""
        raise NotImplementedError

    def __call__(self, batch: Tensor) -> Embeddings:
        return self._last(batch, lambda: self.encode(batch))

    def texts(self, class_name: str) -> Tensor:
        """WinCLIP's own compositional prompts for a class: ``(2, D)``, rows normal and anomalous."""
        last = self._last_texts  # another thread may ask for another class meanwhile
        if last is None or last[0] != class_name:
            features = [self.encode_text(sentences).mean(0) for sentences in create_prompt_ensemble(class_name)]
            self._last_texts = last = (class_name, torch.stack(features))
        return last[1]


class WindowEncoder(Encoder):
    """Windows as means of the patch tokens of a vision-language model of the study.

    Args:
        model: The vision-language model.
        side: Patch tokens per side after average pooling.
    """

    def __init__(self, model: VisionLanguageModel, side: int) -> None:
        self.model, self.grid_size, self.temperature = model, (side, side), 1 / model.temperature
        self.masks = [make_masks(self.grid_size, scale, 1) for scale in SCALES]
        self.preprocess = model.preprocess  # itself: detectors of one preprocessing share a pass

    def encode_text(self, sentences: list[str]) -> Tensor:
        return self.model.encode_text(sentences)

    @torch.no_grad()
    def encode(self, batch: Tensor) -> Embeddings:
        features = self.model.encode_image(batch)
        tokens = features.tokens.mean(1).cpu().transpose(1, 2).unflatten(2, features.grid)
        patches = F.adaptive_avg_pool2d(tokens, self.grid_size).flatten(2).transpose(1, 2)
        windows = [patches[:, mask.flatten()].unflatten(1, mask.shape).mean(1) for mask in self.masks]
        return features.image, windows, patches


class RepairedWinClip(WinClipModel):
    """anomalib's WinCLIP on open_clip 3, whose transformer takes the batch first.

    anomalib 2.7 still hands it (tokens, batch, width): every window then attends to the other windows instead of to its
    own patches, all window embeddings come out alike, and the maps are flat.
    """

    masks: list[Tensor]

    def __init__(self, clip: nn.Module) -> None:
        nn.Module.__init__(self)  # not WinClipModel's, which would download CLIP
        self.clip, self.scales, self.apply_transform = clip, SCALES, False
        tokens_first(self.clip.visual).output_tokens = True
        self.grid_size = self.clip.visual.grid_size
        self.register_buffer_list("masks", self._generate_masks(), persistent=False)

    def _get_window_embeddings(self, feature_map: Tensor, masks: Tensor) -> Tensor:
        """Embeddings ``(N, n_windows, D)`` of the windows of a feature map ``(N, 1 + P, width)``."""
        visual, n_windows = self.clip.visual, masks.shape[1]
        index = torch.cat((masks.new_zeros(1, n_windows), masks + 1)).T.long()  # the class token and the window's patches
        tokens = feature_map[:, index].flatten(0, 1)
        tokens = visual.ln_post(visual.transformer(visual.ln_pre(visual.patch_dropout(tokens))))
        pooled, _ = visual._global_pool(tokens)
        return (pooled @ visual.proj).unflatten(0, (-1, n_windows))


class ClipWindowEncoder(Encoder):
    """WinCLIP's own encoder, ViT-B-16-plus-240; images are squashed to 240 px, so that maps and A_sup align.

    Args:
        weights: CLIP's weights, or `nandlib.settings.RANDOM`.
        placement: Device and precision.

    Raises:
        ModelError: If the weights are missing or do not fit.
    """

    temperature = TEMPERATURE

    def __init__(self, weights: Path, placement: Placement = Placement()) -> None:
        self.placement = placement
        self.network = RepairedWinClip(load_clip(BACKBONE, weights)).eval().requires_grad_(False).to(placement.device)
        self.grid_size, self.masks = self.network.grid_size, [mask.cpu() for mask in self.network.masks]
        self.preprocess = partial(clip_input, side=self.network.clip.visual.image_size[0])

    @torch.no_grad()
    def encode(self, batch: Tensor) -> Embeddings:
        with self.placement.running():
            image, windows, patches = self.network.encode_image(batch.to(self.placement.device))
        return image.float().cpu(), [window.float().cpu() for window in windows], patches.float().cpu()

    def encode_text(self, sentences: list[str]) -> Tensor:
        return encode_tokens(self.network.clip, tokenize(sentences).to(self.placement.device)).float().cpu()


class EncodedWinClip(WinClipModel):
    """anomalib's WinCLIP for one class, with the embeddings of an encoder that several classes and shots share."""

    masks: list[Tensor]

    def __init__(self, encoder: Encoder, class_name: str, reference_images: Tensor | None = None) -> None:
        nn.Module.__init__(self)  # not WinClipModel's, which would download CLIP
        self.encoder, self.scales, self.k_shot = encoder, SCALES, 0
        self.class_name = self.reference_images = None
        self.temperature, self.grid_size = encoder.temperature, encoder.grid_size
        self.register_buffer_list("masks", encoder.masks, persistent=False)
        self.register_buffer_list("_visual_embeddings", [torch.empty(0) for _ in SCALES])
        self.register_buffer("_patch_embeddings", torch.empty(0))
        self.register_buffer("_text_embeddings", torch.empty(0))
        self.setup(class_name, reference_images)

    def encode_image(self, batch: Tensor) -> Embeddings:
        return self.encoder(batch)

    def _compute_few_shot_scores(self, patch_embeddings: Tensor, window_embeddings: list[Tensor]) -> Tensor:
        """Distances to the references ``(N, h, w)``, anomalib's but for rounding: a distance is never below zero.

        Where an image is one of the references, cosines come out a little above 1; harmonic means of distances of either sign
        divide by what nearly cancels, and anomalib's maps hold any value there.
        """
        distances = [visual_association_score(patch_embeddings, self.patch_embeddings).clamp(min=0).unflatten(1, self.grid_size)]
        for windows, references, mask in zip(window_embeddings, self.visual_embeddings, self.masks, strict=True):
            distances.append(harmonic_aggregation(visual_association_score(windows, references).clamp(min=0), self.grid_size, mask))
        return torch.stack(distances).mean(0)

    def _collect_text_embeddings(self, class_name: str) -> None:  # type: ignore[override]  # anomalib's decorator hides its type
        self._text_embeddings = self.encoder.texts(class_name)


class WinClip(TorchDetector):
    """WinCLIP for one class.

    Args:
        encoder: Shared by all detectors that see the same batches.
        class_name: For WinCLIP's prompts.
        references: Normal images of the class; none: zero-shot.
    """

    def __init__(self, encoder: Encoder, class_name: str, references: Sequence[Image.Image] = ()) -> None:
        shots = torch.stack([encoder.preprocess(image) for image in references]) if references else None
        super().__init__(encoder.preprocess)
        self._network = EncodedWinClip(encoder, class_name, shots).eval()

    def maps(self, batch: Tensor) -> Tensor:
        found: Tensor = self._network(batch).anomaly_map
        return found
