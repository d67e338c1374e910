"""Defects that change the shape or the light of a whole area: pieces broken out, bent, out of place or absent."""

from __future__ import annotations

import cv2
import numpy as np

from nandlib.data.drawn.canvas import (
    Array,
    Colour,
    Mask,
    Range,
    Rng,
    bar_points,
    blend,
    blob_points,
    blur,
    coordinates,
    disk,
    inside,
    noise,
    pick_point,
    polygon,
    shade,
    turn,
    unit,
)


def chip(
    image: Array,
    region: Mask,
    rng: Rng,
    *,
    background: Array | Colour = (0.5, 0.5, 0.5),
    radius: Range = (16, 30),
    at: tuple[float, float] | None = None,
) -> Array:
    """A piece broken out: a jagged polygon shows what lies behind, its fracture edge is bright."""
    size = image.shape[0]
    x, y = at if at is not None else pick_point(rng, region, 4)
    r = rng.uniform(*radius)
    angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(7, 12)))
    corners = np.stack([np.cos(angles), np.sin(angles)], 1) * (r * rng.uniform(0.55, 1.15, len(angles)))[:, None]
    rim = inside(polygon(size, corners * 1.12 + [x, y]), region)
    image = image + (0.45 * rim)[..., None] * (1 - image)
    return blend(image, inside(polygon(size, corners + [x, y]), region), background)


def warp(image: Array, region: Mask, rng: Rng, *, radius: Range = (28, 50), shift: Range = (8, 16), twist: float = 0.5) -> Array:
    """A local bend: the surface inside a disk is pushed aside and twisted, smoothly towards its edge."""
    size = image.shape[0]
    x, y = pick_point(rng, region, 30)
    r, push = rng.uniform(*radius), rng.uniform(*shift)
    heading, spin = rng.uniform(0, 2 * np.pi), rng.uniform(-twist, twist)
    gx, gy = coordinates(size)
    dx, dy = gx - x, gy - y
    weight = np.clip(1 - np.hypot(dx, dy) / r, 0, 1) ** 1.5
    c, s = np.cos(spin * weight), np.sin(spin * weight)
    from_x = x + c * dx - s * dy - push * np.cos(heading) * weight
    from_y = y + s * dx + c * dy - push * np.sin(heading) * weight
    scale = unit(size)
    moved = cv2.remap(
        np.ascontiguousarray(image),
        (from_x * scale - 0.5).astype(np.float32),
        (from_y * scale - 0.5).astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT,
    )
    return np.where((weight > 0)[..., None], moved, image)


def uneven(image: Array, region: Mask, rng: Rng, *, radius: Range = (26, 50), strength: Range = (0.3, 0.5)) -> Array:
    """A blotch of uneven brightness without any edge of its own."""
    size = image.shape[0]
    centre = pick_point(rng, region, 20)
    patch = blur(polygon(size, blob_points(rng, centre, rng.uniform(*radius), 0.3, rng.uniform(0.5, 2))), 6)
    sign = rng.choice([-1.0, 1.0])
    factor = 1 + sign * rng.uniform(*strength) * inside(patch, region) * (0.7 + 0.3 * noise(rng, size, 30, 2))
    return np.clip(shade(image, factor), 0, 1)


def displace(image: Array, region: Mask, rng: Rng, *, radius: Range = (20, 36), angle: Range = (0.6, 2.5)) -> Array:
    """A piece out of place: a square patch is turned in itself and leaves a dark gap along its edge."""
    size = image.shape[0]
    x, y = pick_point(rng, region, 30)
    r, spin = rng.uniform(*radius), rng.uniform(*angle)
    scale = unit(size)
    matrix: np.ndarray = cv2.getRotationMatrix2D((x * scale, y * scale), np.degrees(spin), 1)
    matrix[:, 2] += rng.normal(0, 6, 2) * scale
    turned: np.ndarray = cv2.warpAffine(np.ascontiguousarray(image), matrix, (size, size), borderMode=cv2.BORDER_REFLECT)
    square = turn(np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * r, spin) + [x, y]
    image = shade(image, 1 - 0.6 * inside(polygon(size, (square - [x, y]) * 1.08 + [x, y]), region))
    return blend(image, inside(polygon(size, square), region), turned)


def absent(image: Array, region: Mask, rng: Rng, *, background: Array | Colour = (0.5, 0.5, 0.5), radius: Range = (16, 30)) -> Array:
    """A part that is not there: a clean-cut area shows the background and the shadow of its edge."""
    size = image.shape[0]
    x, y = pick_point(rng, region, 24)
    r = rng.uniform(*radius)
    if rng.random() < 0.5:
        area = disk(size, (x, y), r)
    else:
        reach = np.array([np.cos(spin := rng.uniform(0, np.pi)), np.sin(spin)]) * r
        area = polygon(size, bar_points(np.array([x, y]) - reach, np.array([x, y]) + reach, r * rng.uniform(0.6, 1.4)))
    area = inside(area, region)
    image = blend(image, area, background)
    shadow = np.clip(area - blur(area, 3), 0, 1) * area
    return shade(image, 1 - 0.6 * shadow)
