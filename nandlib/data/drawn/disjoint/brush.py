"""Means of drawing that nothing else in the project uses: distance fields, filtered noise, displacement, relief."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.floating]
Field = NDArray[Any]
Region = NDArray[np.bool_]
Rng = np.random.Generator
Draw = Callable[[Image, Region, Rng, Image], Image]


def field(rng: Rng, size: int, detail: float) -> Field:
    """Noise of a 1/f^`detail` spectrum, about standard normal: the larger, the smoother."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    frequency[0, 0] = 1 / size
    spectrum = np.fft.rfft2(rng.standard_normal((size, size))) / frequency**detail
    spectrum[0, 0] = 0
    wave = np.fft.irfft2(spectrum, (size, size))
    return wave / wave.std()


def grid(size: int) -> tuple[Field, Field]:
    """``(x, y)`` of every pixel."""
    axis = (np.arange(size) + 0.5) * 256 / size
    return np.broadcast_to(axis, (size, size)), np.broadcast_to(axis[:, None], (size, size))


def spot(region: Region, rng: Rng) -> Field:
    """A pixel of the region, ``(x, y)``."""
    rows, columns = np.nonzero(region)
    k = rng.integers(len(rows))
    return (np.array([columns[k], rows[k]]) + 0.5) * 256 / len(region)


def edge(field: Field, soft: float = 1.0) -> Field:
    """A signed distance as an alpha: 1 inside (positive), `soft` pixels from 0 to 1."""
    return np.clip(field / soft + 0.5, 0, 1)


def patch(region: Region, rng: Rng, low: float, high: float, lumpy: float = 0.35) -> Field:
    """A signed distance of a lumpy, stretched area, positive inside."""
    size = len(region)
    (x, y), at, radius = grid(size), spot(region, rng), rng.uniform(low, high)
    angle, stretch = rng.uniform(0, np.pi), np.exp(rng.uniform(-0.5, 0.5))
    along, across = (x - at[0]) * np.cos(angle) + (y - at[1]) * np.sin(angle), (y - at[1]) * np.cos(angle) - (x - at[0]) * np.sin(angle)
    return radius * (1 + lumpy * field(rng, size, 1.8)) - np.hypot(along / stretch, across * stretch)


def distance(size: int, line: Field) -> Field:
    """Of every pixel from a polyline ``(n, 2)``."""
    canvas = np.full((size, size), 255, np.uint8)
    cv2.polylines(canvas, [np.round(line * size / 256 * 16 - 8).astype(np.int32)], False, 0, 1, cv2.LINE_8, 4)
    return cv2.distanceTransform(canvas, cv2.DIST_L2, 5) * 256 / size


def line(at: Field, heading: float, length: float, bend: Field) -> Field:
    """A polyline through `at` whose direction changes by `bend` (radians) at every step."""
    headings = heading + np.cumsum(bend)
    steps = np.stack([np.cos(headings), np.sin(headings)], 1) * length / len(bend)
    line = np.concatenate([np.zeros((1, 2)), np.cumsum(steps, 0)])
    return line - line.mean(0) + at


def mix(image: Image, alpha: Field, colour: Image | tuple[float, float, float] | float) -> Image:
    """Paint `colour` (an image, a colour or a grey) over an image, as far as `alpha` says."""
    return image + alpha[..., None] * (np.asarray(colour, float) - image)


def tone(rng: Rng, dark: float) -> Image:
    """A grey, dark with that probability, a little coloured."""
    level = 0.25 * rng.beta(1, 2) if rng.random() < dark else 1 - 0.25 * rng.beta(1, 2)
    return np.clip(level + 0.04 * rng.standard_normal(3), 0, 1)


def hue(rng: Rng) -> Image:
    """A strong colour of any hue."""
    pixel = np.array([[[rng.uniform(0, 360), rng.uniform(0.35, 1), rng.uniform(0.3, 1)]]], np.float32)
    return cast(Image, cv2.cvtColor(pixel, cv2.COLOR_HSV2RGB)[0, 0])


def moved(image: Image, dx: Field, dy: Field) -> Image:
    """The image with every pixel fetched from ``(x + dx, y + dy)``."""
    size = len(image)
    columns, rows = np.meshgrid(np.arange(size), np.arange(size))
    fetch = [(base + shift * size / 256).astype(np.float32) for base, shift in ((columns, dx), (rows, dy))]
    return cast(Image, cv2.remap(image.astype(np.float32), fetch[0], fetch[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101))


def relief(height: Field, rng: Rng) -> Field:
    """How much light a relief (heights in pixels) throws back, around 0, from a random side."""
    rows, columns = np.gradient(height)
    rows, columns = rows * len(height) / 256, columns * len(height) / 256
    turn = rng.uniform(0, 2 * np.pi)
    return np.clip(np.cos(turn) * columns + np.sin(turn) * rows, -1, 1)
