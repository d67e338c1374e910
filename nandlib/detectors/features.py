"""Frozen backbones as the trained detectors see them: images in, feature maps out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from nandlib.data.images import ImageLike, as_image
from nandlib.errors import ModelError
from nandlib.models import VisionLanguageModel
from nandlib.models.mini import IMAGE_SIZE, MiniModel


@dataclass(frozen=True)
class FrozenFeatures:
    """A frozen backbone.

    Attributes:
        name: Goes into the state of what is trained on it.
        preprocess: RGB image to the input ``(3, S, S)``.
        layers: Inputs ``(N, 3, S, S)`` to maps ``(N, C_i, h_i, w_i)``.
        size: S.
    """

    name: str
    preprocess: Callable[[Image.Image], Tensor]
    layers: Callable[[Tensor], list[Tensor]]
    size: int

    @torch.no_grad()
    def of(
        self, images: Sequence[ImageLike], make: Callable[[list[Tensor]], Tensor], progress: bool = False, batch_size: int = 8
    ) -> Tensor:
        """What `make` makes of the layers of all images, one after the other along the first axis."""
        starts = tqdm(range(0, len(images), batch_size), desc="features", disable=not progress)
        inputs = (torch.stack([self.preprocess(as_image(image)) for image in images[s : s + batch_size]]) for s in starts)
        return torch.cat([make(self.layers(batch)) for batch in inputs])


def embedded_features(model: VisionLanguageModel | None, stages: Sequence[int]) -> FrozenFeatures:
    """Some of the embedded tower's six stages.

    Raises:
        ModelError: If the model is another one.
    """
    if not isinstance(model, MiniModel):
        raise ModelError("at embedded size the detector is trained on the embedded model's features: give load_model('mini')")
    tower = model.tower

    def layers(batch: Tensor) -> list[Tensor]:
        found = tower(batch.to(model.placement.device))
        return [found[k].float().cpu().contiguous() for k in stages]

    name = "mini:" + ",".join(map(str, stages))
    return FrozenFeatures(name, model.preprocess, layers, IMAGE_SIZE)
