"""Defects that run along a line: scratches, cracks, cuts, threads and folds."""

from __future__ import annotations

import numpy as np

from nandlib.data.drawn.canvas import (
    Array,
    Colour,
    Mask,
    Range,
    Rng,
    blend,
    blur,
    curve,
    inside,
    noise,
    pick_point,
    polygon,
    shade,
    stroke,
    turn,
)


def scratch(
    image: Array,
    region: Mask,
    rng: Rng,
    *,
    colour: Colour = (0.9, 0.9, 0.88),
    width: Range = (1.0, 1.8),
    length: Range = (50, 110),
    count: tuple[int, int] = (1, 3),
    bend: float = 0.25,
    strength: Range = (0.55, 0.9),
) -> Array:
    """A bundle of thin, nearly straight lines that run alongside each other and fade at their ends."""
    size = image.shape[0]
    x, y = pick_point(rng, region)
    angle = rng.uniform(0, np.pi)
    for _ in range(rng.integers(count[0], count[1] + 1)):
        extent = rng.uniform(*length)
        start = np.array([x, y]) + rng.normal(0, 5, 2) - np.array([np.cos(angle), np.sin(angle)]) * extent / 2
        points = curve(rng, start, angle + rng.normal(0, 0.06), extent, bend)
        alpha = inside(stroke(size, points, rng.uniform(*width)), region) * rng.uniform(*strength)
        image = blend(image, alpha * (0.55 + 0.45 * noise(rng, size, 40, 1)), colour)
    return image


def crack(
    image: Array,
    region: Mask,
    rng: Rng,
    *,
    colour: Colour = (0.06, 0.05, 0.05),
    width: Range = (1.5, 2.6),
    length: Range = (60, 120),
    branches: tuple[int, int] = (1, 3),
    zigzag: float = 0.55,
) -> Array:
    """A jagged, branching, dark line."""
    size = image.shape[0]
    angle = rng.uniform(0, 2 * np.pi)
    extent = rng.uniform(*length)
    start = np.array(pick_point(rng, region, 20)) - np.array([np.cos(angle), np.sin(angle)]) * extent / 3

    def path(start: Array, angle: float, extent: float) -> Array:
        steps = max(4, int(extent / 7))
        headings = angle + rng.normal(0, zigzag, steps) + np.cumsum(rng.normal(0, 0.12, steps))
        moves = np.stack([np.cos(headings), np.sin(headings)], 1) * extent / steps
        return np.vstack([start[None], start + np.cumsum(moves, 0)])

    trunk = path(start, angle, extent)
    thick = rng.uniform(*width)
    alpha = stroke(size, trunk, thick)
    for _ in range(rng.integers(branches[0], branches[1] + 1)):
        joint = trunk[rng.integers(1, len(trunk) - 1)]
        twig = path(joint, angle + rng.choice([-1, 1]) * rng.uniform(0.5, 1.1), extent * rng.uniform(0.25, 0.5))
        alpha = np.maximum(alpha, stroke(size, twig, thick * 0.7))
    return blend(image, inside(alpha, region) * 0.9, colour)


def cut(
    image: Array,
    region: Mask,
    rng: Rng,
    *,
    colour: Colour = (0.05, 0.05, 0.06),
    length: Range = (35, 70),
    width: Range = (4, 8),
    lip: float = 0.22,
) -> Array:
    """A straight slit, pointed at both ends, with a raised bright lip along one side."""
    size = image.shape[0]
    centre = np.array(pick_point(rng, region, 16))
    angle, extent, thick = rng.uniform(0, np.pi), rng.uniform(*length), rng.uniform(*width)
    t = np.linspace(-1, 1, 24)
    half = thick / 2 * (1 - t**2) ** 0.8
    outline = np.concatenate([np.stack([t * extent / 2, half], 1), np.stack([t[::-1] * extent / 2, -0.6 * half[::-1]], 1)])
    slit = polygon(size, turn(outline, angle) + centre)
    edge = polygon(size, turn(outline * [1.04, 1.9], angle) + centre)
    image = image + (inside(edge, region) * lip)[..., None] * (1 - image)
    return blend(image, inside(slit, region), colour)


def thread(
    image: Array,
    region: Mask,
    rng: Rng,
    *,
    colour: Colour = (0.85, 0.82, 0.7),
    width: Range = (2.2, 3.6),
    length: Range = (90, 190),
    bend: float = 1.6,
) -> Array:
    """A loose strand lying on the surface: a long smooth curve, lit along its middle, with a soft shadow."""
    size = image.shape[0]
    angle, extent = rng.uniform(0, 2 * np.pi), rng.uniform(*length)
    start = np.array(pick_point(rng, region, 30)) - np.array([np.cos(angle), np.sin(angle)]) * extent / 3
    points = curve(rng, start, angle, extent, bend)
    thick = rng.uniform(*width)
    shadow = blur(stroke(size, points + [1.5, 2.0], thick), 1.0)
    image = shade(image, 1 - 0.4 * inside(shadow, region))
    body = inside(stroke(size, points, thick), region)
    twist = 0.8 + 0.2 * noise(rng, size, 5, 1)
    image = blend(image, body, np.asarray(colour, np.float32) * 0.75 * twist[..., None])
    return blend(image, inside(stroke(size, points - [0.4, 0.4], thick * 0.4), region), np.clip(colour, 0, 1))


def fold(
    image: Array,
    region: Mask,
    rng: Rng,
    *,
    width: Range = (8, 14),
    strength: Range = (0.3, 0.5),
    length: Range = (120, 260),
    bend: float = 0.35,
) -> Array:
    """A crease: a band that is lit on one side of a soft ridge and shaded on the other."""
    size = image.shape[0]
    angle, extent, thick = rng.uniform(0, np.pi), rng.uniform(*length), rng.uniform(*width)
    start = np.array(pick_point(rng, region, 30)) - np.array([np.cos(angle), np.sin(angle)]) * extent / 2
    points = curve(rng, start, angle, extent, bend)
    side = np.array([-np.sin(angle), np.cos(angle)]) * thick / 2
    light = blur(stroke(size, points + side, thick), thick / 4)
    dark = blur(stroke(size, points - side, thick), thick / 4)
    line = stroke(size, points, 1.6)
    power = rng.uniform(*strength)
    factor = 1 + power * inside(light - 1.2 * dark - 0.5 * line, region)
    return np.clip(shade(image, factor), 0, 1)
