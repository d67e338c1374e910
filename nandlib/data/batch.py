"""Images as networks take them: a batch at a time, preprocessed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from nandlib.data.images import ImageLike, as_image


class Batch(Sequence[Image.Image]):
    """Images that several networks look at: those that preprocess them alike are given the same tensor.

    Args:
        images: As few as go through a network at once.
    """

    def __init__(self, images: Sequence[Image.Image]) -> None:
        self._images, self._inputs = tuple(images), dict[Callable[[Image.Image], Tensor], Tensor]()

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice) and index.indices(len(self)) == (0, len(self), 1):
            return self  # what has been preprocessed is known to all of it
        return self._images[index]

    def __len__(self) -> int:
        return len(self._images)

    def inputs(self, preprocess: Callable[[Image.Image], Tensor]) -> Tensor:
        """``(N, 3, S, S)``; the images are preprocessed once."""
        if preprocess not in self._inputs:
            self._inputs[preprocess] = torch.stack([preprocess(image) for image in self._images])
        return self._inputs[preprocess]


def in_batches(images: Sequence[ImageLike], most: int) -> Iterator[Batch]:
    """Images of any kind, at most `most` at a time."""
    for start in range(0, len(images), most):
        yield Batch([as_image(image) for image in images[start : start + most]])


def inputs(images: Sequence[ImageLike], preprocess: Callable[[Image.Image], Tensor], most: int) -> Iterator[Tensor]:
    """Images as a network takes them: tensors ``(n, 3, S, S)`` of at most `most` images, in their order."""
    if isinstance(images, Batch) and len(images) <= most:
        yield images.inputs(preprocess)
        return
    for start in range(0, len(images), most):
        yield torch.stack([preprocess(as_image(image)) for image in images[start : start + most]])
