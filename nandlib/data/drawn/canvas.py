"""Noise, shapes and paint: the few operations from which every drawn image is made.

Images are float32 ``(size, size, 3)`` RGB in [0, 1]; alphas and noise are float32 ``(size, size)`` in [0, 1].
Lengths are in pixels of a 256-pixel image and scale with the size of the image. Points are ``(x, y)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]  # float32, points float64; calculations may pass through either
Mask = NDArray[np.bool_]
Point = Sequence[float] | Array
Colour = Sequence[float] | Array
Rng = np.random.Generator
Range = tuple[float, float]

cv2.setNumThreads(1)  # one thread: the images are small, and the result must not depend on the machine

_SUBPIXEL = 4  # fractional bits of cv2's fixed-point coordinates


def unit(size: int) -> float:
    """Pixels of this image per pixel of a 256-pixel image."""
    return size / 256


def coordinates(size: int) -> tuple[Array, Array]:
    """``(x, y)`` of every pixel, each ``(size, size)``, in pixels of a 256-pixel image."""
    axis = (np.arange(size, dtype=np.float32) + 0.5) / unit(size)
    x, y = np.meshgrid(axis, axis)
    return x, y


def plain(size: int, colour: Colour) -> Array:
    """An image of one colour."""
    return np.broadcast_to(np.asarray(colour, np.float32), (size, size, 3)).copy()


def noise(rng: Rng, size: int, scale: float, octaves: int = 3, stretch: tuple[float, float] = (1, 1)) -> Array:
    """Fractal value noise with features of about `scale` pixels, stretched along (x, y); normalised to [0, 1]."""
    total = np.zeros((size, size), np.float32)
    for octave in range(octaves):
        cells_x = max(2, round(256 / (scale * stretch[0]) * 2**octave))
        cells_y = max(2, round(256 / (scale * stretch[1]) * 2**octave))
        grid = rng.random((min(cells_y, size), min(cells_x, size)), dtype=np.float32)
        total += cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC) * 0.5**octave
    total -= total.min()
    return total / max(float(total.max()), 1e-6)


def grain(rng: Rng, size: int) -> Array:
    """White noise, one value a pixel, standard normal: fixed by the generator's state alone."""
    return rng.standard_normal((size, size), dtype=np.float32)


def blur(array: Array, sigma: float) -> Array:
    """Gaussian blur; `sigma` in pixels of a 256-pixel image."""
    sigma *= unit(array.shape[0])
    return cast(Array, cv2.GaussianBlur(array, (0, 0), sigma)) if sigma > 0.05 else array


def _fixed(points: Array, scale: float, origin: Sequence[int] = (0, 0)) -> NDArray[np.int32]:
    return np.round((np.asarray(points) * scale - origin) * 2**_SUBPIXEL).astype(np.int32)


def stroke(size: int, points: Array | list[Array], width: float) -> Array:
    """Alpha of one or several antialiased polylines ``(n, 2)``."""
    alpha = np.zeros((size, size), np.uint8)
    lines = [_fixed(line, unit(size)) for line in (points if isinstance(points, list) else [points])]
    thickness = width * unit(size)
    cv2.polylines(alpha, lines, False, 255, max(1, round(thickness)), cv2.LINE_AA, _SUBPIXEL)
    return alpha.astype(np.float32) / 255 * min(1.0, thickness)


def polygon(size: int, points: Array) -> Array:
    """Alpha of a filled, antialiased polygon ``(n, 2)``."""
    alpha = np.zeros((size, size), np.uint8)
    cv2.fillPoly(alpha, [_fixed(points, unit(size))], 255, cv2.LINE_AA, _SUBPIXEL)
    return alpha.astype(np.float32) / 255


def paint(image: Array, points: Array, colour: Colour, width: float | None = None, opacity: float = 1.0) -> None:
    """Paint a small polyline of `width`, or a polygon if `width` is None, onto `image` in place.

    Does what `blend` with `stroke` or `polygon` does, but touches only the pixels around the shape.
    """
    size, scale = image.shape[0], unit(image.shape[0])
    margin = 2 + (width or 0) * scale
    low = np.clip(np.floor(np.min(points, 0) * scale - margin), 0, size).astype(int)
    high = np.clip(np.ceil(np.max(points, 0) * scale + margin), 0, size).astype(int)
    if (high <= low).any():
        return
    alpha = np.zeros((high[1] - low[1], high[0] - low[0]), np.uint8)
    shape = [_fixed(points, scale, low)]
    if width is None:
        cv2.fillPoly(alpha, shape, 255, cv2.LINE_AA, _SUBPIXEL)
    else:
        cv2.polylines(alpha, shape, False, 255, max(1, round(width * scale)), cv2.LINE_AA, _SUBPIXEL)
    part = image[low[1] : high[1], low[0] : high[0]]
    part += (alpha[..., None] / np.float32(255 / opacity)) * (np.asarray(colour, np.float32) - part)


def disk(size: int, centre: Point, radius: float, soft: float = 1.0) -> Array:
    """Alpha of a disk whose edge is `soft` pixels wide."""
    x, y = coordinates(size)
    distance = np.hypot(x - centre[0], y - centre[1])
    return np.clip((radius - distance) / soft + 0.5, 0, 1).astype(np.float32)


def ellipse_points(centre: Point, radii: Point, angle: float = 0, n: int = 64) -> Array:
    """`n` points on an ellipse turned by `angle` (radians)."""
    t = np.linspace(0, 2 * np.pi, n, endpoint=False)
    return turn(np.stack([radii[0] * np.cos(t), radii[1] * np.sin(t)], 1), angle) + np.asarray(centre)


def blob_points(rng: Rng, centre: Point, radius: float, ragged: float = 0.25, aspect: float = 1.0) -> Array:
    """Outline of an irregular blob: a turned ellipse whose radius varies by the fraction `ragged`."""
    n = 48
    t = np.linspace(0, 2 * np.pi, n, endpoint=False)
    wave = sum(rng.normal() / k * np.cos(k * t + rng.uniform(0, 2 * np.pi)) for k in range(2, 7))
    r = radius * np.clip(1 + ragged * wave, 0.3, 1.9)
    points = np.stack([r * np.cos(t) * aspect**0.5, r * np.sin(t) / aspect**0.5], 1)
    return turn(points, rng.uniform(0, np.pi)) + np.asarray(centre)


def turn(points: Array, angle: float) -> Array:
    """Points ``(n, 2)`` turned about the origin by `angle` (radians)."""
    c, s = np.cos(angle), np.sin(angle)
    return np.asarray(points) @ np.array([[c, s], [-s, c]])


def bar_points(start: Point, end: Point, width: float, end_width: float | None = None) -> Array:
    """Corners of a straight bar from `start` to `end`, tapering to `end_width`."""
    a, b = np.asarray(start, float), np.asarray(end, float)
    normal = np.array([a[1] - b[1], b[0] - a[0]]) / max(np.hypot(*(b - a)), 1e-6) / 2
    w1 = width if end_width is None else end_width
    return np.stack([a + normal * width, b + normal * w1, b - normal * w1, a - normal * width])


def curve(rng: Rng, start: Point, angle: float, length: float, bend: float, steps: int = 40) -> Array:
    """A smooth random curve of about `length` pixels; `bend` is the total turn in radians (standard deviation)."""
    turns = np.cumsum(np.cumsum(rng.normal(0, 1, steps)))
    headings = angle + bend * turns / max(np.abs(turns).max(), 1e-6)
    moves = np.stack([np.cos(headings), np.sin(headings)], 1) * length / steps
    return np.vstack([np.asarray(start)[None], np.asarray(start) + np.cumsum(moves, 0)])


def blend(image: Array, alpha: Array, colour: Colour) -> Array:
    """`image` with `colour` (one colour or an image) laid over it at `alpha`."""
    return image + alpha[..., None] * (np.asarray(colour, np.float32) - image)


def inside(alpha: Array, region: Mask) -> Array:
    """`alpha` where `region` is, else 0."""
    return alpha * region


def shade(image: Array, factor: Array | float) -> Array:
    """`image` times a factor per pixel."""
    return image * (factor[..., None] if isinstance(factor, np.ndarray) else factor)


def luminance(image: Array) -> Array:
    """Rec. 601 luma."""
    return image @ np.array([0.299, 0.587, 0.114], np.float32)


def pick_point(rng: Rng, region: Mask, margin: float = 8) -> tuple[float, float]:
    """A random point inside `region`, at least `margin` pixels from its edge where there is such a point."""
    size = region.shape[0]
    padded = np.pad(region.astype(np.uint8), 1)
    inner = cv2.distanceTransform(padded, cv2.DIST_L2, 3)[1:-1, 1:-1]
    candidates = np.argwhere(inner > min(margin * unit(size), 0.6 * float(inner.max())))
    row, column = candidates[rng.integers(len(candidates))]
    return (column + 0.5) / unit(size), (row + 0.5) / unit(size)
