"""Auxiliary images that train the embedded model: surfaces, objects and defect looks that no study contains.

Every image shows a random surface or object with zero to four defects of the families in `FAMILIES`, and comes with
a label per pixel. Products, surfaces and seeds are not those of the embedded data set `mini`. Defects are drawn in one of two ways:
``shared``, by the primitives of `nandlib.data.drawn.defects` that draw the data set's too, in ranges of looks that contain nearly
all of its; or ``disjoint``, by functions of their own (`nandlib.data.drawn.disjoint`) and without `structures`, which resemble products.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from nandlib.data.drawn import blemishes, defects, disjoint
from nandlib.data.drawn.canvas import Array, Mask, Rng, blend, blur, luminance, noise, plain, shade
from nandlib.data.drawn.nuisance import nuisance
from nandlib.data.drawn.palette import colour, earthy, extreme
from nandlib.data.drawn.silhouettes import object_alpha
from nandlib.data.drawn.structures import STRUCTURES
from nandlib.data.drawn.surfaces import random_surface

NORMAL = -1  # label of a pixel without a defect
Drawing = Literal["shared", "disjoint"]  # whether defects are drawn by what draws a study's


@dataclass(frozen=True)
class Family:
    """A defect family: its primitive and a draw of its look. The words for it are in `nandlib.training.vocabulary`."""

    primitive: Callable[..., Array]
    look: Callable[[Rng], dict[str, Any]] = field(default=lambda rng: {})


def _span(rng: Rng, low: float, high: float) -> tuple[float, float]:
    value = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    return value, value * 1.15


FAMILIES: dict[str, Family] = {
    "scratch": Family(
        defects.scratch,
        lambda rng: {"colour": extreme(rng, 0.5), "width": _span(rng, 0.8, 2.4), "length": _span(rng, 25, 140),
                     "bend": rng.uniform(0.05, 0.7), "count": (1, 4)},
    ),
    "crack": Family(
        defects.crack,
        lambda rng: {"colour": extreme(rng, 0.8), "width": _span(rng, 1.0, 3.6), "length": _span(rng, 40, 180),
                     "zigzag": rng.uniform(0.35, 0.8)},
    ),
    "hole": Family(
        defects.hole,
        lambda rng: {"colour": extreme(rng, 0.85), "radius": _span(rng, 3, 20), "ragged": rng.uniform(0, 0.25),
                     "rim": rng.uniform(0.1, 0.5)},
    ),
    "stain": Family(
        defects.stain,
        lambda rng: {"colour": extreme(rng, 0.9) * rng.uniform(0.6, 1) + colour(rng) * 0.12, "radius": _span(rng, 5, 40),
                     "strength": (0.35, 0.85), "rim": rng.uniform(0, 0.4)},
    ),
    "color": Family(
        defects.tint,
        lambda rng: {"colour": colour(rng), "radius": _span(rng, 8, 40), "strength": (0.45, 0.9), "soft": rng.uniform(0.5, 5)},
    ),
    "cut": Family(
        defects.cut,
        lambda rng: {"colour": extreme(rng, 0.75), "length": _span(rng, 20, 95), "width": _span(rng, 3, 13),
                     "lip": rng.uniform(0.05, 0.4)},
    ),
    "thread": Family(
        defects.thread,
        lambda rng: {"colour": colour(rng) if rng.random() < 0.5 else extreme(rng, 0.25), "width": _span(rng, 1.6, 5),
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
        lambda rng: {"colour": colour(rng) if rng.random() < 0.4 else extreme(rng, 0.5), "scale": _span(rng, 0.5, 2.0),
                     "texts": ("B8", "QX", "701", "MADE", "C", "EU9", "ok", "R/2", "#5")},
    ),
    "glue": Family(
        defects.glue,
        lambda rng: {"colour": extreme(rng, 0.1) * (0.7 + 0.3 * colour(rng)), "radius": _span(rng, 9, 36),
                     "aspect": (0.3, 3.5), "strength": (0.3, 0.7)},
    ),
    "fold": Family(
        defects.fold,
        lambda rng: {"width": _span(rng, 5, 20), "strength": (0.2, 0.6), "length": _span(rng, 70, 280)},
    ),
    "rough": Family(
        defects.rough,
        lambda rng: {"colour": extreme(rng, 0.2), "radius": _span(rng, 9, 42), "strength": (0.08, 0.28),
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
        lambda rng: {"colour": earthy(rng), "radius": _span(rng, 9, 38)},
    ),
    "burn": Family(blemishes.burn, lambda rng: {"radius": _span(rng, 6, 30)}),
    "blister": Family(blemishes.blister, lambda rng: {"radius": _span(rng, 3.5, 18), "relief": rng.uniform(0.3, 0.7)}),
    "dust": Family(
        blemishes.dust,
        lambda rng: {"colour": extreme(rng, 0.35), "count": _span(rng, 30, 160), "spread": _span(rng, 12, 50)},
    ),
    "liquid": Family(blemishes.liquid, lambda rng: {"radius": _span(rng, 9, 42)}),
    "streak": Family(
        blemishes.streak,
        lambda rng: {"colour": colour(rng) if rng.random() < 0.4 else np.full(3, rng.uniform(0.05, 0.95)), "width": _span(rng, 3, 20),
                     "length": _span(rng, 40, 160)},
    ),
    "tear": Family(
        blemishes.tear,
        lambda rng: {"colour": extreme(rng, 0.8), "length": _span(rng, 28, 110), "width": _span(rng, 6, 24)},
    ),
    "dent": Family(blemishes.crush, lambda rng: {"radius": _span(rng, 8, 36)}),
    "fading": Family(blemishes.fading, lambda rng: {"radius": _span(rng, 10, 44)}),
    "grease": Family(
        defects.stain,
        lambda rng: {"colour": np.array((0.16, 0.12, 0.05)) * rng.uniform(0.5, 1.4), "radius": _span(rng, 8, 38), "strength": (0.4, 0.75),
                     "rim": rng.uniform(0, 0.12), "droplets": (0, 3)},
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Sample:
    """An auxiliary image ``(size, size, 3)`` and its label per pixel ``(size, size)``: a family's index or `NORMAL`."""

    image: Array
    labels: np.ndarray


def draw(seed: int, index: int, size: int = 256, drawing: Drawing = "shared") -> Sample:
    """Auxiliary image number `index`: deterministic, independent of all others and of the embedded data set."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(*b"auxiliary", index)))
    surface = random_surface(rng, size)
    background = shade(plain(size, extreme(rng, 0.55)), 0.9 + 0.1 * noise(rng, size, 40, 2))
    region, labels = np.ones((size, size), bool), np.full((size, size), NORMAL, np.int64)
    kind = rng.random() if drawing == "shared" else rng.uniform(0.4, 1)
    if kind < 0.4:
        image = _structure(rng, size, background, surface, labels)
    elif kind < 0.65:
        alpha = object_alpha(rng, size)
        image = blend(shade(background, 1 - 0.3 * blur(alpha, 4)), alpha, surface)
        region = alpha > 0.5 if (alpha > 0.5).mean() > 0.05 else region
    else:
        image = surface
    for _ in range(rng.choice(5, p=(0.12, 0.25, 0.28, 0.2, 0.15))):
        which = int(rng.integers(len(FAMILIES)))
        image, mask = _add_defect(image, region, background, which, rng, drawing)
        labels[mask] = which
    if rng.random() < 0.5:
        image = nuisance(image, rng)
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


def _add_defect(image: Array, region: Mask, background: Array, which: int, rng: Rng, drawing: Drawing) -> tuple[Array, Mask]:
    """Draw one defect; again (at most 5 times) if it changes the colour channel that changes most by less than 8% on
    average over its own pixels, or has less than 0.05% of the image."""
    name, family = list(FAMILIES.items())[which]

    def attempt() -> Array:
        if drawing == "disjoint":
            return disjoint.FAMILIES[name](image, region, rng, background)
        look = family.look(rng)
        if family.primitive in (defects.chip, defects.absent):
            look["background"] = background
        return family.primitive(image, region, rng, **look)

    for _ in range(5):
        changed = np.clip(attempt(), 0, 1)
        difference = np.abs(changed - image).max(-1)
        mask = difference > 0.03
        if mask.any() and difference[mask].mean() > 0.08 and mask.mean() > 0.0005:
            return changed, mask
    return image, np.zeros_like(region)
