"""APRIL-GAN: Eq. 4 with the abnormal state against the normal one, summed over layers; with references, their distance too."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from nandlib.detectors.base import TorchDetector
from nandlib.method.config import NandConfig
from nandlib.method.operators import aggregate_layers, detect, prompt_ensemble, similarities
from nandlib.method.prompts import PromptSet
from nandlib.models import VisionLanguageModel


def anomaly_map(abnormal: Tensor, normal: Tensor, *, grid: tuple[int, int], temperature: float, nand: NandConfig) -> Tensor:
    """A of Eq. 4: Σ_l softmax(E_I^l, {f_abn, f_nor})_1.

    Args:
        abnormal, normal: ``(N, L, P)`` cosine similarities of the patch tokens with f_abn and f_nor; maps are made where these are.
        grid: ``(h, w)``.
        temperature: Of the softmax.
        nand: Map size and interpolation.

    Returns:
        ``(N, H, W)`` in [0, L], in main memory.
    """
    size = (nand.map_size, nand.map_size)
    layers = detect(abnormal, [normal], grid=grid, size=size, temperature=temperature, resize=nand.resize, align_corners=nand.align_corners)
    return aggregate_layers(layers, "sum").cpu()


def reference_map(tokens: Sequence[Tensor], memory: Sequence[Tensor], *, grid: tuple[int, int], nand: NandConfig) -> Tensor:
    """What few-shot APRIL-GAN adds to A: Σ_l of the cosine distance to the nearest reference patch.

    Args:
        tokens: L times ``(N, P, C)``, patch tokens before the projections.
        memory: L times ``(M, C)``, those of the reference images.
        grid: ``(h, w)``.
        nand: Map size and interpolation.

    Returns:
        ``(N, H, W)`` in [0, 2 L].
    """
    size, total = (nand.map_size, nand.map_size), torch.zeros(())
    for layer, known in zip(tokens, memory, strict=True):
        distance = 1 - (F.normalize(layer, dim=-1) @ F.normalize(known, dim=-1).T).amax(-1)
        planes = distance.unflatten(1, grid)[:, None]
        total = total + F.interpolate(planes, size=size, mode="bilinear", align_corners=nand.align_corners)[:, 0]
    return total


class ReferenceDistance(TorchDetector):
    """`reference_map` for the reference images of one class.

    Args:
        model: The vision-language model.
        references: Normal images of the class, one or more.
        nand: Map size and interpolation.
    """

    def __init__(self, model: VisionLanguageModel, references: Sequence[Image.Image], nand: NandConfig = NandConfig()) -> None:
        super().__init__(model.preprocess)
        self._model, self._nand = model, nand
        self._memory = [t.flatten(0, 1) for t in model.raw_tokens(torch.stack([model.preprocess(image) for image in references]))]
        self._grid = model.encode_image(model.preprocess(references[0])[None]).grid

    def maps(self, batch: Tensor) -> Tensor:
        return reference_map(self._model.raw_tokens(batch), self._memory, grid=self._grid, nand=self._nand)


class AprilGan(TorchDetector):
    """APRIL-GAN, zero- or few-shot, on any vision-language model of the study, for one class.

    Args:
        model: The vision-language model.
        prompts: Templates and states.
        class_name: Fills the states.
        nand: Map size, interpolation, temperature.
        references: Normal images of the class; none: zero-shot.
    """

    def __init__(
        self,
        model: VisionLanguageModel,
        prompts: PromptSet,
        class_name: str,
        nand: NandConfig = NandConfig(),
        references: Sequence[Image.Image] = (),
    ) -> None:
        super().__init__(model.preprocess)
        self._model, self._nand = model, nand
        sentences = (prompts.abnormal(class_name), prompts.normal(class_name))
        self._texts = torch.stack([prompt_ensemble(model.encode_text(s), prompts.config.average) for s in sentences])
        self._temperature = nand.temperature or model.temperature
        self._distance = ReferenceDistance(model, references, nand) if references else None

    def maps(self, batch: Tensor) -> Tensor:
        features = self._model.encode_image(batch)
        abnormal, normal = similarities(features.tokens, self._texts).unbind(1)
        zero_shot = anomaly_map(abnormal, normal, grid=features.grid, temperature=self._temperature, nand=self._nand)
        return zero_shot if self._distance is None else zero_shot + self._distance.maps(batch)
