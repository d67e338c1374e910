"""Normalities that were shown: examples by name, and where images show the same."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nandlib.data.batch import Batch
from nandlib.data.images import ImageLike, as_image, pixel_key
from nandlib.errors import DataError, outside
from nandlib.method.batches import BATCH
from nandlib.method.config import NandConfig
from nandlib.method.descriptors import Descriptors
from nandlib.method.examples import Example, directions, example_score, example_suppression, example_weights, positions, shown_directions
from nandlib.method.plus import find_regions
from nandlib.models import whole_float32

SAME = 1 - 1e-6  # cosine from which on two examples are one


@dataclass(frozen=True)
class Shown:
    """What examples show, by the name of their normality. Immutable.

    Attributes:
        descriptors: By which images are compared.
        nand: Parameters of the regions and of normality by example.
        examples: Name → directions ``(E, C)`` of its examples in all their positions (`nandlib.method.examples`).
        keys: Name → `nandlib.data.images.pixel_key` of each example.
    """

    descriptors: Descriptors
    nand: NandConfig
    examples: Mapping[str, Tensor] = field(default_factory=dict)
    keys: Mapping[str, tuple[bytes, ...]] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Shown({ {name: len(own) for name, own in self.keys.items()} })"

    @whole_float32()
    @torch.no_grad()
    def add(self, name: str, examples: Sequence[Example], base: Sequence[np.ndarray]) -> Shown:
        """With the examples of one more normality, or more of one.

        Args:
            name: Of the normality.
            examples: One or more.
            base: The detector's map ``(H, W)`` of each.

        Raises:
            DataError: If an example shows nothing, its mask does not fit, or it was given before.
        """
        every = len(positions(self.nand.examples))
        known = [direction for own in self.examples.values() for direction in own[::every]]  # of images as they are
        new = [self.examples[name]] if name in self.examples else []
        for k, (example, anomaly) in enumerate(zip(examples, base, strict=True), 1):
            image, called = as_image(example.image), str(example.image) if isinstance(example.image, (str, Path)) else f"example {k}"
            if example.where(image.size) is None:
                check_shows(called, score := example_score(example, image.size, anomaly, self.nand.plus), self.descriptors.level)
                if (highest := self.descriptors.highest) is not None and score <= highest:
                    said = f"{called} may show nothing: its score is {score:.3g}, and a normal image reaches {highest:.3g}"
                    warnings.warn(said, stacklevel=outside())
            weigh = partial(example_weights, example, image.size, anomaly, plus=self.nand.plus)
            new.append(shown_directions(image, self.descriptors, weigh, self.descriptors.normal, self.nand.examples))
            if self.descriptors.knows(example.image) or not new[-1][0].any():
                raise DataError(f"{called} is one of the normal images: it shows nothing that they do not")
            check_new(called, new[-1][0], known)
            known.append(new[-1][0])
        keys = (*self.keys.get(name, ()), *(pixel_key(example.image) for example in examples))
        return replace(self, examples={**self.examples, name: torch.cat(new)}, keys={**self.keys, name: keys})

    def remove(self, name: str) -> Shown:
        """Without the examples of one normality, if it has any."""
        examples = {key: own for key, own in self.examples.items() if key != name}
        return replace(self, examples=examples, keys={key: own for key, own in self.keys.items() if key != name})

    def every_key(self) -> list[bytes]:
        """Of all examples."""
        return [key for own in self.keys.values() for key in own]

    def refuse_used(self, images: Sequence[ImageLike]) -> None:
        """Raise DataError if the detector was fitted on one of these images, or it is an example: both score lower than others."""
        self.descriptors.refuse_fitted(images)
        known = set(self.every_key())
        if known and any(pixel_key(image) in known for image in images):
            raise DataError("a threshold is set on images that are no examples, whose own score is too low: one of these is")

    @whole_float32()
    @torch.no_grad()
    def maps(self, images: Sequence[ImageLike], base: Sequence[np.ndarray]) -> dict[str, list[np.ndarray]]:
        """A_sup of every normality that was shown: name → one float32 ``(H, W)`` map an image, of the size of its anomaly map `base`."""
        maps: dict[str, list[np.ndarray]] = {name: [] for name in self.examples}
        images = images if isinstance(images, Batch) else list(images)
        for start in range(0, len(images) if self.examples else 0, BATCH):
            rows = slice(start, start + BATCH)
            for anomaly, own in zip(base[rows], self.descriptors(images[rows]), strict=True):
                regions = find_regions(torch.from_numpy(anomaly)[None], (own.shape[-2], own.shape[-1]), self.nand.plus)
                found = directions(own[None], self.descriptors.normal, regions)
                for name, examples in self.examples.items():
                    maps[name].append(example_suppression(found, examples, regions, self.nand.examples)[0].float().numpy())
        return maps


def check_shows(name: str, score: float, level: float | None) -> None:
    """Raise DataError if an example's score is not above that of half of the normal images (None: not known), or 0."""
    if score <= 0:
        raise DataError(f"{name} shows nothing: its anomaly map is 0 there; say where it is with a mask or a box, or leave it out")
    if level is not None and score <= level:
        raise DataError(
            f"{name} shows nothing: its score is {score:.3g}, and half of the normal images reach {level:.3g}; "
            "say where it is with a mask (on the command line --accept-masks) or a box, or leave it out"
        )


def check_new(name: str, direction: Tensor, others: Sequence[Tensor]) -> None:
    """Raise DataError if an example's direction ``(C,)`` is that of another."""
    if any(float(direction @ other) > SAME for other in others):
        raise DataError(f"{name} was given before: every example counts once")


def as_example(example: ImageLike | Example) -> Example:
    """An image, or an image with its mask, box or point, as the latter."""
    return example if isinstance(example, Example) else Example(example)
