"""Defects drawn from the word alone: training images that share no drawing code with any study.

The honest control of the embedded model. Nothing here, nor what it imports, draws a product or a defect of the embedded data set or of
the validation products; every function was written from what its word says, by other means (distance fields, filtered noise,
displacement) than `nandlib.data.drawn.defects`. A defect takes an image ``(size, size, 3)`` in [0, 1], the pixels where it may lie
``(size, size)`` bool, a generator and the background ``(size, size, 3)``, and returns the changed image; it draws its own looks.
Lengths are in pixels of a 256-pixel image.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import interpolate

Image = NDArray[np.floating]
Field = NDArray[Any]
Region = NDArray[np.bool_]
Rng = np.random.Generator
Draw = Callable[[Image, Region, Rng, Image], Image]


def _field(rng: Rng, size: int, detail: float) -> Field:
    """Noise of a 1/f^`detail` spectrum, about standard normal: the larger, the smoother."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    frequency[0, 0] = 1 / size
    spectrum = np.fft.rfft2(rng.standard_normal((size, size))) / frequency**detail
    spectrum[0, 0] = 0
    wave = np.fft.irfft2(spectrum, (size, size))
    return wave / wave.std()


def _grid(size: int) -> tuple[Field, Field]:
    axis = (np.arange(size) + 0.5) * 256 / size
    return np.broadcast_to(axis, (size, size)), np.broadcast_to(axis[:, None], (size, size))


def _spot(region: Region, rng: Rng) -> Field:
    """A pixel of the region, ``(x, y)``."""
    rows, columns = np.nonzero(region)
    k = rng.integers(len(rows))
    return (np.array([columns[k], rows[k]]) + 0.5) * 256 / len(region)


def _edge(field: Field, soft: float = 1.0) -> Field:
    """A signed distance as an alpha: 1 inside (positive), `soft` pixels from 0 to 1."""
    return np.clip(field / soft + 0.5, 0, 1)


def _patch(region: Region, rng: Rng, low: float, high: float, lumpy: float = 0.35) -> Field:
    """A signed distance of a lumpy, stretched area, positive inside."""
    size = len(region)
    (x, y), at, radius = _grid(size), _spot(region, rng), rng.uniform(low, high)
    angle, stretch = rng.uniform(0, np.pi), np.exp(rng.uniform(-0.5, 0.5))
    along, across = (x - at[0]) * np.cos(angle) + (y - at[1]) * np.sin(angle), (y - at[1]) * np.cos(angle) - (x - at[0]) * np.sin(angle)
    return radius * (1 + lumpy * _field(rng, size, 1.8)) - np.hypot(along / stretch, across * stretch)


def _distance(size: int, line: Field) -> Field:
    """Of every pixel from a polyline ``(n, 2)``."""
    canvas = np.full((size, size), 255, np.uint8)
    cv2.polylines(canvas, [np.round(line * size / 256 * 16 - 8).astype(np.int32)], False, 0, 1, cv2.LINE_8, 4)
    return cv2.distanceTransform(canvas, cv2.DIST_L2, 5) * 256 / size


def _line(at: Field, heading: float, length: float, bend: Field) -> Field:
    """A polyline through `at` whose direction changes by `bend` (radians) at every step."""
    headings = heading + np.cumsum(bend)
    steps = np.stack([np.cos(headings), np.sin(headings)], 1) * length / len(bend)
    line = np.concatenate([np.zeros((1, 2)), np.cumsum(steps, 0)])
    return line - line.mean(0) + at


def _mix(image: Image, alpha: Field, colour: Image | tuple[float, float, float] | float) -> Image:
    return image + alpha[..., None] * (np.asarray(colour, float) - image)


def _tone(rng: Rng, dark: float) -> Image:
    """A grey, dark with that probability, a little coloured."""
    level = 0.25 * rng.beta(1, 2) if rng.random() < dark else 1 - 0.25 * rng.beta(1, 2)
    return np.clip(level + 0.04 * rng.standard_normal(3), 0, 1)


def _hue(rng: Rng) -> Image:
    """A strong colour of any hue."""
    pixel = np.array([[[rng.uniform(0, 360), rng.uniform(0.35, 1), rng.uniform(0.3, 1)]]], np.float32)
    return cast(Image, cv2.cvtColor(pixel, cv2.COLOR_HSV2RGB)[0, 0])


def _moved(image: Image, dx: Field, dy: Field) -> Image:
    """The image with every pixel fetched from ``(x + dx, y + dy)``."""
    size = len(image)
    columns, rows = np.meshgrid(np.arange(size), np.arange(size))
    fetch = [(base + shift * size / 256).astype(np.float32) for base, shift in ((columns, dx), (rows, dy))]
    return cast(Image, cv2.remap(image.astype(np.float32), fetch[0], fetch[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101))


def _relief(height: Field, rng: Rng) -> Field:
    """How much light a relief (heights in pixels) throws back, around 0, from a random side."""
    rows, columns = np.gradient(height)
    rows, columns = rows * len(height) / 256, columns * len(height) / 256
    turn = rng.uniform(0, 2 * np.pi)
    return np.clip(np.cos(turn) * columns + np.sin(turn) * rows, -1, 1)


def scratch(image: Image, region: Region, rng: Rng, behind: Image) -> Image:
    """Something sharp was drawn over it: near-parallel fine lines whose pressure swells and dies away."""
    at, heading, length = _spot(region, rng), rng.uniform(0, 2 * np.pi), rng.uniform(25, 150)
    tone, swing = _tone(rng, 0.5), rng.uniform(0, 0.02)
    for _ in range(rng.integers(1, 5)):
        line = _line(at + rng.normal(0, 7, 2), heading + rng.normal(0, 0.08), length * rng.uniform(0.5, 1), rng.normal(0, swing, 30))
        x, y = _grid(len(image))
        reach = np.hypot(x - line.mean(0)[0], y - line.mean(0)[1]) / (length / 2)
        pressure = np.clip(1.15 - reach**2, 0, 1)
        image = _mix(image, _edge(rng.uniform(0.4, 1.3) * pressure - _distance(len(image), line)) * pressure * region, tone)
    return image


def crack(image: Image, region: Region, rng: Rng, behind: Image) -> Image:
    """It broke without falling apart: a line of ever smaller kinks that forks, widest in its middle."""

    def kinked(start: Field, end: Field, level: int) -> list[Field]:
        if level == 0:
            return [start]
        span = end - start
        middle = (start + end) / 2 + np.array([-span[1], span[0]]) * rng.normal(0, 0.16)
        return kinked(start, middle, level - 1) + kinked(middle, end, level - 1)

    at, turn, half = _spot(region, rng), rng.uniform(0, 2 * np.pi), rng.uniform(20, 90)
    reach, tone, wide = half * np.array([np.cos(turn), np.sin(turn)]), _tone(rng, 0.85), rng.uniform(0.5, 1.8)
    trunk = np.array([*kinked(at - reach, at + reach, 5), at + reach])
    alpha = _edge(wide - _distance(len(image), trunk))
    for _ in range(rng.integers(0, 4)):
        root, fork = trunk[rng.integers(4, 28)], turn + rng.choice([-1, 1]) * rng.uniform(0.4, 1.2)
        tip = root + half * rng.uniform(0.3, 0.8) * np.array([np.cos(fork), np.sin(fork)])
        alpha = np.maximum(alpha, _edge(0.7 * wide - _distance(len(image), np.array([*kinked(root, tip, 4), tip]))))
    return _mix(image, 0.92 * alpha * region, tone)


def hole(image: Image, region: Region, rng: Rng, behind: Image) -> Image:
    """There is nothing there, and it goes deep: dark, darkest under the near edge, a lit far edge."""
    field = _patch(region, rng, 3, 19, rng.uniform(0, 0.12))
    inside, lip = _edge(field), _edge(field + rng.uniform(1, 3.5), 2) * region
    image = image * (1 + 0.5 * rng.random() * (lip * (1 - inside) * np.sign(_relief(field, rng)))[..., None])
    depth = np.clip(0.55 + field / max(field.max(), 1), 0, 1)
    return _mix(np.clip(image, 0, 1), inside * depth * region, behind * 0.25 if rng.random() < 0.2 else _tone(rng, 0.9))


def stain(image: Image, region: Region, rng: Rng, behind: Image) -> Image:
    """Something dirty dried on it: uneven darkening that collects at the border."""
    field = _patch(region, rng, 5, 40, 0.45)
    body, border = _edge(field, 4), np.exp(-((field / rng.uniform(1.5, 4)) ** 2))
    amount = np.clip((0.45 + 0.2 * _field(rng, len(image), 1.3)) * body + rng.uniform(0, 0.4) * border, 0, 1) * region
    return image * (1 - amount[..., None] * (1 - _hue(rng) * 0.35 * rng.random() - 0.1 * rng.random()))


def grease(image: Image, region: Region, rng: Rng, behind: Image) -> Image:
    """A fatty film: yellow-brown, see-through, with a soft shine and runs."""
    field = _patch(region, rng, 8, 36, 0.3)
    film = _edge(field, rng.uniform(3, 9)) * region
    tinge = np.array([0.62, 0.5, 0.26]) * rng.uniform(0.25, 0.9)
    image = image * (1 - film[..., None] * (1 - tinge) * rng.uniform(0.5, 0.95))
    return np.clip(image + (0.35 * film * np.clip(_relief(4 * _field(rng, len(image), 2.2), rng), 0, 1))[..., None], 0, 1)


def color(image: Image, region: Region, rng: Rng, behind: Image) -> Image:
    """The colour is wrong here and nothing else: light and shade stay, the hue is another."""
    cover = _edge(_patch(region, rng, 8, 40, 0.25), rng.uniform(1, 8)) * region * rng.uniform(0.5, 0.95)
    return _mix(image, cover, np.clip(1.25 * image.mean(-1, keepdims=True) * _hue(rng) + 0.12, 0, 1))


def fading(image: Image, region: Region, rng: Rng, behind: Image) -> Image:
    """Bleached: colour and contrast are lost."""
    cover = _edge(_patch(region, rng, 10, 44, 0.3), rng.uniform(5, 14)) * region * rng.uniform(0.45, 0.85)
    return _mix(image, cover, 0.88 + 0.1 * (image.mean(-1, keepdims=True) - 0.5))


def cut(image: Image, region: Region, rng: Rng, behind: Image) -> Image:
    """A blade went in: a straight lens with pointed ends, one side of which is lit."""
    (x, y), at, turn = _grid(len(image)), _spot(region, rng), rng.uniform(0, np.pi)
    along = ((x - at[0]) * np.cos(turn) + (y - at[1]) * np.sin(turn)) / rng.uniform(10, 48)
    across = ((y - at[1]) * np.cos(turn) - (x - at[0]) * np.sin(turn)) / rng.uniform(1.5, 6)
    lens = 1 - along**2 - np.abs(across)
    image = np.clip(image + (rng.uniform(0.1, 0.4) * _edge(lens + 0.7, 0.6) * (across > 0) * region)[..., None], 0, 1)
    return _mix(image, _edge(3 * lens) * region, _tone(rng, 0.8))


def tear(image: Image, region: Region, rng: Rng, behind: Image) -> Image:
    """Pulled apart: a gap that opens from one end, with ragged lips, what lies beneath showing."""
    at, turn, length = _spot(region, rng), rng.uniform(0, 2 * np.pi), rng.uniform(30, 110)
    line = _line(at, turn, length, rng.normal(0, 0.08, 40))
    x, y = _grid(len(image))
    open_ = np.clip(((x - line[-1, 0]) * np.cos(turn) + (y - line[-1, 1]) * np.sin(turn)) / -length, 0, 1)
    gap = rng.uniform(4, 13) * open_ * (1 + 0.35 * _field(rng, len(image), 0.9)) - _distance(len(image), line)
    image = np.clip(image + (0.4 * _edge(gap + 2.5, 3) * (1 - _edge(gap)) * (open_ > 0) * region)[..., None], 0, 1)
    return _mix(image, _edge(gap) * (open_ > 0) * region, behind * rng.uniform(0.15, 0.8) if rng.random() < 0.4 else _tone(rng, 0.85))


def thread(image: Image, region: Region, rng: Rng, behind: Image) -> Image:
    """A strand lies on it: a smooth loop of twisted yarn, brighter on one side, its shadow beneath."""
    at, n = _spot(region, rng), int(rng.integers(4, 7))
    knots = at + np.cumsum(rng.normal(rng.uniform(-14, 14, 2), rng.uniform(18, 36), (n, 2)), 0)
    spline, _ = interpolate.splprep(knots.T, s=0, k=3)
    line = np.stack(interpolate.splev(np.linspace(0, 1, 160), spline), 1)
    wide, tone = rng.uniform(0.9, 2.6), _hue(rng) if rng.random() < 0.5 else _tone(rng, 0.3)
    image = image * (1 - 0.45 * (_edge(1.2 * wide - _distance(len(image), line + 2), 2) * region)[..., None])
    distance, (x, y) = _distance(len(image), line), _grid(len(image))
    twist = 0.82 + 0.18 * np.sin((x + y) * rng.uniform(0.6, 1.4))
    return _mix(image, _edge(wide - distance) * region, np.clip(tone * (twist * (1.1 - 0.3 * distance / wide))[..., None], 0, 1))


def bent(image: Image, region: Region, rng: Rng, behind: Image) -> Image:
    """Pushed out of its shape: everything around a place is shifted, and the surface tilts to the light."""
    (x, y), at, width = _grid(len(image)), _spot(region, rng), rng.uniform(14, 42)
    push = np.exp(-(((x - at[0]) ** 2 + (y - at[1]) ** 2) / (2 * width**2)))
    turn, far = rng.uniform(0, 2 * np.pi), rng.uniform(0.35, 0.8) * width
    moved = _moved(image, far * np.cos(turn) * push, far * np.sin(turn) * push)
    lit = moved * (1 + 0.9 * _relief(far * push, rng))[..., None]
    return np.where((push > 0.02)[..., None], np.clip(lit, 0, 1), image)


def broken(image: Image, region: Region, rng: Rng, behind: Image) -> Image:
    """A piece is gone: a bite with straight facets, taken where the part ends if it ends anywhere."""
    inner = cv2.distanceTransform(region.astype(np.uint8), cv2.DIST_L2, 5)
    rim = region & (inner < 6)
    at = _spot(rim if rim.any() else region, rng)
    (x, y), bite = _grid(len(image)), np.full((len(image),) * 2, np.inf)
    for turn in np.cumsum(rng.uniform(0.5, 1.5, 7)):
        facet = rng.uniform(9, 34) - (x - at[0]) * np.cos(turn) - (y - at[1]) * np.sin(turn)
        bite = np.minimum(bite, facet)
    image = np.clip(image + (0.45 * _edge(bite + 3, 2) * (1 - _edge(bite)) * region)[..., None], 0, 1)
    return _mix(image, _edge(bite) * region, behind)


def imprint(image: Image, region: Region, rng: Rng, behind: Image) -> Image:
    """Signs where none belong: a row of small figures made of bars, stamped askew."""
    (x, y), at, turn = _grid(len(image)), _spot(region, rng), rng.normal(0, 0.5)
    along, across = (x - at[0]) * np.cos(turn) + (y - at[1]) * np.sin(turn), (y - at[1]) * np.cos(turn) - (x - at[0]) * np.sin(turn)
    high, count, thick = rng.uniform(7, 24), int(rng.integers(1, 5)), rng.uniform(0.08, 0.16)
    sign = np.zeros_like(x)
    for k in range(count):
        u, v = (along - (k - count / 2) * 0.75 * high) / high, across / high
        bars = [(np.abs(v - row), np.abs(u) - 0.25) for row in (-0.5, 0, 0.5)]
        bars += [(np.abs(u - column), np.abs(v - half) - 0.25) for column in (-0.25, 0.25) for half in (-0.25, 0.25)]
        shown = rng.random(7) < 0.6
        sign = np.maximum.reduce([sign, *(_edge(np.minimum(thick - a, -b) * high) for (a, b), on in zip(bars, shown, strict=True) if on)])
    return _mix(image, 0.9 * sign * region, _hue(rng) if rng.random() < 0.4 else _tone(rng, 0.5))


def glue(image: Image, region: Region, rng: Rng, behind: Image) -> Image:
    """A bead that set: whitish or amber, half clear, domed, with a hard highlight."""
    field = _patch(region, rng, 8, 34, 0.3)
    body, dome = _edge(field) * region, np.sqrt(np.clip(field, 0, None)) * rng.uniform(1.5, 4)
    image = _mix(image, body * rng.uniform(0.3, 0.65), np.array([0.93, 0.9, 0.8]) * rng.uniform(0.7, 1.05) * _hue(rng) ** 0.15)
    light = _relief(dome, rng)
    return np.clip(image + (body * (0.25 * light + 0.8 * np.clip(light - 0.55, 0, 1)))[..., None], 0, 1)


def fold(image: Image, region: Region, rng: Rng, behind: Image) -> Image:
    """It was creased: a ridge across it, one slope in the light, the other in shade, the pattern pulled towards it."""
    (x, y), at, turn = _grid(len(image)), _spot(region, rng), rng.uniform(0, np.pi)
    across = (y - at[1]) * np.cos(turn) - (x - at[0]) * np.sin(turn) + 5 * _field(rng, len(image), 2.6) * rng.random()
    along = (x - at[0]) * np.cos(turn) + (y - at[1]) * np.sin(turn)
    width = rng.uniform(3, 13)
    ridge = across / width * np.exp(0.5 - (across / width) ** 2 / 2) * np.clip(2 - np.abs(along) / rng.uniform(30, 120), 0, 1)
    pulled = _moved(image, width * 0.4 * ridge * -np.sin(turn), width * 0.4 * ridge * np.cos(turn))
    return np.where(region[..., None], np.clip(pulled * (1 + rng.choice([-1, 1]) * rng.uniform(0.25, 0.6) * ridge)[..., None], 0, 1), image)


def rough(image: Image, region: Region, rng: Rng, behind: Image) -> Image:
    """Rubbed raw: a scaly, fibrous grain that a smooth finish does not have."""
    cover = np.clip(_edge(_patch(region, rng, 9, 42, 0.4), 6) * 1.3 - 0.3 * np.abs(_field(rng, len(image), 0.8)), 0, 1) * region
    grain = _relief(2 * _field(rng, len(image), rng.uniform(0.6, 1.2)), rng)
    image = _mix(image, cover * rng.uniform(0, 0.4), _tone(rng, 0.2))
    return np.clip(image + (cover * grain * rng.uniform(0.15, 0.45))[..., None], 0, 1)


def metal(image: Image, region: Region, rng: Rng, behind: Image) -> Image:
    """Chips of metal lie on it: angular, each facet a mirror of its own brightness, with a sharp shadow."""
    (x, y), at = _grid(len(image)), _spot(region, rng)
    for _ in range(rng.integers(1, 5)):
        centre, chip = at + rng.normal(0, 12, 2), np.full((len(image),) * 2, np.inf)
        for turn in np.cumsum(rng.uniform(0.8, 2.0, 5)):
            chip = np.minimum(chip, rng.uniform(2.5, 13) - (x - centre[0]) * np.cos(turn) - (y - centre[1]) * np.sin(turn))
        shadow = np.roll(_edge(chip), (3, 2), (0, 1))
        image = image * (1 - 0.5 * (shadow * region)[..., None])
        spin = rng.uniform(0, 2 * np.pi)
        facet = np.where((x - centre[0]) * np.cos(spin) + (y - centre[1]) * np.sin(spin) > 0, *rng.uniform(0.35, 1.0, 2))
        brushed = np.clip(facet + 0.05 * _field(rng, len(image), 0.5), 0, 1)[..., None] * np.array([0.96, 0.98, 1.0])
        image = _mix(image, _edge(chip) * region, brushed)
    return image


def uneven(image: Image, region: Region, rng: Rng, behind: Image) -> Image:
    """Lighter here, darker there, without a border anywhere."""
    blotch = _edge(_patch(region, rng, 14, 56, 0.3), rng.uniform(14, 30)) * region
    return np.clip(image * (1 + rng.choice([-1, 1]) * rng.uniform(0.25, 0.6) * blotch)[..., None], 0, 1)


def misplaced(image: Image, region: Region, rng: Rng, behind: Image) -> Image:
    """Not where it belongs: what is elsewhere lies here, turned by half, with a gap around it."""
    field, from_ = _patch(region, rng, 12, 44, 0.05), rng.uniform(-70, 70, 2)
    other = _moved(image, np.full(field.shape, from_[0]), np.full(field.shape, from_[1]))
    other = np.ascontiguousarray(other[::-1] if rng.random() < 0.5 else other[:, ::-1])
    image = image * (1 - 0.6 * (_edge(field + 2.5) * region)[..., None])
    return _mix(image, _edge(field) * region, other)


def missing(image: Image, region: Region, rng: Rng, behind: Image) -> Image:
    """Something that should be there is not: an even place with the border of what is gone."""
    size, radius = len(image), rng.uniform(9, 40)
    (x, y), at, power = _grid(size), _spot(region, rng), rng.uniform(1.5, 8)
    squarish = (np.abs((x - at[0]) / radius) ** power + np.abs((y - at[1]) / (radius * rng.uniform(0.5, 1))) ** power) ** (1 / power)
    field = radius * (1 - squarish)
    image = _mix(image, _edge(field) * region, behind)
    return image * (1 - 0.5 * (np.exp(-np.clip(field, 0, None) / 3) * _edge(field) * region)[..., None])


def corrosion(image: Image, region: Region, rng: Rng, behind: Image) -> Image:
    """Eaten by rust: flakes of several browns, densest in the middle, crumbling outwards."""
    field = _patch(region, rng, 9, 38, 0.4)
    flakes = _edge(_field(rng, len(image), 1.1) + field / 9, 0.8) * _edge(field + 6, 4) * region
    hue = np.array([0.56, 0.3, 0.12]) if rng.random() < 0.75 else np.array([0.25, 0.5, 0.4])
    return _mix(image, flakes * rng.uniform(0.6, 0.95), np.clip(hue * (0.85 + 0.35 * _field(rng, len(image), 0.8))[..., None], 0, 1))


def burn(image: Image, region: Region, rng: Rng, behind: Image) -> Image:
    """Scorched: charred inside, a brown margin that fades."""
    field = _patch(region, rng, 5, 26, 0.25)
    toast, char = _edge(field + 8, 18) * region, _edge(field, 4) * region * rng.uniform(0.7, 1)
    return _mix(image * (1 - toast[..., None] * np.array([0.4, 0.58, 0.75])), char, 0.05 + 0.02 * rng.random())


def blister(image: Image, region: Region, rng: Rng, behind: Image) -> Image:
    """Bubbles under the surface: round domes, lit on one side, dark on the other, with a glint."""
    (x, y), at, height = _grid(len(image)), _spot(region, rng), np.zeros((len(image),) * 2)
    for _ in range(rng.integers(1, 8)):
        radius, centre = rng.uniform(3, 16), at + rng.normal(0, 18, 2)
        height = np.maximum(height, np.sqrt(np.clip(radius**2 - (x - centre[0]) ** 2 - (y - centre[1]) ** 2, 0, None)))
    light = _relief(0.8 * height, rng) * region
    return np.clip(image * (1 + 0.55 * light)[..., None] + (0.9 * np.clip(light - 0.65, 0, 1))[..., None], 0, 1)


def dust(image: Image, region: Region, rng: Rng, behind: Image) -> Image:
    """Fine specks, many of them, as if strewn."""
    where, size = _patch(region, rng, 14, 44, 0.3), len(image)
    specks = rng.random((size, size)) < rng.uniform(0.01, 0.06) * _edge(where, 16) * region
    spread = cv2.GaussianBlur(specks.astype(np.float32), (0, 0), rng.uniform(0.5, 0.9) * size / 256)
    return _mix(image, np.clip(spread * 4, 0, 1), _tone(rng, 0.35))


def liquid(image: Image, region: Region, rng: Rng, behind: Image) -> Image:
    """A puddle: what is under it looks darker and nearer, its border shines."""
    field = _patch(region, rng, 9, 42, 0.3)
    body, swell = _edge(field) * region, np.clip(field, 0, 12)
    rows, columns = np.gradient(cv2.GaussianBlur(swell, (0, 0), 3))
    seen = _moved(image, -3 * columns, -3 * rows) ** rng.uniform(1.2, 2) * rng.uniform(0.65, 0.95)
    light = _relief(cv2.GaussianBlur(swell, (0, 0), 2), rng)
    return np.clip(_mix(image, body, seen) + (0.7 * body * np.clip(light - 0.35, 0, 1))[..., None], 0, 1)


def streak(image: Image, region: Region, rng: Rng, behind: Image) -> Image:
    """Wiped over: a broad band of fine parallel trails that thins out."""
    (x, y), at, turn = _grid(len(image)), _spot(region, rng), rng.uniform(0, np.pi)
    along = ((x - at[0]) * np.cos(turn) + (y - at[1]) * np.sin(turn)) / rng.uniform(25, 80)
    across = (y - at[1]) * np.cos(turn) - (x - at[0]) * np.sin(turn)
    trails = rng.random(400)[(np.clip(across + 200, 0, 398.9)).astype(int)]
    band = _edge(rng.uniform(2.5, 11) - np.abs(across), 2) * np.clip(1.2 - along**2, 0, 1)
    return _mix(
        image,
        np.clip(band * (0.35 + 0.8 * trails), 0, 1) * region * rng.uniform(0.5, 0.9),
        _hue(rng) if rng.random() < 0.4 else _tone(rng, 0.5),
    )


def dent(image: Image, region: Region, rng: Rng, behind: Image) -> Image:
    """Knocked in: a shallow bowl, in shade on the side of the light."""
    bowl: Field = -rng.uniform(6, 14) * np.tanh(np.clip(_patch(region, rng, 7, 34, 0.12), 0, None) / rng.uniform(5, 12))
    light = _relief(np.asarray(cv2.GaussianBlur(bowl, (0, 0), 2)), rng)
    return np.clip(image * (1 + rng.uniform(0.4, 0.8) * light * region + 0.015 * bowl * region)[..., None], 0, 1)


FAMILIES: dict[str, Draw] = {
    "scratch": scratch, "crack": crack, "hole": hole, "stain": stain, "color": color, "cut": cut, "thread": thread, "bent": bent,
    "broken": broken, "print": imprint, "glue": glue, "fold": fold, "rough": rough, "metal": metal, "uneven": uneven,
    "misplaced": misplaced, "missing": missing, "corrosion": corrosion, "burn": burn, "blister": blister, "dust": dust, "liquid": liquid,
    "streak": streak, "tear": tear, "dent": dent, "fading": fading, "grease": grease,
}  # fmt: skip
