"""Images through the image tower a batch at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby, islice

import numpy as np
import torch
from torch import Tensor

from nandlib.data.batch import inputs
from nandlib.data.images import ImageLike
from nandlib.models import ImageFeatures, VisionLanguageModel

BATCH = 8  # images a pass, unless a `Batch` is given


@torch.no_grad()
def encoded(
    model: VisionLanguageModel, images: Sequence[ImageLike], base: Sequence[np.ndarray] | None = None
) -> Iterator[tuple[ImageFeatures, Tensor | None]]:
    """Features of images in their order, of up to `BATCH` whose anomaly maps `base` are of one size, with those maps ``(n, H, W)``."""
    rest = None if base is None else iter(base)
    for batch in inputs(images, model.preprocess, BATCH):
        features = model.encode_image(batch)
        if rest is None:
            yield features, None
            continue
        first = 0
        for _, run in groupby(islice(rest, len(batch)), key=lambda single: single.shape):
            maps = torch.stack([torch.from_numpy(single) for single in run])
            rows = slice(first, first + len(maps))
            yield ImageFeatures(features.tokens[rows], features.image[rows], features.grid), maps
            first = rows.stop


def mean_token(model: VisionLanguageModel, images: Sequence[ImageLike]) -> Tensor:
    """The mean patch token ``(D,)`` over images, layers and patches: its similarity with a text is the text's mean similarity."""
    return torch.cat([features.tokens.mean((1, 2)).cpu() for features, _ in encoded(model, images)]).mean(0)
