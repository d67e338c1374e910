"""APRIL-GAN, zero-shot: Eq. 4 with the abnormal state against the normal one, summed over layers."""

from __future__ import annotations

import torch
from torch import Tensor

from nandlib.config import NandConfig
from nandlib.detectors.base import TorchDetector
from nandlib.models import VisionLanguageModel
from nandlib.operators import aggregate_layers, detect, prompt_ensemble, similarities
from nandlib.prompts import PromptSet


def anomaly_map(abnormal: Tensor, normal: Tensor, *, grid: tuple[int, int], temperature: float, nand: NandConfig) -> Tensor:
    """A of Eq. 4: Σ_l softmax(E_I^l, {f_abn, f_nor})_1.

    Args:
        abnormal, normal: ``(N, L, P)`` cosine similarities of the patch tokens with f_abn and f_nor.
        grid: ``(h, w)``.
        temperature: Of the softmax.
        nand: Map size and interpolation.

    Returns:
        ``(N, H, W)`` in [0, L].
    """
    size = (nand.map_size, nand.map_size)
    layers = detect(abnormal, [normal], grid=grid, size=size, temperature=temperature, resize=nand.resize, align_corners=nand.align_corners)
    return aggregate_layers(layers, "sum")


class AprilGan(TorchDetector):
    """APRIL-GAN on any vision-language model of the study, for one class."""

    def __init__(self, model: VisionLanguageModel, prompts: PromptSet, class_name: str, nand: NandConfig = NandConfig()) -> None:
        sentences = (prompts.abnormal(class_name), prompts.normal(class_name))
        texts = torch.stack([prompt_ensemble(model.encode_text(s), prompts.config.average) for s in sentences])
        temperature = nand.temperature or model.temperature

        def maps(batch: Tensor) -> Tensor:
            features = model.encode_image(batch)
            abnormal, normal = similarities(features.tokens, texts).unbind(1)
            return anomaly_map(abnormal, normal, grid=features.grid, temperature=temperature, nand=nand)

        super().__init__(model.preprocess, maps)
