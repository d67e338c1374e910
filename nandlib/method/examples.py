"""Normality by example: A_sup from images that show what is acceptable, instead of from a text.

A text says what the added normality is; an example shows it. What an anomalous region looks like is told by how it differs from what is
normal: its *residual*, the patch descriptor less the nearest descriptor of normal images, so that product and place cancel out. A region
whose residual points where an example's does shows the same thing:

    r = Σ_p w_p (d_p - nearest normal of d_p),    c = max over examples of cos(r, r_example),    A_sup = σ(sharpness · (c - similarity))

An example shows the same thing however it lies: it counts in all eight positions of a square, as so many examples.

Regions and their weights w are those of `nandlib.method.plus`: the catchment areas of the anomaly map's peaks. The values of
`ExampleConfig` were chosen on the validation products and the circuit boards.

Shapes: n images, P patches, C channels, R regions of one image, E examples in all their positions, M descriptors of normal patches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nandlib.data.images import ImageLike, as_image, marked, turned
from nandlib.errors import DataError, short
from nandlib.method.config import ExampleConfig, PlusConfig
from nandlib.method.plus import Regions, find_regions

ROWS = 2048  # patches at a time against the normal descriptors
SURE = 1e-3  # no text is surer than this


def _numbers(given: Any, count: int) -> bool:
    """Whether they are so many, and finite."""
    try:
        found = np.asarray(given)
    except ValueError:  # of several lengths
        return False
    return found.shape == (count,) and found.dtype.kind in "buif" and bool(np.isfinite(found).all())


@dataclass(frozen=True, eq=False)  # arrays are not compared by one truth
class Example:
    """An image that shows what is acceptable, and where. Without mask, box or point: where the detector's own map is highest.

    Attributes:
        image: Path, PIL image or uint8 array.
        mask: ``(H, W)`` of the image's size, true where it is shown (`nandlib.data.images.marked`).
        box: ``(left, top, right, bottom)`` in pixels of the image; what lies outside it is left out.
        point: ``(x, y)`` in pixels of the image: the region of the anomaly map that it lies in.
    """

    image: ImageLike
    mask: np.ndarray | None = None
    box: tuple[float, float, float, float] | None = None
    point: tuple[float, float] | None = None

    def where(self, size: tuple[int, int]) -> np.ndarray | None:
        """``(H, W)`` bool from mask or box; None if neither is given.

        Args:
            size: ``(width, height)`` of the image.

        Raises:
            DataError: If more than one of mask, box and point is given, or one marks nothing of the image.
        """
        if sum(given is not None for given in (self.mask, self.box, self.point)) > 1:
            raise DataError("an example takes a mask, a box or a point: one of them")
        width, height = size
        if self.point is not None and not _numbers(self.point, 2):
            raise DataError(f"the point {short(self.point)} of an example must be two numbers: x, y")
        if self.point is not None and not (0 <= self.point[0] < width and 0 <= self.point[1] < height):
            raise DataError(f"the point {self.point} lies outside the example, which has {width} x {height} pixels")
        if self.mask is not None:
            mask = np.asarray(self.mask)
            if mask.dtype.kind not in "buif":
                raise DataError(f"the mask of an example must be an array (H, W) of numbers, not {short(self.mask)}")
            if mask.ndim != 2:
                raise DataError(f"the mask of an example must be one plane (H, W), not {mask.shape}: take one channel of it")
            if mask.shape != (height, width):
                raise DataError(f"the mask has {mask.shape[::-1]} pixels, its example {width} x {height}: they must be of one size")
            found = marked(mask)
        elif self.box is not None:
            if not _numbers(self.box, 4):
                raise DataError(f"the box {short(self.box)} of an example must be four numbers: left, top, right, bottom")
            left, top, right, bottom = (max(0, round(float(side))) for side in self.box)
            found = np.zeros((height, width), bool)
            found[top:bottom, left:right] = True
        else:
            return None
        if not found.any():
            kind = "mask" if self.mask is not None else "box"
            raise DataError(f"the {kind} of an example is empty: it must mark what is acceptable among its {width} x {height} pixels")
        return found


def residuals(patches: Tensor, normal: Tensor) -> Tensor:
    """Patch descriptors ``(P, C)``, each less the nearest of the normal ones ``(M, C)``: ``(P, C)``."""
    nearest = [torch.cdist(block, normal).argmin(1) for block in patches.split(ROWS)]
    return patches - normal[torch.cat(nearest)]


def directions(descriptors: Tensor, normal: Tensor, regions: Regions) -> list[Tensor]:
    """Where the residuals of regions point: n times ``(R, C)``, unit norm.

    Args:
        descriptors: ``(n, C, h, w)``.
        normal: ``(M, C)`` descriptors of normal patches.
        regions: Of the anomaly maps, on the grid ``(h, w)``.
    """
    return region_directions([residuals(image, normal) for image in descriptors.flatten(2).transpose(1, 2)], regions)


def region_directions(differences: Iterable[Tensor], regions: Regions) -> list[Tensor]:
    """`directions` from the residuals of every image's patches, n times ``(P, C)``, where they are at hand already."""
    return [F.normalize(weights @ own, dim=-1) for own, weights in zip(differences, regions.weights, strict=True)]


def marked_weights(where: np.ndarray, grid: tuple[int, int]) -> Tensor:
    """How much each patch counts where an image is marked, ``grid``, from a bool mask ``(H, W)``: by its marked share; they sum to 1."""
    share = F.interpolate(torch.from_numpy(where)[None, None].float(), size=grid, mode="area")[0, 0]
    return share / share.sum()


def positions(config: ExampleConfig) -> tuple[int, ...]:
    """The positions of a square (`nandlib.data.images.turned`) in which an example is shown; the first is as it is."""
    return {"none": (0,), "mirrored": (0, 2, 4, 6), "all": tuple(range(8))}[config.turned]


def shown_directions(
    image: ImageLike,
    describe: Callable[[Sequence[ImageLike]], Tensor],
    weigh: Callable[[tuple[int, int]], Tensor],
    normal: Tensor,
    config: ExampleConfig = ExampleConfig(),
) -> Tensor:
    """Where the residuals of one example point, in each position that it is shown in: ``(T, C)``, unit norm.

    Args:
        image: The example.
        describe: n images → descriptors ``(n, C, h, w)``.
        weigh: ``(h, w)`` → how much each patch of the image as it is counts ``(h, w)``; they sum to 1.
        normal: ``(M, C)`` descriptors of normal patches.
        config: The positions.
    """
    places, pixels = positions(config), np.asarray(as_image(image))
    described = describe([turned(pixels, place) for place in places])
    weights, found = weigh((described.shape[-2], described.shape[-1])).numpy(), []
    for place, own in zip(places, described, strict=True):
        counts = torch.from_numpy(turned(weights, place).copy())
        if counts.shape != own.shape[1:]:  # a turned image is seen on the same grid, which is not square
            counts = F.adaptive_avg_pool2d(counts[None], own.shape[1:])[0]
            counts /= counts.sum()
        counts = counts.flatten()
        there = counts > 0
        found.append(counts[there] @ residuals(own.flatten(1).T[there], normal))
    return F.normalize(torch.stack(found), dim=-1)


def probability(found: Tensor, examples: Tensor, config: ExampleConfig = ExampleConfig()) -> Tensor:
    """How surely regions show what the examples do: ``(R,)`` in [0, 1], from directions ``(R, C)`` and ``(E, C)``."""
    logits = config.sharpness * (found @ examples.T - config.similarity)
    return torch.sigmoid(logits.amax(1) if config.several == "nearest" else logits.logsumexp(1) - math.log(len(examples)))


def example_suppression(found: Sequence[Tensor], examples: Tensor, regions: Regions, config: ExampleConfig = ExampleConfig()) -> Tensor:
    """A_sup ``(n, H, W)`` in [0, 1] of regions whose residuals point as those of an example do.

    Args:
        found: `directions` of the regions.
        examples: ``(E, C)``, directions of the examples.
        regions: Of the anomaly maps.
        config: Parameters.
    """
    return regions.paint([probability(own, examples, config) for own in found])


def example_weights(example: Example, size: tuple[int, int], anomaly: np.ndarray, grid: tuple[int, int], plus: PlusConfig) -> Tensor:
    """How much each patch of an example counts ``(h, w)``: its marked patches, or its region of highest anomaly; they sum to 1.

    Args:
        example: Image, and where.
        size: ``(width, height)`` of the image.
        anomaly: The detector's map ``(H, W)`` of it.
        grid: ``(h, w)`` of the patches.
        plus: How regions are found.
    """
    where = example.where(size)
    if where is not None:
        return marked_weights(where, grid)
    regions = find_regions(torch.from_numpy(anomaly)[None], grid, plus)
    return regions.weights[0][int(regions.labels[0][_place(example, size, anomaly)])].view(grid)


def example_score(example: Example, size: tuple[int, int], anomaly: np.ndarray, plus: PlusConfig) -> float:
    """How high the detector's map ``(H, W)`` of an example goes: in the region of its point, or, without one, anywhere."""
    if example.point is None:
        return float(anomaly.max())
    labels = find_regions(torch.from_numpy(anomaly)[None], (1, 1), plus).labels[0]
    return float(anomaly[labels == labels[_place(example, size, anomaly)]].max())


def _place(example: Example, size: tuple[int, int], anomaly: np.ndarray) -> tuple[int, int]:
    """Row and column of the map in whose region the example lies: its point's, or where the map is highest."""
    height, width = anomaly.shape
    if example.point is not None:
        return int(example.point[1] * height / size[1]), int(example.point[0] * width / size[0])
    row, column = divmod(int(anomaly.argmax()), width)
    return row, column


def both(said: Tensor, shown: Tensor, text_weight: float = ExampleConfig().text_weight) -> Tensor:
    """A_sup of a text and of examples of the same normality: odds_shown · odds_said^w.

    A text that says one half changes nothing, nor does any text where the examples are certain. It lies in [0, 1], as they do.

    Args:
        said: A_sup of the text.
        shown: A_sup of the examples.
        text_weight: w; 0: the examples alone, 1: text and examples count alike.
    """
    agree = shown * torch.exp(text_weight * torch.logit(said.clamp(SURE, 1 - SURE)))
    return (agree / (agree + 1 - shown)).clamp(0, 1)  # which rounding may leave
