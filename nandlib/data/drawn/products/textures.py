"""Products that are a surface: carpet, mesh, leather, terrazzo and wood."""

from __future__ import annotations

import cv2
import numpy as np

from nandlib.data.drawn.canvas import Rng, blend, blur, coordinates, grain, noise, plain, shade, stroke, unit
from nandlib.data.drawn.products.scene import Scene, backdrop, scene, texture


def carpet(rng: Rng, size: int) -> Scene:
    """A grey woven carpet: crossing yarns."""
    x, y = coordinates(size)
    phase, pitch = rng.uniform(0, 6.28, 2), 9.0
    wobble = 2.2 * noise(rng, size, 40, 2)
    warp = np.sin(2 * np.pi * (x + wobble) / pitch + phase[0])
    weft = np.sin(2 * np.pi * (y + wobble) / pitch + phase[1])
    over = np.sign(np.sin(np.pi * (x + wobble) / pitch) * np.sin(np.pi * (y + wobble) / pitch))
    light = 0.46 + 0.09 * np.where(over > 0, warp, weft) + 0.10 * noise(rng, size, 6, 2) + 0.03 * grain(rng, size)
    return texture(light[..., None] * np.array([1.0, 0.98, 0.96]), (0.10, 0.10, 0.10))


def grid(rng: Rng, size: int, bent: bool = False, broken: bool = False) -> Scene:
    """A wire mesh of rhombs before a dark ground."""
    background = backdrop(rng, size, (0.20, 0.20, 0.21), 0.05)
    offset, pitch, tilt = rng.uniform(0, 26), 26.0, 0.62 + rng.normal(0, 0.01)
    spot = rng.uniform(70, 186, 2)
    direction = rng.uniform(0, 6.28)
    push = 13 * np.array([np.cos(direction), np.sin(direction)])
    wires = []
    for sign in (1, -1):
        for k in range(-11, 22):
            t = np.linspace(-40, 296, 120)
            line = np.stack([t, sign * np.tan(tilt) * (t - 128) + 128 + (k - 5) * pitch + offset - 13], 1)
            distance = np.hypot(*(line - spot).T)
            if bent:
                line = line + np.exp(-((distance / 22) ** 2))[:, None] * push
            gap: np.ndarray | list[int] = np.flatnonzero(distance < 17) if broken else []
            pieces = [line[: gap[0]], line[gap[-1] + 1 :]] if len(gap) else [line]
            wires += [piece for piece in pieces if len(piece) > 1]
    shine = 0.6 + 0.1 * noise(rng, size, 30, 2)
    image = blend(background, stroke(size, wires, 5.5), shine[..., None] * np.array([1, 1, 0.98]))
    image = blend(image, stroke(size, [wire - 1 for wire in wires], 1.6) * 0.8, (0.88, 0.88, 0.86))
    image = image + 0.015 * grain(rng, size)[..., None]
    return scene(image, np.ones((size, size), np.float32), background)


def leather(rng: Rng, size: int) -> Scene:
    """Brown grained leather: small cells divided by fine furrows."""
    points = rng.random((900, 2)).astype(np.float32) * (size + 20) - 10
    seeds = np.full((size, size), 255, np.uint8)
    inside = np.clip(np.round(points), 0, size - 1).astype(int)
    seeds[inside[:, 1], inside[:, 0]] = 0
    distance = cv2.distanceTransform(seeds, cv2.DIST_L2, 5) / unit(size)
    relief = blur(np.clip(1 - distance / 7.5, 0, 1).astype(np.float32), 0.8)
    light = 0.62 + 0.30 * relief + 0.14 * (noise(rng, size, 40, 3) - 0.5) + 0.02 * grain(rng, size)
    return texture(light[..., None] * np.array([0.52, 0.32, 0.20]), (0.08, 0.05, 0.04))


def tile(rng: Rng, size: int) -> Scene:
    """A terrazzo tile: pale ground, angular dark chips."""
    image = plain(size, (0.74, 0.73, 0.71))
    image = shade(image, 0.94 + 0.12 * noise(rng, size, 50, 3))
    for level, colour in ((0.64, (0.46, 0.45, 0.44)), (0.72, (0.24, 0.23, 0.24))):
        chips = np.clip((noise(rng, size, 13, 2) - level) * 25, 0, 1)
        image = blend(image, chips, colour)
    return texture(image + 0.02 * grain(rng, size)[..., None], (0.12, 0.12, 0.12))


def wood(rng: Rng, size: int) -> Scene:
    """Sawn wood with upright grain."""
    x, _ = coordinates(size)
    drift = 16 * noise(rng, size, 120, 2, stretch=(1, 3))
    rings = np.sin((x + drift) / 5.2 + 2 * noise(rng, size, 30, 2, stretch=(1, 5)))
    fibres = noise(rng, size, 3, 2, stretch=(1, 18))
    light = 0.66 + 0.08 * rings + 0.15 * (fibres - 0.5) + 0.012 * grain(rng, size)
    return texture(light[..., None] * np.array([0.86, 0.60, 0.38]), (0.10, 0.06, 0.04))
