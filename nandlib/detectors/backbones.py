"""Frozen backbones of the detectors' published sizes. N images, H x W pixels."""

from __future__ import annotations

import timm
from torch import Tensor, nn


class EfficientNetB4(nn.Module):
    """Stages 1 to 4 of EfficientNet-B4, as UniAD's and OneNIP's official code computes them.

    That code fixes its "same" padding for an image of 380 pixels. For even sizes one strided convolution differs from timm's padding by
    the image at hand: the first of stage 3 takes 2 pixels on every side, in place of 1 before and 2 after, and all that follows differs
    by as much as the features themselves.

    Parameters are those of ``tf_efficientnet_b4`` without its last block, head and classifier, in that order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.network = timm.create_model("tf_efficientnet_b4", pretrained=False, features_only=True, out_indices=(0, 1, 2, 3))
        first = self.network.get_submodule("blocks.2.0")
        own = first.get_submodule("conv_dw")
        assert isinstance(own, nn.Conv2d)  # by its name
        first.conv_dw = nn.Conv2d(own.in_channels, own.out_channels, 5, stride=2, padding=2, groups=own.groups, bias=False)
        self.requires_grad_(False).eval()

    def forward(self, images: Tensor) -> list[Tensor]:
        """``(N, 3, H, W)``, ImageNet's mean and deviation, to maps of strides 2, 4, 8 and 16 and 24, 32, 56 and 160 channels."""
        found: list[Tensor] = self.network(images)
        return found

    def train(self, mode: bool = True) -> EfficientNetB4:
        """Stays as it is: batch norms never learn."""
        return super().train(False)
