"""Frozen backbones as the trained detectors see them: images in, feature maps out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import Compose, Normalize, Resize, ToTensor
from tqdm.auto import tqdm

from nandlib.data.images import ImageLike, as_image
from nandlib.detectors.backbones import fingerprint, published_backbone
from nandlib.detectors.config import TrainedConfig
from nandlib.errors import ModelError
from nandlib.models import VisionLanguageModel, load_model
from nandlib.models.base import whole_float32
from nandlib.models.mini import IMAGE_SIZE, MiniModel, preprocess

Layers = Callable[[Tensor], list[Tensor]]
IMAGENET = Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True, eq=False)
class _Stages:
    """Some stages of a tower, in float32."""

    tower: nn.Module
    stages: tuple[int, ...]

    def __call__(self, batch: Tensor) -> list[Tensor]:
        found = self.tower(batch)
        return [found[k].float().contiguous() for k in self.stages]


@dataclass(frozen=True, eq=False)
class _Pixels:
    """The image itself."""

    side: int
    device: str

    def __call__(self, batch: Tensor) -> list[Tensor]:
        return [pixels(batch.to(self.device), self.side)]


@dataclass(frozen=True, eq=False)
class _Backbone:
    """The maps of a published backbone."""

    network: nn.Module
    device: str

    def __call__(self, batch: Tensor) -> list[Tensor]:
        return [layer.contiguous() for layer in self.network(batch.to(self.device))]


@dataclass(frozen=True, eq=False)
class _Both:
    """The layers of one, then those of another."""

    first: Layers
    second: Layers

    def __call__(self, batch: Tensor) -> list[Tensor]:
        return [*self.first(batch), *self.second(batch)]


@dataclass(frozen=True)
class FrozenFeatures:
    """A frozen backbone.

    Attributes:
        name: Goes into the state of what is trained on it; says which weights a published backbone has.
        preprocess: RGB image to the input ``(3, S, S)``.
        layers: Inputs ``(N, 3, S, S)`` to maps ``(N, C_i, h_i, w_i)`` on `device`.
        size: S.
        device: Where it runs, and what is trained on it.
        resampling: By which `preprocess` squashes images to S x S.
    """

    name: str
    preprocess: Callable[[Image.Image], Tensor]
    layers: Layers
    size: int
    device: str = "cpu"
    resampling: Image.Resampling = Image.Resampling.BICUBIC

    def and_pixels(self, side: int) -> FrozenFeatures:
        """With the image itself as a last layer ``(N, 3, side, side)``."""
        return replace(self, layers=_Both(self.layers, _Pixels(side, self.device)), name=f"{self.name}+pixels:{side}")

    def and_published(self, name: str, weights: Path) -> FrozenFeatures:
        """With the maps of another published backbone, which has no choice of stages, as last layers."""
        network = published_backbone(name, (), weights).to(self.device)
        return replace(self, layers=_Both(self.layers, _Backbone(network, self.device)), name=f"{self.name}+{name}#{fingerprint(network)}")

    @torch.no_grad()
    def shapes(self, image: ImageLike) -> Tensor:
        """`shapes_of` the layers of an image."""
        with whole_float32():
            return shapes_of(self.layers(self.preprocess(as_image(image))[None]))

    @torch.no_grad()
    def of(
        self, images: Sequence[ImageLike], make: Callable[[list[Tensor]], Tensor], progress: bool = False, batch_size: int = 8
    ) -> Tensor:
        """What `make` makes of the layers of all images, one after the other along the first axis, in main memory."""
        starts = tqdm(range(0, len(images), batch_size), desc="features", disable=not progress)
        inputs = (torch.stack([self.preprocess(as_image(image)) for image in images[s : s + batch_size]]) for s in starts)
        with whole_float32():
            return torch.cat([make(self.layers(batch)).cpu() for batch in inputs])


def embedded_features(model: VisionLanguageModel | None, stages: Sequence[int]) -> FrozenFeatures:
    """Some of the embedded tower's six stages; of the embedded model, if none is given.

    Raises:
        ModelError: If the model is another one.
    """
    model = model or load_model("mini")
    if not isinstance(model, MiniModel):
        raise ModelError("at embedded size the detector is trained on the embedded model's features: give load_model('mini')")
    name, layers = "mini:" + ",".join(map(str, stages)), _Stages(model.tower, tuple(stages))
    return FrozenFeatures(name, model.preprocess, layers, IMAGE_SIZE, str(model.placement.device))


def pixel_features(side: int, device: str = "cpu") -> FrozenFeatures:
    """No backbone: one layer, the image itself, ``(N, 3, side, side)``, RGB in [0, 1]."""
    return FrozenFeatures(f"pixels:{side}", preprocess, _Pixels(side, device), IMAGE_SIZE, device)


def pixels(batch: Tensor, side: int) -> Tensor:
    """The embedded model's input ``(N, 3, 320, 320)`` as RGB in [0, 1], ``(N, 3, side, side)``."""
    small = F.interpolate(batch, size=(side, side), mode="bilinear", align_corners=False, antialias=True)
    return ((small * 128 + 127) / 255).clamp(0, 1)


def joined(layers: Sequence[Tensor]) -> Tensor:
    """Layers ``(N, C_i, h_i, w_i)`` as one row an image: ``(N, Σ C·h·w)``."""
    return torch.cat([layer.flatten(1) for layer in layers], 1)


def shapes_of(layers: Sequence[Tensor]) -> Tensor:
    """``(C, h, w)`` of every layer, one row each: what `apart` needs."""
    return torch.tensor([layer.shape[1:] for layer in layers])


def apart(rows: Tensor, shapes: Tensor) -> list[Tensor]:
    """The layers ``(N, C, h, w)`` of what `joined` made of them."""
    sizes = [tuple(shape) for shape in shapes.tolist()]
    return [part.unflatten(1, size) for part, size in zip(rows.split([c * h * w for c, h, w in sizes], 1), sizes, strict=True)]


def published_features(config: TrainedConfig, device: str = "cpu") -> FrozenFeatures:
    """The backbone of a detector's published size. Images of any shape are squashed to a square, bilinearly with anti-aliasing.

    PBAS's official code crops the centre of what it has resized by the shorter side (and more of two classes): its map shows only a part
    of an image that is not square. Here a map shows the whole image; for square ones that is the same.

    Raises:
        ModelError: If the file of weights is not named, missing, or lacks a weight.
    """
    if config.backbone_weights is None:
        raise ModelError(f"the weights of {config.backbone} are missing: name their file (or 'random') as backbone_weights")
    backbone = published_backbone(config.backbone, config.stages, config.backbone_weights).to(device)
    side = (config.image_size, config.image_size)
    prepare = Compose([Resize(side), ToTensor(), IMAGENET])
    name = "{}@{}:{}#{}".format(config.backbone, config.image_size, ",".join(map(str, config.stages)), fingerprint(backbone))
    return FrozenFeatures(name, prepare, _Backbone(backbone, device), config.image_size, device, Image.Resampling.BILINEAR)
