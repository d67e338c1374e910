"""Anomalies made on normal images, for detectors that learn from them: Perlin noise with a texture (DRAEM), and CutPaste.

All draws come from a generator that is given. Images are RGB, float32 in [0, 255], ``(H, W, 3)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from PIL import Image
from torchvision.transforms import functional as change

from nandlib.data.images import ImageLike, as_image

THRESHOLD, OPACITY = 0.5, 0.8  # of the noise field; β is drawn below


def perlin(size: tuple[int, int], angles: np.ndarray) -> np.ndarray:
    """A Perlin noise field ``(H, W)``, about -1 to 1.

    Pixel i lies at i · cells / size on the lattice; between its points gradients are blended by 6t⁵ - 15t⁴ + 10t³; × √2.

    Args:
        size: Rows and columns.
        angles: Of the gradients at the lattice's points ``(cells + 1, cells + 1)``, in radians.
    """
    at = [np.arange(side) * (count - 1) / side for side, count in zip(size, angles.shape, strict=True)]
    cell, inner = [place.astype(int) for place in at], [place % 1 for place in at]
    fade = [6 * t**5 - 15 * t**4 + 10 * t**3 for t in inner]

    def corner(down: int, right: int) -> np.ndarray:
        angle = angles[np.ix_(cell[0] + down, cell[1] + right)]
        field: np.ndarray = np.cos(angle) * (inner[0] - down)[:, None] + np.sin(angle) * (inner[1] - right)
        return field

    left, right = (corner(0, k) * (1 - fade[0])[:, None] + corner(1, k) * fade[0][:, None] for k in (0, 1))
    field: np.ndarray = np.sqrt(2) * (left * (1 - fade[1]) + right * fade[1])
    return field


def perlin_angles(rng: np.random.Generator, scales: tuple[int, int] = (1, 5)) -> np.ndarray:
    """Angles of a lattice with 2^a × 2^b cells, a and b drawn from `scales` (both ends included)."""
    cells = 2 ** rng.integers(scales[0], scales[1] + 1, 2)
    return 2 * np.pi * rng.random((cells[0] + 1, cells[1] + 1))


def paste(image: np.ndarray, texture: np.ndarray, mask: np.ndarray, beta: float) -> np.ndarray:
    """image · (1 - m) + (1 - β) · texture · m + β · image · m."""
    m = mask[..., None]
    pasted: np.ndarray = image * (1 - m) + (1 - beta) * texture * m + beta * image * m
    return pasted


def perlin_anomaly(image: np.ndarray, texture: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A texture pasted where a noise field is high: image and mask ``(H, W)`` bool. The field is turned by up to 5 degrees."""
    field = Image.fromarray(perlin((image.shape[0], image.shape[1]), perlin_angles(rng)).astype(np.float32))
    turned = np.asarray(field.rotate(rng.uniform(-5, 5), Image.Resampling.BILINEAR))
    mask = turned > THRESHOLD
    return paste(image, texture, mask.astype(np.float32), rng.uniform(0, OPACITY)).astype(np.float32), mask


def changed(texture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A texture after three of DRAEM's ten changes: gamma, brightness, sharpness, hue and saturation, solarised, fewer bits, inverted,
    stretched, equalised, turned by up to 45 degrees."""
    image = Image.fromarray(texture.round().clip(0, 255).astype(np.uint8))
    turn = partial(change.rotate, interpolation=change.InterpolationMode.BILINEAR)
    ways = (
        lambda one: change.adjust_gamma(one, rng.uniform(0.5, 2.0)),
        lambda one: change.adjust_brightness(one, rng.uniform(0.8, 1.2)),
        lambda one: change.adjust_sharpness(one, rng.uniform(1.0, 3.0)),
        lambda one: change.adjust_saturation(change.adjust_hue(one, rng.uniform(-0.2, 0.2)), rng.uniform(0.5, 1.5)),
        lambda one: change.solarize(one, int(rng.integers(32, 129))),
        lambda one: change.posterize(one, int(rng.integers(2, 7))),
        change.invert,
        change.autocontrast,
        change.equalize,
        lambda one: turn(one, rng.uniform(-45, 45)),
    )
    for k in rng.choice(len(ways), 3, replace=False):
        image = ways[k](image)
    return np.asarray(image, np.float32)


def _jittered(patch: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Brightness, contrast and saturation of a patch by factors of 0.6 to 1.4 and its hue by up to a tenth of the circle, in any order."""
    bright, contrast, saturation, hue = *rng.uniform(0.6, 1.4, 3), rng.uniform(-0.1, 0.1)
    ways = (
        partial(change.adjust_brightness, brightness_factor=bright),
        partial(change.adjust_contrast, contrast_factor=contrast),
        partial(change.adjust_saturation, saturation_factor=saturation),
        partial(change.adjust_hue, hue_factor=hue),
    )
    for k in rng.permutation(len(ways)):
        patch = ways[k](patch)
    return patch


def cutpaste_anomaly(image: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A patch of the image, its colours changed, pasted elsewhere: image and mask ``(H, W)`` bool.

    Half of them are patches of 2 to 15 % of the area and an aspect of 0.3 to 3.3, half are scars of 2 to 16 × 10 to 25 pixels at 224,
    turned by up to 45 degrees.
    """
    height, width = image.shape[:2]
    scar = rng.random() < 0.5
    if scar:
        tall, wide = (rng.uniform(10, 25) * height / 224, rng.uniform(2, 16) * width / 224)
    else:
        area, aspect = rng.uniform(0.02, 0.15) * height * width, np.exp(rng.uniform(np.log(0.3), np.log(3.3)))
        tall, wide = np.sqrt(area / aspect), np.sqrt(area * aspect)
    h, w = (int(min(max(2, round(side)), most - 1)) for side, most in ((tall, height), (wide, width)))
    top, left = rng.integers(0, height - h), rng.integers(0, width - w)
    patch = _jittered(Image.fromarray(image[top : top + h, left : left + w].round().clip(0, 255).astype(np.uint8)), rng)
    angle = rng.uniform(-45, 45) if scar else 0.0
    turned = patch.rotate(angle, Image.Resampling.BILINEAR, expand=True)
    cover = np.asarray(Image.new("L", patch.size, 255).rotate(angle, Image.Resampling.NEAREST, expand=True)) > 0
    cover = cover[:height, :width]
    top, left = rng.integers(0, height - cover.shape[0] + 1), rng.integers(0, width - cover.shape[1] + 1)
    mask = np.zeros((height, width), bool)
    mask[top : top + cover.shape[0], left : left + cover.shape[1]] = cover
    made = image.copy()
    made[mask] = np.asarray(turned, np.float32)[: cover.shape[0], : cover.shape[1]][cover]
    return made, mask


def synthetic_image(
    number: int, images: Sequence[ImageLike], seed: int, size: int, resampling: Image.Resampling = Image.Resampling.BICUBIC
) -> tuple[np.ndarray, np.ndarray]:
    """One normal image with a synthetic anomaly, uint8 ``(S, S, 3)``, and its mask ``(S, S)``: CutPaste or a texture, half each.

    Textures are other training images, each with three of ten changes (published: the Describable Textures, which are not free to pass
    on, with the same changes). `resampling` is that of the detector's own input, so that outside the mask nothing has changed.
    """
    rng = np.random.default_rng([seed, number])

    def pixels(image: ImageLike) -> np.ndarray:
        return np.asarray(as_image(image).resize((size, size), resampling), np.float32)

    normal = pixels(images[number])
    if rng.random() < 0.5:
        made, mask = cutpaste_anomaly(normal, rng)
    else:
        texture = pixels(images[int(rng.integers(len(images)))])
        made, mask = perlin_anomaly(normal, changed(texture, rng), rng)
    return made.round().clip(0, 255).astype(np.uint8), mask
