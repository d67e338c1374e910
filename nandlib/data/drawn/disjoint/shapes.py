"""Defects with a shape of their own: lines, openings, pieces that are gone, bent or out of place."""

from __future__ import annotations

import cv2
import numpy as np
from scipy import interpolate

from nandlib.data.drawn.disjoint import brush
from nandlib.data.drawn.disjoint.brush import Field, Image, Region, Rng


def scratch(image: Image, region: Region, rng: Rng, behind: Image) -> Image:
    """Something sharp was drawn over it: near-parallel fine lines whose pressure swells and dies away."""
    at, heading, length = brush.spot(region, rng), rng.uniform(0, 2 * np.pi), rng.uniform(25, 150)
    tone, swing = brush.tone(rng, 0.5), rng.uniform(0, 0.02)
    for _ in range(rng.integers(1, 5)):
        line = brush.line(at + rng.normal(0, 7, 2), heading + rng.normal(0, 0.08), length * rng.uniform(0.5, 1), rng.normal(0, swing, 30))
        x, y = brush.grid(len(image))
        reach = np.hypot(x - line.mean(0)[0], y - line.mean(0)[1]) / (length / 2)
        pressure = np.clip(1.15 - reach**2, 0, 1)
        image = brush.mix(image, brush.edge(rng.uniform(0.4, 1.3) * pressure - brush.distance(len(image), line)) * pressure * region, tone)
    return image


def crack(image: Image, region: Region, rng: Rng, behind: Image) -> Image:
    """It broke without falling apart: a line of ever smaller kinks that forks, widest in its middle."""

    def kinked(start: Field, end: Field, level: int) -> list[Field]:
        if level == 0:
            return [start]
        span = end - start
        middle = (start + end) / 2 + np.array([-span[1], span[0]]) * rng.normal(0, 0.16)
        return kinked(start, middle, level - 1) + kinked(middle, end, level - 1)

    at, turn, half = brush.spot(region, rng), rng.uniform(0, 2 * np.pi), rng.uniform(20, 90)
    reach, tone, wide = half * np.array([np.cos(turn), np.sin(turn)]), brush.tone(rng, 0.85), rng.uniform(0.5, 1.8)
    trunk = np.array([*kinked(at - reach, at + reach, 5), at + reach])
    alpha = brush.edge(wide - brush.distance(len(image), trunk))
    for _ in range(rng.integers(0, 4)):
        root, fork = trunk[rng.integers(4, 28)], turn + rng.choice([-1, 1]) * rng.uniform(0.4, 1.2)
        tip = root + half * rng.uniform(0.3, 0.8) * np.array([np.cos(fork), np.sin(fork)])
        alpha = np.maximum(alpha, brush.edge(0.7 * wide - brush.distance(len(image), np.array([*kinked(root, tip, 4), tip]))))
    return brush.mix(image, 0.92 * alpha * region, tone)


def cut(image: Image, region: Region, rng: Rng, behind: Image) -> Image:
    """A blade went in: a straight lens with pointed ends, one side of which is lit."""
    (x, y), at, turn = brush.grid(len(image)), brush.spot(region, rng), rng.uniform(0, np.pi)
    along = ((x - at[0]) * np.cos(turn) + (y - at[1]) * np.sin(turn)) / rng.uniform(10, 48)
    across = ((y - at[1]) * np.cos(turn) - (x - at[0]) * np.sin(turn)) / rng.uniform(1.5, 6)
    lens = 1 - along**2 - np.abs(across)
    image = np.clip(image + (rng.uniform(0.1, 0.4) * brush.edge(lens + 0.7, 0.6) * (across > 0) * region)[..., None], 0, 1)
    return brush.mix(image, brush.edge(3 * lens) * region, brush.tone(rng, 0.8))


def tear(image: Image, region: Region, rng: Rng, behind: Image) -> Image:
    """Pulled apart: a gap that opens from one end, with ragged lips, what lies beneath showing."""
    at, turn, length = brush.spot(region, rng), rng.uniform(0, 2 * np.pi), rng.uniform(30, 110)
    line = brush.line(at, turn, length, rng.normal(0, 0.08, 40))
    x, y = brush.grid(len(image))
    open_ = np.clip(((x - line[-1, 0]) * np.cos(turn) + (y - line[-1, 1]) * np.sin(turn)) / -length, 0, 1)
    gap = rng.uniform(4, 13) * open_ * (1 + 0.35 * brush.field(rng, len(image), 0.9)) - brush.distance(len(image), line)
    image = np.clip(image + (0.4 * brush.edge(gap + 2.5, 3) * (1 - brush.edge(gap)) * (open_ > 0) * region)[..., None], 0, 1)
    return brush.mix(
        image, brush.edge(gap) * (open_ > 0) * region, behind * rng.uniform(0.15, 0.8) if rng.random() < 0.4 else brush.tone(rng, 0.85)
    )


def thread(image: Image, region: Region, rng: Rng, behind: Image) -> Image:
    """A strand lies on it: a smooth loop of twisted yarn, brighter on one side, its shadow beneath."""
    at, n = brush.spot(region, rng), int(rng.integers(4, 7))
    knots = at + np.cumsum(rng.normal(rng.uniform(-14, 14, 2), rng.uniform(18, 36), (n, 2)), 0)
    spline, _ = interpolate.splprep(knots.T, s=0, k=3)
    line = np.stack(interpolate.splev(np.linspace(0, 1, 160), spline), 1)
    wide, tone = rng.uniform(0.9, 2.6), brush.hue(rng) if rng.random() < 0.5 else brush.tone(rng, 0.3)
    image = image * (1 - 0.45 * (brush.edge(1.2 * wide - brush.distance(len(image), line + 2), 2) * region)[..., None])
    distance, (x, y) = brush.distance(len(image), line), brush.grid(len(image))
    twist = 0.82 + 0.18 * np.sin((x + y) * rng.uniform(0.6, 1.4))
    return brush.mix(image, brush.edge(wide - distance) * region, np.clip(tone * (twist * (1.1 - 0.3 * distance / wide))[..., None], 0, 1))


def bent(image: Image, region: Region, rng: Rng, behind: Image) -> Image:
    """Pushed out of its shape: everything around a place is shifted, and the surface tilts to the light."""
    (x, y), at, width = brush.grid(len(image)), brush.spot(region, rng), rng.uniform(14, 42)
    push = np.exp(-(((x - at[0]) ** 2 + (y - at[1]) ** 2) / (2 * width**2)))
    turn, far = rng.uniform(0, 2 * np.pi), rng.uniform(0.35, 0.8) * width
    moved = brush.moved(image, far * np.cos(turn) * push, far * np.sin(turn) * push)
    lit = moved * (1 + 0.9 * brush.relief(far * push, rng))[..., None]
    return np.where((push > 0.02)[..., None], np.clip(lit, 0, 1), image)


def broken(image: Image, region: Region, rng: Rng, behind: Image) -> Image:
    """A piece is gone: a bite with straight facets, taken where the part ends if it ends anywhere."""
    inner = cv2.distanceTransform(region.astype(np.uint8), cv2.DIST_L2, 5)
    rim = region & (inner < 6)
    at = brush.spot(rim if rim.any() else region, rng)
    (x, y), bite = brush.grid(len(image)), np.full((len(image),) * 2, np.inf)
    for turn in np.cumsum(rng.uniform(0.5, 1.5, 7)):
        facet = rng.uniform(9, 34) - (x - at[0]) * np.cos(turn) - (y - at[1]) * np.sin(turn)
        bite = np.minimum(bite, facet)
    image = np.clip(image + (0.45 * brush.edge(bite + 3, 2) * (1 - brush.edge(bite)) * region)[..., None], 0, 1)
    return brush.mix(image, brush.edge(bite) * region, behind)


def imprint(image: Image, region: Region, rng: Rng, behind: Image) -> Image:
    """Signs where none belong: a row of small figures made of bars, stamped askew."""
    (x, y), at, turn = brush.grid(len(image)), brush.spot(region, rng), rng.normal(0, 0.5)
    along, across = (x - at[0]) * np.cos(turn) + (y - at[1]) * np.sin(turn), (y - at[1]) * np.cos(turn) - (x - at[0]) * np.sin(turn)
    high, count, thick = rng.uniform(7, 24), int(rng.integers(1, 5)), rng.uniform(0.08, 0.16)
    sign = np.zeros_like(x)
    for k in range(count):
        u, v = (along - (k - count / 2) * 0.75 * high) / high, across / high
        bars = [(np.abs(v - row), np.abs(u) - 0.25) for row in (-0.5, 0, 0.5)]
        bars += [(np.abs(u - column), np.abs(v - half) - 0.25) for column in (-0.25, 0.25) for half in (-0.25, 0.25)]
        shown = rng.random(7) < 0.6
        sign = np.maximum.reduce(
            [sign, *(brush.edge(np.minimum(thick - a, -b) * high) for (a, b), on in zip(bars, shown, strict=True) if on)]
        )
    return brush.mix(image, 0.9 * sign * region, brush.hue(rng) if rng.random() < 0.4 else brush.tone(rng, 0.5))


def fold(image: Image, region: Region, rng: Rng, behind: Image) -> Image:
    """It was creased: a ridge across it, one slope in the light, the other in shade, the pattern pulled towards it."""
    (x, y), at, turn = brush.grid(len(image)), brush.spot(region, rng), rng.uniform(0, np.pi)
    across = (y - at[1]) * np.cos(turn) - (x - at[0]) * np.sin(turn) + 5 * brush.field(rng, len(image), 2.6) * rng.random()
    along = (x - at[0]) * np.cos(turn) + (y - at[1]) * np.sin(turn)
    width = rng.uniform(3, 13)
    ridge = across / width * np.exp(0.5 - (across / width) ** 2 / 2) * np.clip(2 - np.abs(along) / rng.uniform(30, 120), 0, 1)
    pulled = brush.moved(image, width * 0.4 * ridge * -np.sin(turn), width * 0.4 * ridge * np.cos(turn))
    return np.where(region[..., None], np.clip(pulled * (1 + rng.choice([-1, 1]) * rng.uniform(0.25, 0.6) * ridge)[..., None], 0, 1), image)


def metal(image: Image, region: Region, rng: Rng, behind: Image) -> Image:
    """Chips of metal lie on it: angular, each facet a mirror of its own brightness, with a sharp shadow."""
    (x, y), at = brush.grid(len(image)), brush.spot(region, rng)
    for _ in range(rng.integers(1, 5)):
        centre, chip = at + rng.normal(0, 12, 2), np.full((len(image),) * 2, np.inf)
        for turn in np.cumsum(rng.uniform(0.8, 2.0, 5)):
            chip = np.minimum(chip, rng.uniform(2.5, 13) - (x - centre[0]) * np.cos(turn) - (y - centre[1]) * np.sin(turn))
        shadow = np.roll(brush.edge(chip), (3, 2), (0, 1))
        image = image * (1 - 0.5 * (shadow * region)[..., None])
        spin = rng.uniform(0, 2 * np.pi)
        facet = np.where((x - centre[0]) * np.cos(spin) + (y - centre[1]) * np.sin(spin) > 0, *rng.uniform(0.35, 1.0, 2))
        brushed = np.clip(facet + 0.05 * brush.field(rng, len(image), 0.5), 0, 1)[..., None] * np.array([0.96, 0.98, 1.0])
        image = brush.mix(image, brush.edge(chip) * region, brushed)
    return image


def misplaced(image: Image, region: Region, rng: Rng, behind: Image) -> Image:
    """Not where it belongs: what is elsewhere lies here, turned by half, with a gap around it."""
    field, from_ = brush.patch(region, rng, 12, 44, 0.05), rng.uniform(-70, 70, 2)
    other = brush.moved(image, np.full(field.shape, from_[0]), np.full(field.shape, from_[1]))
    other = np.ascontiguousarray(other[::-1] if rng.random() < 0.5 else other[:, ::-1])
    image = image * (1 - 0.6 * (brush.edge(field + 2.5) * region)[..., None])
    return brush.mix(image, brush.edge(field) * region, other)


def missing(image: Image, region: Region, rng: Rng, behind: Image) -> Image:
    """Something that should be there is not: an even place with the border of what is gone."""
    size, radius = len(image), rng.uniform(9, 40)
    (x, y), at, power = brush.grid(size), brush.spot(region, rng), rng.uniform(1.5, 8)
    squarish = (np.abs((x - at[0]) / radius) ** power + np.abs((y - at[1]) / (radius * rng.uniform(0.5, 1))) ** power) ** (1 / power)
    field = radius * (1 - squarish)
    image = brush.mix(image, brush.edge(field) * region, behind)
    return image * (1 - 0.5 * (np.exp(-np.clip(field, 0, None) / 3) * brush.edge(field) * region)[..., None])


def streak(image: Image, region: Region, rng: Rng, behind: Image) -> Image:
    """Wiped over: a broad band of fine parallel trails that thins out."""
    (x, y), at, turn = brush.grid(len(image)), brush.spot(region, rng), rng.uniform(0, np.pi)
    along = ((x - at[0]) * np.cos(turn) + (y - at[1]) * np.sin(turn)) / rng.uniform(25, 80)
    across = (y - at[1]) * np.cos(turn) - (x - at[0]) * np.sin(turn)
    trails = rng.random(400)[(np.clip(across + 200, 0, 398.9)).astype(int)]
    band = brush.edge(rng.uniform(2.5, 11) - np.abs(across), 2) * np.clip(1.2 - along**2, 0, 1)
    return brush.mix(
        image,
        np.clip(band * (0.35 + 0.8 * trails), 0, 1) * region * rng.uniform(0.5, 0.9),
        brush.hue(rng) if rng.random() < 0.4 else brush.tone(rng, 0.5),
    )
