"""Patch descriptors of images, and what they are where nothing is wrong: what examples are compared by."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from nandlib.data.batch import inputs
from nandlib.data.images import ImageLike, evenly, identities, kept, refuse_single
from nandlib.data.maps import Detector, MapFolder, check_maps
from nandlib.errors import DataError
from nandlib.method.batches import BATCH
from nandlib.models import VisionLanguageModel
from nandlib.models.base import whole_float32

MOST = 8192  # descriptors of normal patches that are kept
FEW = 16  # normal images, at most, that say how high a map is where nothing is wrong


@runtime_checkable
class LendsDescriptors(Protocol):
    """A detector with patch descriptors of its own, as this study's PatchCore is."""

    @property
    def memory(self) -> Tensor: ...

    def normal_maps(self, indices: Sequence[int] | None = None) -> Tensor: ...

    @property
    def n_normals(self) -> int: ...

    def describe(self, images: Sequence[ImageLike]) -> Tensor: ...


class Descriptors:
    """Patch descriptors ``(n, C, h, w)`` of images: the detector's own where it lends them, else the model's (its ``patch_backbone``).

    Args:
        detector: The base detector.
        model: The vision-language model.
        normals: Normal images; not needed by a detector that lends its memory.
        normal: ``(M, C)`` descriptors of normal patches, where they are at hand already.
        level, highest: What these are, where they are at hand already.
    """

    def __init__(
        self,
        detector: Detector,
        model: VisionLanguageModel,
        normals: Sequence[ImageLike] = (),
        normal: Tensor | None = None,
        level: float | None = None,
        highest: float | None = None,
    ) -> None:
        self.detector, self.model, self._normal, self._level, self._highest = detector, model, normal, level, highest
        self.normals = tuple(map(kept, normals))

    @property
    def lent(self) -> bool:
        """Whether they are the detector's own."""
        return isinstance(self.detector, LendsDescriptors)

    def knows(self, image: ImageLike) -> bool:
        """Whether an image is a normal one (`identities`): of those given, or those that the detector was fitted on and keeps."""
        known = self._fitted | self._given
        return bool(known) and not known.isdisjoint(identities(image))

    def refuse_fitted(self, images: Sequence[ImageLike]) -> None:
        """Raise DataError if one of them is there twice, or the detector was fitted on it, as far as it keeps its images."""
        refuse_single(images, "images")
        seen = set[Path | bytes]()
        for image in images:
            if not seen.isdisjoint(own := identities(image)):
                called = image if isinstance(image, (str, Path)) else "an image"
                raise DataError(f"a threshold is set on images that count once each: {called} is there twice")
            seen |= own
        if not self._fitted.isdisjoint(seen):
            raise DataError(
                "a threshold is set on images that the detector was not trained on, since its own score too low: some of these it was"
            )

    def refuse_known(self, images: Sequence[ImageLike]) -> None:
        """Raise DataError if the detector was fitted on one of them, or it was given as normal."""
        if any(map(self.knows, images)):
            raise DataError("a check needs normal images that the detector was not trained on: some of these it was")

    @cached_property
    def _given(self) -> frozenset[Path | bytes]:
        return frozenset().union(*map(identities, self.normals))

    @cached_property
    def _fitted(self) -> frozenset[Path | bytes]:
        return frozenset().union(*map(identities, getattr(self.detector, "normals", ()) if self.lent else ()))

    @torch.no_grad()
    def __call__(self, images: Sequence[ImageLike]) -> Tensor:
        if isinstance(self.detector, LendsDescriptors):
            return self.detector.describe(images)
        with whole_float32():
            return torch.cat([self._backbone(batch) for batch in inputs(images, self.model.preprocess, BATCH)])

    @cached_property
    def normal(self) -> Tensor:
        """Descriptors of normal patches ``(M, C)``: the detector's memory, or an even share of the normal images' patches.

        Raises:
            DataError: If there are no normal images.
        """
        if self._normal is not None:
            return self._normal
        if isinstance(self.detector, LendsDescriptors):
            return self.detector.memory.cpu()
        if not self.normals:
            raise DataError(
                f"examples are told from what is normal, and {type(self.detector).__name__} does not say what that is: "
                "give some normal images as normals=[...] to add_normality where the detector is adapted first, or to load "
                "(on the command line: --normals FOLDER)"
            )
        patches = self(self.normals).flatten(2).transpose(1, 2).flatten(0, 1)
        return patches[evenly(len(patches), MOST)]

    @cached_property
    def level(self) -> float | None:
        """The median of the highest values of normal images' maps; None where no normal image is at hand.

        They are a detector's leave-own-out maps where it has such, else those of the normal images that were given: a detector that was
        trained on them finds them more normal than others. A folder of maps may lack theirs: not known.
        """
        if self._level is not None:
            return self._level
        return float(np.median(self._heights)) if len(self._heights) else None

    @property
    def highest(self) -> float | None:
        """The greatest of these values, of which `level` is the median; None where they are not at hand."""
        return self._highest if self._level is not None else float(self._heights.max()) if len(self._heights) else None

    @cached_property
    def _heights(self) -> np.ndarray:
        if isinstance(self.detector, LendsDescriptors):
            return np.array([float(single.max()) for single in self.detector.normal_maps(evenly(self.detector.n_normals, FEW))])
        some = [self.normals[k] for k in evenly(len(self.normals), FEW)] if self.normals else []
        if not some or (isinstance(self.detector, MapFolder) and not self.detector.has(some)):
            return np.empty(0)
        return np.array([single.max() for single in check_maps(self.detector(some), len(some), type(self.detector).__name__)])

    @cached_property
    def _backbone(self) -> torch.nn.Module:
        return self.model.patch_backbone()
