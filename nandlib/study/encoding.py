"""One forward pass an image: similarities of its patch tokens with texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from nandlib.method.operators import similarities
from nandlib.models import VisionLanguageModel
from nandlib.study.images import batches
from nandlib.study.rows import Rows


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
        kept = {name: Rows(len(images)) for name in (split, f"{split}_bank", f"{split}_image")}
        for batch in batches(images, model.preprocess):
            features = model.encode_image(batch)
            kept[split].add(similarities(features.tokens, texts).cpu())
            if bank is not None:
                kept[f"{split}_bank"].add(similarities(features.tokens, bank).mean(2).cpu())
            kept[f"{split}_image"].add(features.image @ texts.T)
            grid = features.grid
        found |= {name: rows.tensor() for name, rows in kept.items() if bank is not None or not name.endswith("_bank")}
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
    means, states = Rows(len(paths)), Rows(len(paths))
    for batch in batches(paths, model.preprocess):
        cos = similarities(model.encode_image(batch).tokens, texts).cpu()
        means.add(cos.mean((2, 3)))
        states.add(cos[:, :2])
    return means.tensor().mean(0), states.tensor()
