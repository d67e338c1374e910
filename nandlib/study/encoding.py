"""One forward pass an image: similarities of its patch tokens with texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from nandlib.method.operators import similarities
from nandlib.models import VisionLanguageModel
from nandlib.study.images import batches


def encode(
    paths: Mapping[str, Sequence[Path]], model: VisionLanguageModel, texts: Tensor, bank: Tensor | None = None
) -> tuple[dict[str, Tensor], tuple[int, int]]:
    """One forward pass an image, and its similarities with texts.

    Args:
        paths: Split → images.
        model: The vision-language model.
        texts: ``(K, D)``, unit norm.
        bank: ``(B, D)``, more texts, for which the mean over layers is enough.

    Returns:
        Per split, ``<split>`` ``(N, K, L, P)`` of the patch tokens, ``<split>_bank`` ``(N, B, P)``, and ``<split>_image`` ``(N, K)`` of
        the whole images; and the grid ``(h, w)`` of the patches.
    """
    found: dict[str, Tensor] = {}
    grid = (0, 0)
    for split, images in paths.items():
        cos, generic, whole = [], [], []
        for batch in batches(images, model.preprocess):
            features = model.encode_image(batch)
            cos.append(similarities(features.tokens, texts))
            if bank is not None:
                generic.append(similarities(features.tokens, bank).mean(2))
            whole.append(features.image @ texts.T)
            grid = features.grid
        found |= {split: torch.cat(cos), f"{split}_image": torch.cat(whole)}
        if generic:
            found[f"{split}_bank"] = torch.cat(generic)
    return found, grid


def on_normals(paths: Sequence[Path], model: VisionLanguageModel, texts: Tensor) -> tuple[Tensor, Tensor]:
    """What the texts find where nothing is wrong.

    Args:
        paths: Training-normal images.
        model: The vision-language model.
        texts: ``(K, D)``, unit norm; the first two are f_nor and f_abn.

    Returns:
        ``(K,)`` mean similarity over images, layers and patches; ``(N, 2, L, P)`` similarities with f_nor and f_abn.
    """
    means, states = [], []
    for batch in batches(paths, model.preprocess):
        cos = similarities(model.encode_image(batch).tokens, texts)
        means.append(cos.mean((2, 3)))
        states.append(cos[:, :2])
    return torch.cat(means).mean(0), torch.cat(states)
