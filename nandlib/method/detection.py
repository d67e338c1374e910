"""Normality detection: texts to suppression maps (Eq. 4 with f_add), for a model and a configuration."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nandlib.method.config import NandConfig
from nandlib.method.operators import aggregate_layers, detect, prompt_ensemble
from nandlib.method.prompts import PromptSet
from nandlib.models import VisionLanguageModel


def text_feature(model: VisionLanguageModel, sentences: Sequence[str], prompts: PromptSet) -> Tensor:
    """Eq. 3: the ensembled feature ``(D,)`` of prompts."""
    return prompt_ensemble(model.encode_text(list(sentences)), prompts.config.average)


def text_features(model: VisionLanguageModel, sets: Sequence[Sequence[str]], prompts: PromptSet) -> Tensor:
    """Eq. 3 for several sets of prompts, encoded together: ``(K, D)``."""
    encoded = model.encode_text([sentence for sentences in sets for sentence in sentences]).split([len(sentences) for sentences in sets])
    return torch.stack([prompt_ensemble(features, prompts.config.average) for features in encoded])


def suppression_map(
    added: Tensor,
    normal: Tensor,
    abnormal: Tensor,
    *,
    grid: tuple[int, int],
    temperature: float,
    nand: NandConfig,
    size: tuple[int, int] | None = None,
) -> Tensor:
    """A_sup: Eq. 4 with f_add in place of f_abn, its layers aggregated.

    Args:
        added, normal, abnormal: ``(N, L, P)`` cosine similarities of the patch tokens with f_add, f_nor and f_abn; maps are made where
            these are.
        grid: ``(h, w)``.
        temperature: Of the softmax.
        nand: Softmax set, layers, aggregation, interpolation.
        size: ``(H, W)`` of the map; None: ``nand.map_size`` squared.

    Raises:
        PresetError: If ``nand.layers`` names a layer that the model does not have.

    Returns:
        ``(N, H, W)``, in main memory, in [0, 1] unless the aggregation is the raw sum.
    """
    layers = nand.layers_of(added.shape[1])
    against = {"normal": normal, "abnormal": abnormal}
    maps = detect(
        added[:, layers],
        [against[name][:, layers] for name in nand.softmax_against],
        grid=grid,
        size=size or (nand.map_size, nand.map_size),
        temperature=temperature,
        resize=nand.resize,
        align_corners=nand.align_corners,
    )
    return aggregate_layers(maps, nand.layer_aggregation).cpu()


def image_probability(added: Tensor, normal: Tensor, temperature: float) -> Tensor:
    """Softmax of a text against the normal state for whole images: similarities ``(N,)`` to probabilities ``(N,)``."""
    return torch.sigmoid(temperature * (added - normal))
