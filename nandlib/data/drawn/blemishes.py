"""More defect primitives, which only the embedded model's auxiliary images have: signature and rules as in `defects`."""

from __future__ import annotations

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
    curve,
    disk,
    grain,
    noise,
    pick_point,
    polygon,
    shade,
    stroke,
)


def corrosion(
    image: Array, region: Mask, rng: Rng, *, colour: Colour = (0.5, 0.26, 0.1), radius: Range = (12, 36), strength: Range = (0.6, 0.95)
) -> Array:
    """A crust with a granular, crumbling edge whose colour varies."""
    size = image.shape[0]
    patch = polygon(size, blob_points(rng, pick_point(rng, region, 16), rng.uniform(*radius), 0.35, rng.uniform(0.6, 1.6)))
    eaten = np.clip(blur(patch, 4) * 2.2 - 1.1 * noise(rng, size, 7, 3), 0, 1) * region
    tone = (0.55 + 0.9 * noise(rng, size, 6, 3))[..., None] * np.asarray(colour, np.float32)
    return blend(image, eaten * rng.uniform(*strength), np.clip(tone, 0, 1))


def burn(image: Array, region: Mask, rng: Rng, *, radius: Range = (8, 30), strength: Range = (0.7, 0.95)) -> Array:
    """A scorched spot: black in the middle, brown around it, fading out."""
    size = image.shape[0]
    spot = polygon(size, blob_points(rng, pick_point(rng, region, 16), rng.uniform(*radius), 0.2, rng.uniform(0.7, 1.4)))
    halo, core = np.clip(blur(spot, 7) * 1.3, 0, 1) * region, blur(spot, 2) * region
    image = blend(image, halo * 0.6 * rng.uniform(*strength), image * np.array([0.55, 0.36, 0.2], np.float32))
    return blend(image, core * rng.uniform(*strength) * (0.7 + 0.3 * noise(rng, size, 8, 2)), (0.05, 0.035, 0.03))


def blister(
    image: Array, region: Mask, rng: Rng, *, radius: Range = (4, 16), count: tuple[int, int] = (1, 6), relief: float = 0.5
) -> Array:
    """Round bumps that are lit on one side and shaded on the other, each with a glint; dents if `relief` is negative."""
    size = image.shape[0]
    x, y = coordinates(size)
    at, heading = np.array(pick_point(rng, region, 16)), rng.uniform(0, 2 * np.pi)
    for _ in range(rng.integers(count[0], count[1] + 1)):
        r = rng.uniform(*radius)
        dx, dy = x - at[0], y - at[1]
        inside = np.clip((r - np.hypot(dx, dy)) / 1.5 + 0.5, 0, 1) * region
        slope = (dx * np.cos(heading) + dy * np.sin(heading)) / r
        image = np.clip(shade(image, (1 + relief * slope * inside).astype(np.float32)), 0, 1)
        if relief > 0:
            glint = disk(size, at + 0.45 * r * np.array([np.cos(heading), np.sin(heading)]), 0.22 * r, 2) * region
            image = blend(image, glint * 0.7, (1, 1, 1))
        at = at + rng.normal(0, 2.2 * r, 2)
    return image


def dust(
    image: Array, region: Mask, rng: Rng, *, colour: Colour = (0.8, 0.78, 0.74), count: Range = (40, 160), spread: Range = (14, 45)
) -> Array:
    """Many fine specks, densest in the middle of the area."""
    size = image.shape[0]
    centre, wide, n = np.array(pick_point(rng, region, 16)), rng.uniform(*spread), int(rng.uniform(*count))
    spots, widths = rng.normal(0, wide / 2, (n, 2)) + centre, rng.uniform(0.7, 2.2, n)
    alpha = np.zeros((size, size), np.float32)
    for k in range(5):
        some = [np.stack([at, at + rng.normal(0, 0.8, 2)]) for at in spots[k::5]]
        alpha = np.maximum(alpha, stroke(size, some, float(widths[k::5].mean())))
    return blend(image, alpha * region * rng.uniform(0.6, 0.95), colour)


def liquid(image: Array, region: Mask, rng: Rng, *, radius: Range = (12, 38), darken: Range = (0.2, 0.5)) -> Array:
    """A wet patch: the surface shows through, darker and more saturated, with a bright meniscus and glints."""
    size = image.shape[0]
    alpha = polygon(size, blob_points(rng, pick_point(rng, region, 20), rng.uniform(*radius), 0.3, rng.uniform(0.6, 1.6))) * region
    soft = blur(alpha, 1.0) * region
    wet = np.clip(image ** (1 + 1.5 * rng.uniform(*darken)) * (1 - 0.5 * rng.uniform(*darken)), 0, 1)
    image = blend(image, soft, wet)
    rows, columns = np.gradient(blur(alpha, 3))
    return np.clip(image + (6 * np.clip(-rows - columns, 0, 0.08) * alpha * rng.uniform(0.5, 1.3))[..., None], 0, 1)


def tear(
    image: Array, region: Mask, rng: Rng, *, colour: Colour = (0.08, 0.07, 0.07), length: Range = (35, 100), width: Range = (6, 22)
) -> Array:
    """A rip: a gaping opening with jagged lips and loose fibres."""
    size = image.shape[0]
    angle, extent, thick = rng.uniform(0, 2 * np.pi), rng.uniform(*length), rng.uniform(*width)
    along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    t = np.linspace(-1, 1, 34)
    half = thick / 2 * (1 - t**2)
    sides = [half + rng.normal(0, 0.16, 34) * thick * (1 - t**2) for _ in range(2)]
    middle = np.array(pick_point(rng, region, 16)) + (t * extent / 2)[:, None] * along + np.cumsum(rng.normal(0, 0.8, 34))[:, None] * across
    outline = np.concatenate([middle + sides[0][:, None] * across, (middle - sides[1][:, None] * across)[::-1]])
    opening = polygon(size, outline) * region
    image = image + (0.35 * np.clip(blur(opening, 2.5) * 1.6 - opening, 0, 1) * region)[..., None] * (1 - image)
    image = blend(image, opening, colour)
    fibres = [curve(rng, outline[k], angle + rng.uniform(-2, 2), rng.uniform(4, 12), 0.8, 8) for k in rng.integers(len(outline), size=10)]
    return blend(image, stroke(size, fibres, 1.1) * region * 0.8, (0.85, 0.83, 0.8))


def streak(
    image: Array, region: Mask, rng: Rng, *, colour: Colour = (0.45, 0.45, 0.46), width: Range = (6, 20), length: Range = (40, 160)
) -> Array:
    """A broad, matt smear or brush stroke with dry ends."""
    size = image.shape[0]
    angle, extent = rng.uniform(0, 2 * np.pi), rng.uniform(*length)
    start = np.array(pick_point(rng, region, 20)) - np.array([np.cos(angle), np.sin(angle)]) * extent / 2
    alpha = blur(stroke(size, curve(rng, start, angle, extent, rng.uniform(0.1, 0.8)), rng.uniform(*width)), 0.8)
    bristles = noise(rng, size, 5, 2)
    return blend(image, np.clip(alpha * (0.55 + 0.6 * bristles), 0, 1) * region * rng.uniform(0.5, 0.9), colour)


def crush(image: Array, region: Mask, rng: Rng, *, radius: Range = (10, 34), strength: Range = (0.3, 0.7)) -> Array:
    """A dent: a hollow whose floor is evenly displaced, shaded towards the light and lit away from it."""
    size = image.shape[0]
    floor = blur(polygon(size, blob_points(rng, pick_point(rng, region, 16), rng.uniform(*radius), 0.15, rng.uniform(0.6, 1.6))), 3.5)
    rows, columns = np.gradient(blur(floor, 2))
    heading, power = rng.uniform(0, 2 * np.pi), rng.uniform(*strength)
    slope = (np.cos(heading) * columns + np.sin(heading) * rows) * 9
    return np.clip(shade(image, 1 + power * np.clip(slope, -1, 1) * region - 0.25 * power * floor * region), 0, 1)


def fading(image: Array, region: Mask, rng: Rng, *, radius: Range = (14, 42), strength: Range = (0.4, 0.8)) -> Array:
    """Colour and contrast washed out towards white."""
    size = image.shape[0]
    patch = blur(polygon(size, blob_points(rng, pick_point(rng, region, 20), rng.uniform(*radius), 0.25, rng.uniform(0.6, 1.7))), 4)
    pale = 0.72 + 0.2 * image
    return blend(image, patch * region * rng.uniform(*strength), pale + 0.02 * grain(rng, size)[..., None])
