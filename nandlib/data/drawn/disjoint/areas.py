"""Defects that are a changed area of the surface."""

from __future__ import annotations

import cv2
import numpy as np

from nandlib.data.drawn.disjoint import brush
from nandlib.data.drawn.disjoint.brush import Field, Image, Region, Rng


def hole(image: Image, region: Region, rng: Rng, behind: Image) -> Image:
    """There is nothing there, and it goes deep: dark, darkest under the near edge, a lit far edge."""
    field = brush.patch(region, rng, 3, 19, rng.uniform(0, 0.12))
    inside, lip = brush.edge(field), brush.edge(field + rng.uniform(1, 3.5), 2) * region
    image = image * (1 + 0.5 * rng.random() * (lip * (1 - inside) * np.sign(brush.relief(field, rng)))[..., None])
    depth = np.clip(0.55 + field / max(field.max(), 1), 0, 1)
    return brush.mix(np.clip(image, 0, 1), inside * depth * region, behind * 0.25 if rng.random() < 0.2 else brush.tone(rng, 0.9))


def stain(image: Image, region: Region, rng: Rng, behind: Image) -> Image:
    """Something dirty dried on it: uneven darkening that collects at the border."""
    field = brush.patch(region, rng, 5, 40, 0.45)
    body, border = brush.edge(field, 4), np.exp(-((field / rng.uniform(1.5, 4)) ** 2))
    amount = np.clip((0.45 + 0.2 * brush.field(rng, len(image), 1.3)) * body + rng.uniform(0, 0.4) * border, 0, 1) * region
    return image * (1 - amount[..., None] * (1 - brush.hue(rng) * 0.35 * rng.random() - 0.1 * rng.random()))


def grease(image: Image, region: Region, rng: Rng, behind: Image) -> Image:
    """A fatty film: yellow-brown, see-through, with a soft shine and runs."""
    field = brush.patch(region, rng, 8, 36, 0.3)
    film = brush.edge(field, rng.uniform(3, 9)) * region
    tinge = np.array([0.62, 0.5, 0.26]) * rng.uniform(0.25, 0.9)
    image = image * (1 - film[..., None] * (1 - tinge) * rng.uniform(0.5, 0.95))
    return np.clip(image + (0.35 * film * np.clip(brush.relief(4 * brush.field(rng, len(image), 2.2), rng), 0, 1))[..., None], 0, 1)


def color(image: Image, region: Region, rng: Rng, behind: Image) -> Image:
    """The colour is wrong here and nothing else: light and shade stay, the hue is another."""
    cover = brush.edge(brush.patch(region, rng, 8, 40, 0.25), rng.uniform(1, 8)) * region * rng.uniform(0.5, 0.95)
    return brush.mix(image, cover, np.clip(1.25 * image.mean(-1, keepdims=True) * brush.hue(rng) + 0.12, 0, 1))


def fading(image: Image, region: Region, rng: Rng, behind: Image) -> Image:
    """Bleached: colour and contrast are lost."""
    cover = brush.edge(brush.patch(region, rng, 10, 44, 0.3), rng.uniform(5, 14)) * region * rng.uniform(0.45, 0.85)
    return brush.mix(image, cover, 0.88 + 0.1 * (image.mean(-1, keepdims=True) - 0.5))


def glue(image: Image, region: Region, rng: Rng, behind: Image) -> Image:
    """A bead that set: whitish or amber, half clear, domed, with a hard highlight."""
    field = brush.patch(region, rng, 8, 34, 0.3)
    body, dome = brush.edge(field) * region, np.sqrt(np.clip(field, 0, None)) * rng.uniform(1.5, 4)
    image = brush.mix(image, body * rng.uniform(0.3, 0.65), np.array([0.93, 0.9, 0.8]) * rng.uniform(0.7, 1.05) * brush.hue(rng) ** 0.15)
    light = brush.relief(dome, rng)
    return np.clip(image + (body * (0.25 * light + 0.8 * np.clip(light - 0.55, 0, 1)))[..., None], 0, 1)


def rough(image: Image, region: Region, rng: Rng, behind: Image) -> Image:
    """Rubbed raw: a scaly, fibrous grain that a smooth finish does not have."""
    cover = (
        np.clip(brush.edge(brush.patch(region, rng, 9, 42, 0.4), 6) * 1.3 - 0.3 * np.abs(brush.field(rng, len(image), 0.8)), 0, 1) * region
    )
    grain = brush.relief(2 * brush.field(rng, len(image), rng.uniform(0.6, 1.2)), rng)
    image = brush.mix(image, cover * rng.uniform(0, 0.4), brush.tone(rng, 0.2))
    return np.clip(image + (cover * grain * rng.uniform(0.15, 0.45))[..., None], 0, 1)


def uneven(image: Image, region: Region, rng: Rng, behind: Image) -> Image:
    """Lighter here, darker there, without a border anywhere."""
    blotch = brush.edge(brush.patch(region, rng, 14, 56, 0.3), rng.uniform(14, 30)) * region
    return np.clip(image * (1 + rng.choice([-1, 1]) * rng.uniform(0.25, 0.6) * blotch)[..., None], 0, 1)


def corrosion(image: Image, region: Region, rng: Rng, behind: Image) -> Image:
    """Eaten by rust: flakes of several browns, densest in the middle, crumbling outwards."""
    field = brush.patch(region, rng, 9, 38, 0.4)
    flakes = brush.edge(brush.field(rng, len(image), 1.1) + field / 9, 0.8) * brush.edge(field + 6, 4) * region
    hue = np.array([0.56, 0.3, 0.12]) if rng.random() < 0.75 else np.array([0.25, 0.5, 0.4])
    return brush.mix(
        image, flakes * rng.uniform(0.6, 0.95), np.clip(hue * (0.85 + 0.35 * brush.field(rng, len(image), 0.8))[..., None], 0, 1)
    )


def burn(image: Image, region: Region, rng: Rng, behind: Image) -> Image:
    """Scorched: charred inside, a brown margin that fades."""
    field = brush.patch(region, rng, 5, 26, 0.25)
    toast, char = brush.edge(field + 8, 18) * region, brush.edge(field, 4) * region * rng.uniform(0.7, 1)
    return brush.mix(image * (1 - toast[..., None] * np.array([0.4, 0.58, 0.75])), char, 0.05 + 0.02 * rng.random())


def blister(image: Image, region: Region, rng: Rng, behind: Image) -> Image:
    """Bubbles under the surface: round domes, lit on one side, dark on the other, with a glint."""
    (x, y), at, height = brush.grid(len(image)), brush.spot(region, rng), np.zeros((len(image),) * 2)
    for _ in range(rng.integers(1, 8)):
        radius, centre = rng.uniform(3, 16), at + rng.normal(0, 18, 2)
        height = np.maximum(height, np.sqrt(np.clip(radius**2 - (x - centre[0]) ** 2 - (y - centre[1]) ** 2, 0, None)))
    light = brush.relief(0.8 * height, rng) * region
    return np.clip(image * (1 + 0.55 * light)[..., None] + (0.9 * np.clip(light - 0.65, 0, 1))[..., None], 0, 1)


def dust(image: Image, region: Region, rng: Rng, behind: Image) -> Image:
    """Fine specks, many of them, as if strewn."""
    where, size = brush.patch(region, rng, 14, 44, 0.3), len(image)
    specks = rng.random((size, size)) < rng.uniform(0.01, 0.06) * brush.edge(where, 16) * region
    spread = cv2.GaussianBlur(specks.astype(np.float32), (0, 0), rng.uniform(0.5, 0.9) * size / 256)
    return brush.mix(image, np.clip(spread * 4, 0, 1), brush.tone(rng, 0.35))


def liquid(image: Image, region: Region, rng: Rng, behind: Image) -> Image:
    """A puddle: what is under it looks darker and nearer, its border shines."""
    field = brush.patch(region, rng, 9, 42, 0.3)
    body, swell = brush.edge(field) * region, np.clip(field, 0, 12)
    rows, columns = np.gradient(cv2.GaussianBlur(swell, (0, 0), 3))
    seen = brush.moved(image, -3 * columns, -3 * rows) ** rng.uniform(1.2, 2) * rng.uniform(0.65, 0.95)
    light = brush.relief(cv2.GaussianBlur(swell, (0, 0), 2), rng)
    return np.clip(brush.mix(image, body, seen) + (0.7 * body * np.clip(light - 0.35, 0, 1))[..., None], 0, 1)


def dent(image: Image, region: Region, rng: Rng, behind: Image) -> Image:
    """Knocked in: a shallow bowl, in shade on the side of the light."""
    bowl: Field = -rng.uniform(6, 14) * np.tanh(np.clip(brush.patch(region, rng, 7, 34, 0.12), 0, None) / rng.uniform(5, 12))
    light = brush.relief(np.asarray(cv2.GaussianBlur(bowl, (0, 0), 2)), rng)
    return np.clip(image * (1 + rng.uniform(0.4, 0.8) * light * region + 0.015 * bowl * region)[..., None], 0, 1)
