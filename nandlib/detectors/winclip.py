"""WinCLIP, zero- and few-shot, with anomalib's windows, harmonic aggregation and scores.

On the embedded model a window embedding is the mean of its patch tokens: its image tower has no transformer to pass a
window through. Everything after the embeddings is anomalib's `WinClipModel`. At full size the whole model is anomalib's, with
one repair for open_clip 3.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from anomalib.models.image.winclip.prompting import create_prompt_ensemble
from anomalib.models.image.winclip.torch_model import WinClipModel
from anomalib.models.image.winclip.utils import make_masks
from PIL import Image
from torch import Tensor, nn

from nandlib.detectors.base import TorchDetector
from nandlib.models import VisionLanguageModel
from nandlib.models.clip import clip_input

SCALES = (2, 3)  # sides of the windows in patches


class WindowEncoder:
    """Image, window and patch embeddings of a batch; remembers the last batch, which several detectors share.

    Args:
        model: The vision-language model.
        side: Patch tokens per side after average pooling.
    """

    def __init__(self, model: VisionLanguageModel, side: int) -> None:
        self.model, self.side = model, side
        self.masks = [make_masks((side, side), scale, 1) for scale in SCALES]
        self._last: tuple[Tensor, tuple[Tensor, list[Tensor], Tensor]] | None = None

    @torch.no_grad()
    def __call__(self, batch: Tensor) -> tuple[Tensor, list[Tensor], Tensor]:
        """``(N, D)``, one ``(N, n_windows, D)`` a scale, ``(N, side², D)``."""
        if self._last is None or self._last[0] is not batch:
            features = self.model.encode_image(batch)
            tokens = features.tokens.mean(1).transpose(1, 2).unflatten(2, features.grid)
            patches = F.adaptive_avg_pool2d(tokens, self.side).flatten(2).transpose(1, 2)
            windows = [patches[:, mask.flatten()].unflatten(1, mask.shape).mean(1) for mask in self.masks]
            self._last = (batch, (features.image, windows, patches))
        return self._last[1]

    def texts(self, class_name: str) -> Tensor:
        """WinCLIP's own compositional prompts for a class: ``(2, D)``, rows normal and anomalous."""
        normal, anomalous = create_prompt_ensemble(class_name)
        return torch.stack([self.model.encode_text(sentences).mean(0) for sentences in (normal, anomalous)])


class EmbeddedWinClip(WinClipModel):
    """anomalib's WinCLIP with the embeddings of another encoder than CLIP."""

    def __init__(self, encoder: WindowEncoder, class_name: str, reference_images: Tensor | None = None) -> None:
        nn.Module.__init__(self)  # not WinClipModel's, which would download CLIP
        self.encoder, self.scales, self.k_shot = encoder, SCALES, 0
        self.class_name = self.reference_images = None
        self.temperature = 1 / encoder.model.temperature
        self.grid_size = (encoder.side, encoder.side)
        self.register_buffer_list("masks", encoder.masks, persistent=False)
        self.register_buffer_list("_visual_embeddings", [torch.empty(0) for _ in SCALES])
        self.register_buffer("_patch_embeddings", torch.empty(0))
        self.register_buffer("_text_embeddings", torch.empty(0))
        self.setup(class_name, reference_images)

    def encode_image(self, batch: Tensor) -> tuple[Tensor, list[Tensor], Tensor]:
        return self.encoder(batch)

    def _collect_text_embeddings(self, class_name: str) -> None:
        self._text_embeddings = self.encoder.texts(class_name)


class WinClip(TorchDetector):
    """WinCLIP on the embedded model, for one class.

    Args:
        encoder: Shared by all detectors that see the same batches.
        class_name: For WinCLIP's prompts.
        references: Normal images of the class; none: zero-shot.
    """

    def __init__(self, encoder: WindowEncoder, class_name: str, references: Sequence[Image.Image] = ()) -> None:
        preprocess = encoder.model.preprocess
        shots = torch.stack([preprocess(image) for image in references]) if references else None
        network = EmbeddedWinClip(encoder, class_name, shots).eval()
        super().__init__(preprocess, lambda batch: network(batch).anomaly_map)


class RepairedWinClip(WinClipModel):
    """anomalib's WinCLIP on open_clip 3, whose transformer takes the batch first.

    anomalib 2.7 still hands it (tokens, batch, width): every window then attends to the other windows instead of to its
    own patches, all window embeddings come out alike, and the maps are flat.
    """

    def _get_window_embeddings(self, feature_map: Tensor, masks: Tensor) -> Tensor:
        """Embeddings ``(N, n_windows, D)`` of the windows of a feature map ``(N, 1 + P, width)``."""
        visual, n_windows = self.clip.visual, masks.shape[1]
        index = torch.cat((masks.new_zeros(1, n_windows), masks + 1)).T.long()  # the class token and the window's patches
        tokens = feature_map[:, index].flatten(0, 1)
        tokens = visual.ln_post(visual.transformer(visual.ln_pre(visual.patch_dropout(tokens))))
        pooled, _ = visual._global_pool(tokens)
        return (pooled @ visual.proj).unflatten(0, (-1, n_windows))


class ClipWinClip(TorchDetector):
    """WinCLIP at full size: ViT-B-16-plus-240, images squashed to 240 px so that maps and A_sup align, for one class.

    Args:
        class_name: For WinCLIP's prompts.
        references: Normal images of the class; none: zero-shot.
        network: A network to reuse; None: build one (fetches CLIP's weights once).
    """

    def __init__(self, class_name: str, references: Sequence[Image.Image] = (), network: RepairedWinClip | None = None) -> None:
        network = (network or RepairedWinClip()).eval()
        side = network.clip.visual.image_size[0]

        def preprocess(image: Image.Image) -> Tensor:
            return clip_input(image, side)

        shots = torch.stack([preprocess(image) for image in references]) if references else None
        network.setup(class_name, shots)
        super().__init__(preprocess, lambda batch: network(batch).anomaly_map)
