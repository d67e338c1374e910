"""Auxiliary surfaces: patterns of light that fill an image, in two random colours; none is a product's."""

from __future__ import annotations

import numpy as np

from nandlib.data.drawn.canvas import Array, Rng, blur, coordinates, curve, grain, noise, stroke


def clouds(rng: Rng, size: int) -> Array:
    """Soft clouds."""
    return noise(rng, size, rng.uniform(15, 80), 4)


def brushed(rng: Rng, size: int) -> Array:
    """Fine parallel streaks, lying or upright."""
    field = noise(rng, size, 4, 2, stretch=(30, 1))
    return field if rng.random() < 0.5 else np.ascontiguousarray(field.T)


def concrete(rng: Rng, size: int) -> Array:
    """Cloudy and grainy."""
    return 0.5 + 0.2 * (noise(rng, size, 25, 4) - 0.5) + 0.12 * blur(grain(rng, size), rng.uniform(0.3, 1.0))


def sand(rng: Rng, size: int) -> Array:
    """Coarse grain."""
    return np.clip(0.5 + 0.6 * blur(grain(rng, size), rng.uniform(0.6, 1.4)), 0, 1)


def twill(rng: Rng, size: int) -> Array:
    """Slanting lines of a woven cloth."""
    x, y = coordinates(size)
    pitch, slant = rng.uniform(6, 16), rng.uniform(0.6, 1.6)
    lines = np.sin(2 * np.pi * (x + slant * y + 2 * noise(rng, size, 50, 1)) / pitch)
    return 0.5 + 0.3 * lines + 0.2 * (noise(rng, size, 4, 2) - 0.5)


def dots(rng: Rng, size: int) -> Array:
    """Dark dots in rows, straight or staggered."""
    x, y = coordinates(size)
    pitch = rng.uniform(14, 36)
    shift = (np.floor(y / pitch) % 2) * pitch / 2 * (rng.random() < 0.5)
    distance = np.hypot((x + shift) % pitch - pitch / 2, y % pitch - pitch / 2)
    return 0.7 - 0.5 * np.clip(pitch * rng.uniform(0.2, 0.38) - distance + 0.5, 0, 1)


def checker(rng: Rng, size: int) -> Array:
    """A checked pattern with soft or hard edges."""
    x, y = coordinates(size)
    pitch, soft = rng.uniform(10, 40), rng.uniform(1.5, 6)
    field = np.sin(np.pi * x / pitch + rng.uniform(0, 6)) * np.sin(np.pi * y / pitch + rng.uniform(0, 6))
    return 0.5 + 0.35 * np.clip(field * soft, -1, 1) + 0.1 * (noise(rng, size, 8, 2) - 0.5)


def marble(rng: Rng, size: int) -> Array:
    """Dark veins in a light stone."""
    x, y = coordinates(size)
    veins = np.sin((x + y * rng.uniform(-1, 1)) / rng.uniform(10, 30) + 7 * noise(rng, size, 80, 4))
    return 0.75 - 0.35 * np.abs(veins) ** rng.uniform(0.3, 1)


def paper(rng: Rng, size: int) -> Array:
    """Short fibres, crossing."""
    fibres = [curve(rng, rng.uniform(-10, 266, 2), rng.uniform(0, 6.3), rng.uniform(10, 40), 1.0, 12) for _ in range(250)]
    return 0.6 + 0.12 * blur(stroke(size, fibres, 1.2), 0.6) + 0.08 * (noise(rng, size, 10, 3) - 0.5)


def hexagons(rng: Rng, size: int) -> Array:
    """A pattern of sixfold symmetry."""
    x, y = coordinates(size)
    k = 2 * np.pi / rng.uniform(14, 36)
    field = sum(np.cos(k * (x * np.cos(a) + y * np.sin(a))) for a in (0, 2 * np.pi / 3, 4 * np.pi / 3))
    return 0.45 + 0.3 * np.clip(field * rng.uniform(0.4, 1.2), -1, 1)


def bricks(rng: Rng, size: int) -> Array:
    """Courses of bricks with joints."""
    x, y = coordinates(size)
    wide, high = rng.uniform(30, 60), rng.uniform(14, 26)
    shifted = x + (np.floor(y / high) % 2) * wide / 2
    joint = np.minimum(np.minimum(shifted % wide, wide - shifted % wide), np.minimum(y % high, high - y % high))
    return 0.55 + 0.25 * np.clip(joint - 1.5, 0, 1) - 0.15 + 0.25 * (noise(rng, size, 9, 3) - 0.5)


def corrugated(rng: Rng, size: int) -> Array:
    """Parallel waves in any direction."""
    x, y = coordinates(size)
    angle = rng.uniform(0, np.pi)
    along = x * np.cos(angle) + y * np.sin(angle)
    return 0.5 + 0.35 * np.sin(2 * np.pi * along / rng.uniform(10, 45)) + 0.03 * grain(rng, size)


def knitted(rng: Rng, size: int) -> Array:
    """Columns of stitches."""
    x, y = coordinates(size)
    pitch = rng.uniform(8, 18)
    return 0.5 + 0.3 * np.sin(2 * np.pi * (y + 3 * np.abs((x % pitch) - pitch / 2)) / pitch) * np.cos(np.pi * x / pitch) ** 2


def smooth(rng: Rng, size: int) -> Array:
    """Nearly even, with hardly any grain."""
    return 0.6 + 0.08 * (noise(rng, size, 120, 1) - 0.5) + rng.uniform(0, 0.04) * grain(rng, size)


SURFACES = (clouds, brushed, concrete, sand, twill, dots, checker, marble, paper, hexagons, bricks, corrugated, knitted, smooth)


def _two_tone(rng: Rng, light: Array) -> Array:
    """Colour a luminance field: a base colour and a second one near it."""
    base = np.clip(rng.uniform(0.2, 0.85) + rng.normal(0, 0.10, 3), 0.05, 1)
    other = np.clip(base + rng.normal(0, 0.06, 3), 0.02, 1)
    contrast = rng.uniform(0.25, 0.9)
    return base * (1 - contrast / 2 + contrast * light[..., None]) * 0.7 + other * 0.3 * light[..., None]


def random_surface(rng: Rng, size: int) -> Array:
    """One of `SURFACES` in two random colours."""
    field = SURFACES[rng.integers(len(SURFACES))](rng, size).astype(np.float32)
    return np.clip(_two_tone(rng, np.clip(field, 0, 1)), 0, 1)
