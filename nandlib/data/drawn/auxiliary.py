"""Auxiliary images that train the embedded model: surfaces, objects and defect looks that no study contains.

Every image shows a random surface or object with zero to four defects of the families in `FAMILIES`, and comes with
a label per pixel. Products, surfaces and seeds are not those of the embedded data set `mini`, and colours come from another
palette; the primitives of `nandlib.data.drawn.defects` are the same, with other looks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nandlib.data.drawn import blemishes, defects
from nandlib.data.drawn.canvas import (
    Array,
    Mask,
    Rng,
    bar_points,
    blend,
    blob_points,
    blur,
    coordinates,
    curve,
    disk,
    ellipse_points,
    grain,
    luminance,
    noise,
    plain,
    polygon,
    shade,
    stroke,
)
from nandlib.data.drawn.structures import STRUCTURES
from nandlib.settings import RESOURCES, read_yaml

NORMAL = -1  # label of a pixel without a defect

_PALETTE = np.array(
    [
        (0.86, 0.12, 0.58), (0.95, 0.56, 0.08), (0.46, 0.16, 0.72), (0.55, 0.78, 0.14), (0.10, 0.62, 0.86),
        (0.94, 0.86, 0.18), (0.12, 0.66, 0.30), (0.58, 0.30, 0.14), (0.96, 0.60, 0.66), (0.22, 0.24, 0.28),
        (0.60, 0.62, 0.64), (0.97, 0.97, 0.97),
    ],
    np.float32,
)  # fmt: skip


def _colour(rng: Rng) -> Array:
    return np.clip(_PALETTE[rng.integers(len(_PALETTE))] * rng.uniform(0.75, 1.1) + rng.normal(0, 0.03, 3), 0, 1)


def _extreme(rng: Rng, dark: float = 0.65) -> Array:
    """Nearly black with probability `dark`, else nearly white."""
    level = rng.uniform(0.0, 0.22) if rng.random() < dark else rng.uniform(0.78, 1.0)
    return np.clip(level + rng.normal(0, 0.03, 3), 0, 1)


def _earthy(rng: Rng) -> Array:
    """Brown, as rust is; three times in ten with the channels exchanged, as moss or verdigris."""
    colour = rng.uniform((0.3, 0.16, 0.04), (0.65, 0.45, 0.2))
    return colour[rng.permutation(3)] if rng.random() < 0.3 else colour


@dataclass(frozen=True)
class Family:
    """A defect family: its primitive and a draw of its look. `PHRASES` name it."""

    primitive: Callable[..., Array]
    look: Callable[[Rng], dict[str, Any]] = field(default=lambda rng: {})


def _span(rng: Rng, low: float, high: float) -> tuple[float, float]:
    value = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    return value, value * 1.15


FAMILIES: dict[str, Family] = {
    "scratch": Family(
        defects.scratch,
        lambda rng: {"colour": _extreme(rng, 0.5), "width": _span(rng, 0.8, 2.4), "length": _span(rng, 25, 140),
                     "bend": rng.uniform(0.05, 0.7), "count": (1, 4)},
    ),
    "crack": Family(
        defects.crack,
        lambda rng: {"colour": _extreme(rng, 0.8), "width": _span(rng, 1.0, 3.6), "length": _span(rng, 40, 180),
                     "zigzag": rng.uniform(0.35, 0.8)},
    ),
    "hole": Family(
        defects.hole,
        lambda rng: {"colour": _extreme(rng, 0.85), "radius": _span(rng, 3, 20), "ragged": rng.uniform(0, 0.25),
                     "rim": rng.uniform(0.1, 0.5)},
    ),
    "stain": Family(
        defects.stain,
        lambda rng: {"colour": _extreme(rng, 0.9) * rng.uniform(0.6, 1) + _colour(rng) * 0.12, "radius": _span(rng, 5, 40),
                     "strength": (0.35, 0.85), "rim": rng.uniform(0, 0.4)},
    ),
    "color": Family(
        defects.tint,
        lambda rng: {"colour": _colour(rng), "radius": _span(rng, 8, 40), "strength": (0.45, 0.9), "soft": rng.uniform(0.5, 5)},
    ),
    "cut": Family(
        defects.cut,
        lambda rng: {"colour": _extreme(rng, 0.75), "length": _span(rng, 20, 95), "width": _span(rng, 3, 13),
                     "lip": rng.uniform(0.05, 0.4)},
    ),
    "thread": Family(
        defects.thread,
        lambda rng: {"colour": _colour(rng) if rng.random() < 0.5 else _extreme(rng, 0.25), "width": _span(rng, 1.6, 5),
                     "length": _span(rng, 60, 220), "bend": rng.uniform(0.8, 3.2)},
    ),
    "bent": Family(
        defects.warp,
        lambda rng: {"radius": _span(rng, 22, 60), "shift": _span(rng, 7, 20), "twist": rng.uniform(0.2, 0.9)},
    ),
    "broken": Family(
        defects.chip,
        lambda rng: {"radius": _span(rng, 10, 42)},
    ),
    "print": Family(
        defects.imprint,
        lambda rng: {"colour": _colour(rng) if rng.random() < 0.4 else _extreme(rng, 0.5), "scale": _span(rng, 0.5, 2.0),
                     "texts": ("B8", "QX", "701", "MADE", "C", "EU9", "ok", "R/2", "#5")},
    ),
    "glue": Family(
        defects.glue,
        lambda rng: {"colour": _extreme(rng, 0.1) * (0.7 + 0.3 * _colour(rng)), "radius": _span(rng, 9, 36),
                     "aspect": (0.3, 3.5), "strength": (0.3, 0.7)},
    ),
    "fold": Family(
        defects.fold,
        lambda rng: {"width": _span(rng, 5, 20), "strength": (0.2, 0.6), "length": _span(rng, 70, 280)},
    ),
    "rough": Family(
        defects.rough,
        lambda rng: {"colour": _extreme(rng, 0.2), "radius": _span(rng, 9, 42), "strength": (0.08, 0.28),
                     "whiten": rng.uniform(0.1, 0.5)},
    ),
    "metal": Family(
        defects.metal,
        lambda rng: {"colour": np.clip(rng.uniform(0.55, 0.9) + rng.normal(0, 0.03, 3), 0, 1), "radius": _span(rng, 4, 17),
                     "count": (1, 4)},
    ),
    "uneven": Family(
        defects.uneven,
        lambda rng: {"radius": _span(rng, 16, 60), "strength": (0.2, 0.6)},
    ),
    "misplaced": Family(
        defects.displace,
        lambda rng: {"radius": _span(rng, 15, 48)},
    ),
    "missing": Family(
        defects.absent,
        lambda rng: {"radius": _span(rng, 10, 42)},
    ),
    "corrosion": Family(
        blemishes.corrosion,
        lambda rng: {"colour": _earthy(rng), "radius": _span(rng, 9, 38)},
    ),
    "burn": Family(blemishes.burn, lambda rng: {"radius": _span(rng, 6, 30)}),
    "blister": Family(blemishes.blister, lambda rng: {"radius": _span(rng, 3.5, 18), "relief": rng.uniform(0.3, 0.7)}),
    "dust": Family(
        blemishes.dust,
        lambda rng: {"colour": _extreme(rng, 0.35), "count": _span(rng, 30, 160), "spread": _span(rng, 12, 50)},
    ),
    "liquid": Family(blemishes.liquid, lambda rng: {"radius": _span(rng, 9, 42)}),
    "streak": Family(
        blemishes.streak,
        lambda rng: {"colour": _colour(rng) if rng.random() < 0.4 else np.full(3, rng.uniform(0.05, 0.95)), "width": _span(rng, 3, 20),
                     "length": _span(rng, 40, 160)},
    ),
    "tear": Family(
        blemishes.tear,
        lambda rng: {"colour": _extreme(rng, 0.8), "length": _span(rng, 28, 110), "width": _span(rng, 6, 24)},
    ),
    "dent": Family(blemishes.crush, lambda rng: {"radius": _span(rng, 8, 36)}),
    "fading": Family(blemishes.fading, lambda rng: {"radius": _span(rng, 10, 44)}),
    "grease": Family(
        defects.stain,
        lambda rng: {"colour": np.array((0.16, 0.12, 0.05)) * rng.uniform(0.5, 1.4), "radius": _span(rng, 8, 38), "strength": (0.4, 0.75),
                     "rim": rng.uniform(0, 0.12), "droplets": (0, 3)},
    ),
}  # fmt: skip

PHRASES: dict[str, dict[str, list[str]]] = read_yaml(RESOURCES / "auxiliary_phrases.yaml")  # family → train, held_out → phrases

NOUNS = (
    "surface", "panel", "plastic part", "textile", "casing", "sheet", "disc", "bracket", "cloth", "stone slab",
    "machine part", "product", "object", "workpiece", "component", "gasket", "spring", "bolt", "tube", "connector",
    "spoon", "pipe", "lens", "rubber ring", "belt", "bearing", "lamp", "paper", "door",
    "ceramic plate", "brick wall", "battery", "sponge", "fruit", "bread", "concrete floor", "curtain", "fence",
    "wheel", "lid", "socket", "valve", "button", "ring", "tray", "toy", "shoe sole", "foam", "mirror", "clip",
)  # fmt: skip
MENTIONS = ("{}", "{} on {noun}", "{noun} with {}", "{} in {noun}", "{noun} with a {} defect", "defect of type {}")


# --- surfaces -------------------------------------------------------------------------------------------------------


def _two_tone(rng: Rng, light: Array) -> Array:
    """Colour a luminance field: a base colour and a second one near it."""
    base = np.clip(rng.uniform(0.2, 0.85) + rng.normal(0, 0.10, 3), 0.05, 1)
    other = np.clip(base + rng.normal(0, 0.06, 3), 0.02, 1)
    contrast = rng.uniform(0.25, 0.9)
    return base * (1 - contrast / 2 + contrast * light[..., None]) * 0.7 + other * 0.3 * light[..., None]


def clouds(rng: Rng, size: int) -> Array:
    return noise(rng, size, rng.uniform(15, 80), 4)


def brushed(rng: Rng, size: int) -> Array:
    field = noise(rng, size, 4, 2, stretch=(30, 1))
    return field if rng.random() < 0.5 else np.ascontiguousarray(field.T)


def concrete(rng: Rng, size: int) -> Array:
    return 0.5 + 0.2 * (noise(rng, size, 25, 4) - 0.5) + 0.12 * blur(grain(rng, size), rng.uniform(0.3, 1.0))


def sand(rng: Rng, size: int) -> Array:
    return np.clip(0.5 + 0.6 * blur(grain(rng, size), rng.uniform(0.6, 1.4)), 0, 1)


def twill(rng: Rng, size: int) -> Array:
    x, y = coordinates(size)
    pitch, slant = rng.uniform(6, 16), rng.uniform(0.6, 1.6)
    lines = np.sin(2 * np.pi * (x + slant * y + 2 * noise(rng, size, 50, 1)) / pitch)
    return 0.5 + 0.3 * lines + 0.2 * (noise(rng, size, 4, 2) - 0.5)


def dots(rng: Rng, size: int) -> Array:
    x, y = coordinates(size)
    pitch = rng.uniform(14, 36)
    shift = (np.floor(y / pitch) % 2) * pitch / 2 * (rng.random() < 0.5)
    distance = np.hypot((x + shift) % pitch - pitch / 2, y % pitch - pitch / 2)
    return 0.7 - 0.5 * np.clip(pitch * rng.uniform(0.2, 0.38) - distance + 0.5, 0, 1)


def checker(rng: Rng, size: int) -> Array:
    x, y = coordinates(size)
    pitch, soft = rng.uniform(10, 40), rng.uniform(1.5, 6)
    field = np.sin(np.pi * x / pitch + rng.uniform(0, 6)) * np.sin(np.pi * y / pitch + rng.uniform(0, 6))
    return 0.5 + 0.35 * np.clip(field * soft, -1, 1) + 0.1 * (noise(rng, size, 8, 2) - 0.5)


def marble(rng: Rng, size: int) -> Array:
    x, y = coordinates(size)
    veins = np.sin((x + y * rng.uniform(-1, 1)) / rng.uniform(10, 30) + 7 * noise(rng, size, 80, 4))
    return 0.75 - 0.35 * np.abs(veins) ** rng.uniform(0.3, 1)


def paper(rng: Rng, size: int) -> Array:
    fibres = [curve(rng, rng.uniform(-10, 266, 2), rng.uniform(0, 6.3), rng.uniform(10, 40), 1.0, 12) for _ in range(250)]
    return 0.6 + 0.12 * blur(stroke(size, fibres, 1.2), 0.6) + 0.08 * (noise(rng, size, 10, 3) - 0.5)


def hexagons(rng: Rng, size: int) -> Array:
    x, y = coordinates(size)
    k = 2 * np.pi / rng.uniform(14, 36)
    field = sum(np.cos(k * (x * np.cos(a) + y * np.sin(a))) for a in (0, 2 * np.pi / 3, 4 * np.pi / 3))
    return 0.45 + 0.3 * np.clip(field * rng.uniform(0.4, 1.2), -1, 1)


def bricks(rng: Rng, size: int) -> Array:
    x, y = coordinates(size)
    wide, high = rng.uniform(30, 60), rng.uniform(14, 26)
    shifted = x + (np.floor(y / high) % 2) * wide / 2
    joint = np.minimum(np.minimum(shifted % wide, wide - shifted % wide), np.minimum(y % high, high - y % high))
    return 0.55 + 0.25 * np.clip(joint - 1.5, 0, 1) - 0.15 + 0.25 * (noise(rng, size, 9, 3) - 0.5)


def corrugated(rng: Rng, size: int) -> Array:
    x, y = coordinates(size)
    angle = rng.uniform(0, np.pi)
    along = x * np.cos(angle) + y * np.sin(angle)
    return 0.5 + 0.35 * np.sin(2 * np.pi * along / rng.uniform(10, 45)) + 0.03 * grain(rng, size)


def knitted(rng: Rng, size: int) -> Array:
    x, y = coordinates(size)
    pitch = rng.uniform(8, 18)
    return 0.5 + 0.3 * np.sin(2 * np.pi * (y + 3 * np.abs((x % pitch) - pitch / 2)) / pitch) * np.cos(np.pi * x / pitch) ** 2


def smooth(rng: Rng, size: int) -> Array:
    return 0.6 + 0.08 * (noise(rng, size, 120, 1) - 0.5) + rng.uniform(0, 0.04) * grain(rng, size)


SURFACES = (clouds, brushed, concrete, sand, twill, dots, checker, marble, paper, hexagons, bricks, corrugated, knitted, smooth)


def _surface(rng: Rng, size: int) -> Array:
    field = SURFACES[rng.integers(len(SURFACES))](rng, size).astype(np.float32)
    return np.clip(_two_tone(rng, np.clip(field, 0, 1)), 0, 1)


def _object_alpha(rng: Rng, size: int) -> Array:
    """The silhouette of a random object: blob, ellipse, box, ring, gear, bars or star."""
    centre = 128 + rng.normal(0, 10, 2)
    radius = rng.uniform(60, 105)
    kind = rng.integers(7)
    angle = rng.uniform(0, np.pi)
    if kind == 0:
        return polygon(size, blob_points(rng, centre, radius, 0.2, rng.uniform(0.6, 1.6)))
    if kind == 1:
        return polygon(size, ellipse_points(centre, (radius, radius * rng.uniform(0.4, 1)), angle))
    if kind == 2:
        reach = np.array([np.cos(angle), np.sin(angle)]) * radius
        return polygon(size, bar_points(centre - reach, centre + reach, radius * rng.uniform(0.5, 1.6)))
    if kind == 3:
        return disk(size, centre, radius) - disk(size, centre, radius * rng.uniform(0.3, 0.6))
    if kind == 4:
        t = np.linspace(0, 2 * np.pi, 240)
        r = radius * (0.85 + 0.12 * np.sign(np.sin(rng.integers(6, 15) * t)))
        return polygon(size, np.stack([r * np.cos(t), r * np.sin(t)], 1) + centre)
    if kind == 5:
        across, along = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)]) * 110
        bars = [centre + across * k * rng.uniform(22, 34) for k in (-2, -1, 0, 1, 2)]
        return np.maximum.reduce([stroke(size, np.stack([at - along, at + along]), rng.uniform(6, 16)) for at in bars])
    t = np.arange(10) * np.pi / 5 + angle
    r = radius * np.where(np.arange(10) % 2, rng.uniform(0.5, 0.75), 1.1)
    return polygon(size, np.stack([r * np.cos(t), r * np.sin(t)], 1) + centre)


def _nuisance(image: Array, rng: Rng) -> Array:
    """Variation that is normal: light gradients, glossy streaks, dark borders, exposure."""
    size = image.shape[0]
    x, y = coordinates(size)
    angle = rng.uniform(0, 2 * np.pi)
    along = ((x - 128) * np.cos(angle) + (y - 128) * np.sin(angle)) / 128
    image = shade(image, (1 + rng.uniform(0, 0.35) * along) * rng.uniform(0.7, 1.25))
    if rng.random() < 0.4:
        streak = np.exp(-(((along - rng.uniform(-0.8, 0.8)) / rng.uniform(0.1, 0.4)) ** 2))
        image = image + (rng.uniform(0.05, 0.35) * streak)[..., None]
    if rng.random() < 0.3:
        edge = np.min(np.stack([x, 256 - x, y, 256 - y])[rng.integers(4, size=rng.integers(1, 4))], 0)
        image = shade(image, np.clip(edge / rng.uniform(6, 40), rng.uniform(0, 0.5), 1))
    return np.clip(image, 0, 1)


@dataclass(frozen=True)
class Sample:
    """An auxiliary image ``(size, size, 3)`` and its label per pixel ``(size, size)``: a family's index or `NORMAL`."""

    image: Array
    labels: np.ndarray


def draw(seed: int, index: int, size: int = 256) -> Sample:
    """Auxiliary image number `index`: deterministic, independent of all others and of the embedded data set."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(*b"auxiliary", index)))
    surface = _surface(rng, size)
    background = shade(plain(size, _extreme(rng, 0.55)), 0.9 + 0.1 * noise(rng, size, 40, 2))
    region, labels = np.ones((size, size), bool), np.full((size, size), NORMAL, np.int64)
    kind = rng.random()
    if kind < 0.4:
        image = _structure(rng, size, background, surface, labels)
    elif kind < 0.65:
        alpha = _object_alpha(rng, size)
        image = blend(shade(background, 1 - 0.3 * blur(alpha, 4)), alpha, surface)
        region = alpha > 0.5 if (alpha > 0.5).mean() > 0.05 else region
    else:
        image = surface
    for _ in range(rng.choice(5, p=(0.12, 0.25, 0.28, 0.2, 0.15))):
        which = int(rng.integers(len(FAMILIES)))
        image, mask = _add_defect(image, region, background, which, rng)
        labels[mask] = which
    if rng.random() < 0.5:
        image = _nuisance(image, rng)
    if rng.random() < 0.45:
        image = np.repeat(luminance(image)[..., None], 3, -1)
    image = np.clip(image + rng.normal(0, rng.uniform(0, 0.015), image.shape), 0, 1)
    return Sample(image.astype(np.float32), labels)


def _structure(rng: Rng, size: int, background: Array, surface: Array, labels: np.ndarray) -> Array:
    """A structure, two times in three with a fault, whose pixels are entered into `labels`."""
    draw_structure = list(STRUCTURES)[rng.choice(len(STRUCTURES), p=(0.5, 0.15, 0.25, 0.1))]
    faults = STRUCTURES[draw_structure]
    fault = faults[rng.integers(len(faults))] if rng.random() < 0.67 else None
    stream = int(rng.integers(2**32))
    good = draw_structure(np.random.default_rng(stream), size, background, surface, None)
    if fault is None:
        return good
    image = draw_structure(np.random.default_rng(stream), size, background, surface, fault)
    labels[np.abs(image - good).max(-1) > 0.03] = list(FAMILIES).index(fault)
    return image


def _add_defect(image: Array, region: Mask, background: Array, which: int, rng: Rng) -> tuple[Array, Mask]:
    """Draw one defect; again (at most 5 times) if it changes its own pixels by less than 4% on average."""
    family = list(FAMILIES.values())[which]
    for _ in range(5):
        look = family.look(rng)
        if family.primitive in (defects.chip, defects.absent):
            look["background"] = background
        changed = np.clip(family.primitive(image, region, rng, **look), 0, 1)
        difference = np.abs(changed - image).max(-1)
        mask = difference > 0.03
        if mask.any() and difference[mask].mean() > 0.08 and mask.mean() > 0.0005:
            return changed, mask
    return image, np.zeros_like(region)
