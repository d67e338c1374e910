"""Images as networks take them: a batch at a time, preprocessed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from nandlib.data.ahead import ahead, batched
from nandlib.data.images import ImageLike, as_image, refuse_single
from nandlib.errors import DataError

Preprocess = Callable[[Image.Image], Tensor]
PIECE = 256  # images whose maps are held at once: whole batches of all detectors


class Batch(Sequence[Image.Image]):
    """Images that several networks look at: those that preprocess them alike are given the same tensor.

    Args:
        images: As few as go through a network at once.
        prepared: What has been preprocessed already: by each of some functions, a tensor ``(3, S, S)`` an image.
    """

    def __init__(self, images: Sequence[Image.Image], prepared: Mapping[Preprocess, Sequence[Tensor]] | None = None) -> None:
        self._images, self._inputs = tuple(images), {how: torch.stack(list(own)) for how, own in (prepared or {}).items()}

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice) and index.indices(len(self)) == (0, len(self), 1):
            return self  # what has been preprocessed is known to all of it
        return self._images[index]

    def __len__(self) -> int:
        return len(self._images)

    def inputs(self, preprocess: Preprocess) -> Tensor:
        """``(N, 3, S, S)``; the images are preprocessed once."""
        if preprocess not in self._inputs:
            self._inputs[preprocess] = torch.stack([preprocess(image) for image in self._images])
        return self._inputs[preprocess]


def in_batches(images: Sequence[ImageLike], preprocess: Preprocess, most: int) -> Iterator[Batch]:
    """Images of any kind, at most `most` at a time, preprocessed for the networks that do it this way.

    What comes next is read and preprocessed while they work.
    """

    refuse_single(images, "images")

    def ready(image: ImageLike) -> tuple[Image.Image, Tensor]:
        own = as_image(image)
        return own, preprocess(own)

    for batch in batched(ahead(ready, images, 2 * most), most):
        own, tensors = zip(*batch, strict=True)
        yield Batch(own, {preprocess: tensors})


def in_pieces(found: Callable[[Sequence[ImageLike]], np.ndarray], images: Sequence[ImageLike]) -> list[np.ndarray]:
    """What is found of images of which all maps at once may be more than memory holds: of `PIECE` at a time, if they are a list, a tuple or
    an array."""
    refuse_single(images, "images")
    if not isinstance(images, (list, tuple, np.ndarray)) or len(images) <= PIECE:
        return [found(images)]
    parts = []
    for start in range(0, len(images), PIECE):
        try:
            parts.append(found(images[start : start + PIECE]))
        except DataError as error:
            raise DataError(f"{error} (images are counted from number {start})") from error
    return parts


def inputs(images: Sequence[ImageLike], preprocess: Preprocess, most: int) -> Iterator[Tensor]:
    """Images as a network takes them: tensors ``(n, 3, S, S)`` in their order, of at most `most` images; a `Batch` at once.

    What comes next is read and preprocessed while the network works.
    """
    if isinstance(images, Batch):
        yield images.inputs(preprocess)
        return
    refuse_single(images, "images")
    for batch in batched(ahead(lambda image: preprocess(as_image(image)), images, 2 * most), most):
        yield torch.stack(batch)
