"""Defects that are a spot on the surface or lie on it: holes, colour, metal, glue, roughness, print."""

from __future__ import annotations

import cv2
import numpy as np

from nandlib.data.drawn.canvas import (
    Array,
    Colour,
    Mask,
    Range,
    Rng,
    blend,
    blob_points,
    blur,
    coordinates,
    disk,
    grain,
    inside,
    luminance,
    noise,
    pick_point,
    polygon,
    shade,
    turn,
    unit,
)


def hole(
    image: Array,
    region: Mask,
    rng: Rng,
    *,
    colour: Colour = (0.04, 0.04, 0.04),
    radius: Range = (7, 13),
    ragged: float = 0.1,
    rim: float = 0.25,
) -> Array:
    """A round, dark pit with a rim that is lit on one side and shaded on the other."""
    size = image.shape[0]
    x, y = pick_point(rng, region, 16)
    r = rng.uniform(*radius)
    outline = blob_points(rng, (0, 0), r, ragged)
    outer = inside(polygon(size, outline * 1.35 + [x, y]), region)
    gx, gy = coordinates(size)
    side = np.clip((gx - x + gy - y) / r, -1, 1).astype(np.float32)
    image = np.clip(shade(image, 1 + rim * outer * side), 0, 1)
    depth = np.clip(1 - 0.25 * side, 0, 1)
    return blend(image, inside(polygon(size, outline + [x, y]), region) * depth, colour)


def stain(
    image: Array,
    region: Mask,
    rng: Rng,
    *,
    colour: Colour = (0.22, 0.16, 0.1),
    radius: Range = (14, 30),
    strength: Range = (0.55, 0.8),
    droplets: tuple[int, int] = (2, 7),
    rim: float = 0.3,
) -> Array:
    """An irregular spot that darkens the surface, darker along its dried edge, with droplets around it."""
    size = image.shape[0]
    x, y = pick_point(rng, region, 20)
    r = rng.uniform(*radius)
    alpha = blur(polygon(size, blob_points(rng, (x, y), r, 0.35, rng.uniform(0.7, 1.5))), 1.2)
    edge = np.clip(alpha - blur(alpha, 4), 0, 1) * 2
    for _ in range(rng.integers(droplets[0], droplets[1] + 1)):
        direction, far = rng.uniform(0, 2 * np.pi), r * rng.uniform(1.2, 2.0)
        spot = (x + far * np.cos(direction), y + far * np.sin(direction))
        alpha = np.maximum(alpha, disk(size, spot, r * rng.uniform(0.06, 0.18), 1.5))
    alpha = alpha * rng.uniform(*strength) * (0.75 + 0.25 * noise(rng, size, 20, 2)) + rim * edge
    return blend(image, inside(np.clip(alpha, 0, 1), region), image * 0.35 + np.asarray(colour, np.float32) * 0.65)


def tint(
    image: Array,
    region: Mask,
    rng: Rng,
    *,
    colour: Colour = (0.75, 0.12, 0.12),
    radius: Range = (16, 34),
    strength: Range = (0.6, 0.85),
    soft: float = 3.0,
) -> Array:
    """A patch of wrong colour: hue is replaced, the surface's own texture shows through."""
    size = image.shape[0]
    centre = pick_point(rng, region, 20)
    outline = blob_points(rng, centre, rng.uniform(*radius), 0.22, rng.uniform(0.6, 1.7))
    alpha = blur(polygon(size, outline), soft) * rng.uniform(*strength)
    light = luminance(image)[..., None]
    coloured = np.clip((0.45 + 0.75 * light) * np.asarray(colour, np.float32), 0, 1)
    return blend(image, inside(alpha, region), coloured)


def metal(
    image: Array,
    region: Mask,
    rng: Rng,
    *,
    colour: Colour = (0.72, 0.74, 0.78),
    radius: Range = (7, 14),
    count: tuple[int, int] = (1, 3),
) -> Array:
    """Shiny chips of metal: sharp polygons with a steep light gradient and a shadow."""
    size = image.shape[0]
    x, y = pick_point(rng, region, 24)
    gx, gy = coordinates(size)
    for _ in range(rng.integers(count[0], count[1] + 1)):
        r = rng.uniform(*radius)
        centre = np.array([x, y]) + rng.normal(0, 14, 2)
        angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(4, 7)))
        corners = np.stack([np.cos(angles) * rng.uniform(1.0, 2.2), np.sin(angles)], 1) * r
        corners = turn(corners, rng.uniform(0, np.pi)) + centre
        image = shade(image, 1 - 0.5 * inside(blur(polygon(size, corners + [2, 3]), 1.2), region))
        heading = rng.uniform(0, 2 * np.pi)
        slope = ((gx - centre[0]) * np.cos(heading) + (gy - centre[1]) * np.sin(heading)) / r
        gloss = np.clip(0.75 + 0.45 * np.sin(2.2 * slope), 0.25, 1.35)
        chip = np.clip(np.asarray(colour, np.float32) * gloss[..., None], 0, 1)
        image = blend(image, inside(polygon(size, corners), region), chip)
    return image


def glue(
    image: Array,
    region: Mask,
    rng: Rng,
    *,
    colour: Colour = (0.86, 0.84, 0.74),
    radius: Range = (14, 28),
    strength: Range = (0.45, 0.65),
    aspect: Range = (0.6, 1.8),
) -> Array:
    """A translucent, glossy smear with a bulging edge and specular highlights."""
    size = image.shape[0]
    centre = pick_point(rng, region, 20)
    alpha = polygon(size, blob_points(rng, centre, rng.uniform(*radius), 0.3, rng.uniform(*aspect)))
    alpha = inside(alpha, region)
    height = blur(alpha, 5)
    slope_y, slope_x = np.gradient(height)
    light = (-slope_x - slope_y) * 14 * unit(size) + 0.35 * (noise(rng, size, 16, 2) - 0.5)
    image = blend(image, alpha * rng.uniform(*strength), colour)
    return np.clip(image + (alpha * np.clip(light, -0.25, 0.6))[..., None], 0, 1)


def rough(
    image: Array,
    region: Mask,
    rng: Rng,
    *,
    radius: Range = (16, 34),
    strength: Range = (0.12, 0.2),
    colour: Colour = (0.6, 0.58, 0.55),
    whiten: float = 0.3,
) -> Array:
    """An abraded, frayed patch: fine irregular relief and a ragged border."""
    size = image.shape[0]
    centre = pick_point(rng, region, 20)
    patch = polygon(size, blob_points(rng, centre, rng.uniform(*radius), 0.3, rng.uniform(0.6, 1.7)))
    patch = inside(np.clip(blur(patch, 3) * 1.6 - 0.5 * noise(rng, size, 10, 2), 0, 1), region)
    relief = blur(grain(rng, size), 1.2) * 4
    image = blend(image, patch * whiten, colour)
    return np.clip(image + (patch * relief * rng.uniform(*strength))[..., None], 0, 1)


def imprint(
    image: Array,
    region: Mask,
    rng: Rng,
    *,
    colour: Colour = (0.95, 0.95, 0.95),
    texts: tuple[str, ...] = ("A7", "LOT", "K3"),
    scale: Range = (0.9, 1.5),
    strength: float = 0.9,
) -> Array:
    """Printed characters."""
    size = image.shape[0]
    x, y = pick_point(rng, region, 24)
    text = texts[rng.integers(len(texts))]
    font = rng.uniform(*scale) * unit(size)
    layer = np.zeros((size, size), np.uint8)
    face, thick = cv2.FONT_HERSHEY_DUPLEX, max(1, round(2 * unit(size)))
    (wide, high), _ = cv2.getTextSize(text, face, font, thick)
    origin = (round(x * unit(size) - wide / 2), round(y * unit(size) + high / 2))
    cv2.putText(layer, text, origin, face, font, 255, thick, cv2.LINE_AA)
    spin = cv2.getRotationMatrix2D((x * unit(size), y * unit(size)), rng.uniform(-60, 60), 1)
    turned = cv2.warpAffine(layer, spin, (size, size))
    return blend(image, inside(turned.astype(np.float32) / 255, region) * strength, colour)
