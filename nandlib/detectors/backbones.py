"""Frozen backbones of the detectors' published sizes. N images, H x W pixels, normalised by ImageNet's mean and deviation."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import timm
import torch
from torch import Tensor, nn

from nandlib.errors import ModelError
from nandlib.models.base import own_randomness
from nandlib.models.checkpoints import read_state
from nandlib.settings import RANDOM

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer

_MODULES = ("_expand_conv", "_bn0", "_depthwise_conv", "_bn1", "_se_reduce", "_se_expand", "_project_conv", "_bn2")  # of an official block


class EfficientNetB4(nn.Module):
    """Stages 1 to 4 of EfficientNet-B4, as UniAD's and OneNIP's official code computes them.

    That code fixes its "same" padding for an image of 380 pixels. For even sizes one strided convolution differs from timm's padding by
    the image at hand: the first of stage 3 takes 2 pixels on every side, in place of 1 before and 2 after, and all that follows differs
    by as much as the features themselves.
    """

    def __init__(self) -> None:
        super().__init__()
        self.network = timm.create_model("tf_efficientnet_b4", pretrained=False, features_only=True, out_indices=(0, 1, 2, 3))
        first = self.network.get_submodule("blocks.2.0")
        own = first.get_submodule("conv_dw")
        assert isinstance(own, nn.Conv2d)  # by its name
        first.conv_dw = nn.Conv2d(own.in_channels, own.out_channels, 5, stride=2, padding=2, groups=own.groups, bias=False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """``(N, 3, H, W)`` to maps of strides 2, 4, 8 and 16 and 24, 32, 56 and 160 channels."""
        found: list[Tensor] = self.network(images)
        return found

    def official_names(self) -> dict[str, str]:
        """Name of a parameter or running statistic of `network` → its name in EfficientNet-PyTorch's file."""
        modules = {"conv_stem": "_conv_stem", "bn1": "_bn0"}
        blocks = [f"blocks.{k}.{n}" for k, stage in enumerate(self.network.get_submodule("blocks").children()) for n, _ in enumerate(stage)]  # type: ignore[arg-type]
        for number, block in enumerate(blocks):
            inside = self.network.get_submodule(block).named_modules()
            own = [name for name, module in inside if isinstance(module, (nn.Conv2d, nn.BatchNorm2d))]
            modules |= {f"{block}.{name}": f"_blocks.{number}.{there}" for name, there in zip(own, _MODULES[-len(own) :], strict=True)}
        places = (name.rpartition(".") for name in self.network.state_dict())
        return {f"{module}.{leaf}": f"{modules[module]}.{leaf}" for module, _, leaf in places}


class ResNetStages(nn.Module):
    """Some stages of timm's ``resnet50`` or ``wide_resnet50_2``: 1 to 4 have strides 4, 8, 16 and 32."""

    def __init__(self, name: str, stages: Sequence[int]) -> None:
        super().__init__()
        self.network = timm.create_model(name, pretrained=False, features_only=True, out_indices=tuple(stages))

    def forward(self, images: Tensor) -> list[Tensor]:
        """``(N, 3, H, W)`` to one map a stage, of 256, 512, 1024 and 2048 channels."""
        found: list[Tensor] = self.network(images)
        return found

    def official_names(self) -> dict[str, str]:
        """The names are timm's and torchvision's."""
        return {name: name for name in self.network.state_dict()}


class TransformerStages(nn.Module):
    """timm's ``deit_base_patch16_224`` behind a third, two thirds and all of its layers."""

    def __init__(self) -> None:
        super().__init__()
        self.network = cast("VisionTransformer", timm.create_model("deit_base_patch16_224", pretrained=False, num_classes=0))

    def forward(self, images: Tensor) -> list[Tensor]:
        """``(N, 3, 224, 224)`` to three maps ``(N, 768, 14, 14)``."""
        found = self.network.forward_intermediates(images, indices=[3, 7, 11], intermediates_only=True)
        return cast("list[Tensor]", found)

    def official_names(self) -> dict[str, str]:
        """The names are timm's."""
        return {name: name for name in self.network.state_dict()}


def fingerprint(network: nn.Module) -> str:
    """Eight digits that tell a network's weights from others."""
    found = hashlib.sha256()
    for tensor in network.state_dict().values():
        found.update(tensor.cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:8]


def published_backbone(name: str, stages: Sequence[int], weights: Path) -> nn.Module:
    """A frozen backbone, in evaluation mode: images to the maps of some stages.

    Args:
        name: ``efficientnet_b4``, ``wide_resnet50_2``, ``resnet50`` or ``deit_base_patch16_224``.
        stages: From 0 for EfficientNet-B4, whose first four there are; from 1 for ResNets; not asked of DeiT.
        weights: Their file; or ``random``, always the same.

    Raises:
        ModelError: If the file is missing, lacks a weight, or is of another network.
    """
    with own_randomness():
        torch.manual_seed(0)
        found: EfficientNetB4 | TransformerStages | ResNetStages
        if name == "efficientnet_b4":
            found = EfficientNetB4()
        else:
            found = TransformerStages() if name.startswith("deit") else ResNetStages(name, stages)
    if weights != RANDOM:
        state, names = read_state(weights), found.official_names()
        missing = [there for there in names.values() if there not in state and not there.endswith("num_batches_tracked")]
        if missing:
            raise ModelError(f"{weights} lacks {len(missing)} weights of {name}, such as '{missing[0]}'")
        try:
            found.network.load_state_dict({own: state[there] for own, there in names.items() if there in state}, strict=False)
        except RuntimeError as error:  # of other shapes
            raise ModelError(f"{weights} does not hold the weights of {name}: {error}") from error
    return found.requires_grad_(False).eval()
