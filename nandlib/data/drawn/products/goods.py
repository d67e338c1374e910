"""Products of everyday use, each a single thing: bottle, capsule, hazelnut, pill and toothbrush."""

from __future__ import annotations

import numpy as np

from nandlib.data.drawn.canvas import Rng, blend, blur, coordinates, disk, ellipse_points, grain, noise, paint, polygon, shade, stroke, turn
from nandlib.data.drawn.products.scene import Scene, backdrop, letters, scene


def bottle(rng: Rng, size: int) -> Scene:
    """A glass bottle seen from above: bright mouth, dark thick wall, thread rings."""
    centre, radius = 128 + rng.normal(0, 2, 2), 104 + rng.normal(0, 2)
    background = backdrop(rng, size, (0.93, 0.93, 0.92), 0.02)
    x, y = coordinates(size)
    r = np.hypot(x - centre[0], y - centre[1]) / radius
    angle = np.arctan2(y - centre[1], x - centre[0])
    wall = 0.20 + 0.10 * np.sin(r * 42) * (r > 0.72) + 0.10 * np.cos(2 * angle + rng.uniform(0, 6)) * (r > 0.6)
    image = blend(background, disk(size, centre, radius, 1.5), wall[..., None] * np.array([1.0, 0.72, 0.5]))
    image = blend(image, disk(size, centre, radius * 0.66, 3), np.array([0.30, 0.20, 0.13]))
    mouth = 0.78 + 0.10 * noise(rng, size, 50, 2)
    image = blend(image, disk(size, centre, radius * 0.56, 4), mouth[..., None] * np.array([1.0, 0.97, 0.90]))
    return scene(image, disk(size, centre, radius), background)


def capsule(rng: Rng, size: int, squeeze: bool = False, imprint: str = "500") -> Scene:
    """A two-coloured capsule lying flat, with a printed dose."""
    centre, angle = 128 + rng.normal(0, 3, 2), rng.normal(0, 0.04)
    background = backdrop(rng, size, (0.94, 0.94, 0.93), 0.02)
    x, y = coordinates(size)
    dx, dy = x - centre[0], y - centre[1]
    u, v = np.cos(angle) * dx + np.sin(angle) * dy, -np.sin(angle) * dx + np.cos(angle) * dy
    dent_at, dent_side = rng.uniform(-55, 55), rng.choice([-1.0, 1.0])
    half = np.full_like(u, 46)
    if squeeze:
        half = half - 17 * np.exp(-(((u - dent_at) / 17) ** 2)) * (np.sign(v) == dent_side)
    radial = np.hypot(np.maximum(np.abs(u) - 62, 0), v * 46 / half) / 46
    body = np.clip((1 - radial) * 23 + 0.5, 0, 1).astype(np.float32)
    light = 0.55 + 0.45 * np.sqrt(np.clip(1 - np.clip(v * 46 / half / 46, -1, 1) ** 2, 0, 1))
    left = (u < 4)[..., None]
    speckle = (0.97 + 0.06 * noise(rng, size, 4, 1))[..., None]
    colour = np.where(left, np.array([0.13, 0.12, 0.13]), np.array([0.80, 0.33, 0.12])) * speckle
    image = blend(shade(background, 1 - 0.25 * blur(body, 6)), body, colour * light[..., None])
    image = blend(image, stroke(size, turn(np.array([[4, -44], [4, 44]]), angle) + centre, 2) * body, (0.3, 0.2, 0.1))
    gloss = np.exp(-(((v + 20) / 6) ** 2)) * body * (np.abs(u) < 75) * 0.45
    image = blend(image, gloss.astype(np.float32), (1, 1, 1))
    image = letters(image, imprint, centre + turn(np.array([[46.0, 6.0]]), angle)[0], 1.05, (0.97, 0.93, 0.85), angle)
    return scene(image, body, background)


def hazelnut(rng: Rng, size: int) -> Scene:
    """A brown nut with ribs running to its pale base."""
    centre, spin = 128 + rng.normal(0, 3, 2), rng.uniform(0, 6.28)
    background = backdrop(rng, size, (0.10, 0.10, 0.11))
    outline = turn(ellipse_points((0, 0), (96, 84 + rng.normal(0, 3))) * [1, 1], spin) + centre
    body = blur(polygon(size, outline), 0.8)
    x, y = coordinates(size)
    dx, dy = x - centre[0], y - centre[1]
    u, v = np.cos(spin) * dx + np.sin(spin) * dy, -np.sin(spin) * dx + np.cos(spin) * dy
    ribs = np.sin(v / np.sqrt(np.clip(1.15 - (u / 96) ** 2, 0.1, 2)) / 3.4 + 3 * noise(rng, size, 50, 2))
    ball = np.sqrt(np.clip(1 - (dx**2 + dy**2) / 101**2, 0, 1))
    light = (0.35 + 0.65 * ball) * (0.92 + 0.09 * ribs + 0.16 * (noise(rng, size, 20, 3) - 0.5))
    image = blend(background, body, light[..., None] * np.array([0.66, 0.40, 0.20]))
    base = blur(polygon(size, turn(ellipse_points((70, 0), (20, 52)), spin) + centre), 3) * body
    pale = light * (0.85 + 0.3 * noise(rng, size, 5, 2))
    image = blend(image, base * 0.8, pale[..., None] * np.array([0.86, 0.70, 0.50]))
    return scene(image, body, background)


def pill(rng: Rng, size: int, imprint_slip: float = 0.0, other_type: bool = False) -> Scene:
    """A white oval tablet with red speckles and the letters FF; the other type is round, yellowish and scored."""
    centre, angle = 128 + rng.normal(0, 3, 2), rng.normal(0, 0.05)
    background = backdrop(rng, size, (0.08, 0.08, 0.09))
    radii = (88, 82) if other_type else (104, 66)
    body = blur(polygon(size, ellipse_points(centre, radii, angle)), 0.8)
    x, y = coordinates(size)
    bowl = np.clip(1 - ((x - centre[0]) / 116) ** 2 - ((y - centre[1]) / 84) ** 2, 0, 1)
    light = 0.70 + 0.22 * np.sqrt(bowl) + 0.02 * grain(rng, size) * 0.6 + 0.04 * noise(rng, size, 10, 2)
    colour = np.array([0.93, 0.84, 0.56]) if other_type else np.array([1.0, 0.98, 0.93])
    image = blend(background, body, light[..., None] * colour)
    spots = np.clip(rng.normal(0, 1, (26, 2)), -1.9, 1.9) * [46, 28] + centre, rng.uniform(0.8, 2.0, 26)
    if not other_type:
        for at, radius in zip(*spots, strict=True):
            paint(image, ellipse_points(at, (radius, radius), n=12), (0.75, 0.25, 0.2), opacity=0.75)
        image = letters(image, "FF", centre, 1.9, (0.60, 0.57, 0.53), angle, imprint_slip)
    else:
        image = blend(image, stroke(size, np.array([[0, -70], [0, 70]]) + centre, 4) * body * 0.6, (0.5, 0.42, 0.25))
    return scene(image, body, background)


def toothbrush(rng: Rng, size: int, damaged: bool = False) -> Scene:
    """A brush head: rows of round tufts, red, white and blue; damaged tufts splay."""
    centre, angle = 128 + rng.normal(0, 2, 2), rng.normal(0, 0.04)
    background = backdrop(rng, size, (0.07, 0.07, 0.08))
    body = polygon(size, ellipse_points(centre, (64, 112), angle))
    image = blend(background, body, np.array([0.80, 0.82, 0.85]))
    faulty = rng.integers(20, size=3)
    tufts = [(row, column) for row in range(8) for column in range(4)]
    for n, (row, column) in enumerate(tufts):
        inward = 1 - 0.35 * ((row - 3.5) / 3.5) ** 2
        hub = centre + turn(np.array([[(column - 1.5) * 27 * inward, (row - 3.5) * 25]]), angle)[0]
        colour = [(0.80, 0.20, 0.22), (0.93, 0.93, 0.94), (0.93, 0.93, 0.94), (0.20, 0.36, 0.74)][column]
        bristles, splay = rng.normal(0, 1, (26, 2)), rng.normal(0, 13, (26, 2))
        paint(image, ellipse_points(hub + 2, (12, 12)), (0.2, 0.2, 0.24), opacity=0.4)
        for k, offset in enumerate(bristles):
            tip = hub + offset * 5
            if damaged and n in faulty:
                tip = tip + splay[k]
            paint(image, np.stack([hub + offset * 3, tip]), np.asarray(colour) * (0.7 + 0.012 * k), width=3)
    return scene(image, body, background)
