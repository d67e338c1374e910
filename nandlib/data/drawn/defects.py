"""Defect primitives: each draws one kind of defect on an image, inside a region.

Every primitive has the signature ``(image, region, rng, *, look…) -> image`` and changes nothing but the pixels of
the defect, so that the difference of the two images is the exact mask. Keyword arguments are the look of the defect:
lengths in pixels of a 256-pixel image, colours in RGB [0, 1], strengths in [0, 1]. A pair ``(low, high)`` is a range
to draw from.
"""

from __future__ import annotations

import cv2
import numpy as np

from nandlib.data.drawn.canvas import (
    Array,
    Colour,
    Mask,
    Rng,
    bar_points,
    blend,
    blob_points,
    blur,
    coordinates,
    curve,
    disk,
    grain,
    luminance,
    noise,
    pick_point,
    polygon,
    shade,
    stroke,
    turn,
    unit,
)

Range = tuple[float, float]


def _inside(alpha: Array, region: Mask) -> Array:
    return alpha * region


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
        alpha = _inside(stroke(size, points, rng.uniform(*width)), region) * rng.uniform(*strength)
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
    return blend(image, _inside(alpha, region) * 0.9, colour)


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
    image = image + (_inside(edge, region) * lip)[..., None] * (1 - image)
    return blend(image, _inside(slit, region), colour)


def hole(
    image: Array,
    region: Mask,
    rng: Rng,
    *,
    colour: Colour = (0.04, 0.04, 0.04),
    radius: Range = (7, 13),
    ragged: float = 0.1,
    rim: float = 0.25,
) -> Array:
    """A round, dark pit with a rim that is lit on one side and shaded on the other."""
    size = image.shape[0]
    x, y = pick_point(rng, region, 16)
    r = rng.uniform(*radius)
    outline = blob_points(rng, (0, 0), r, ragged)
    outer = _inside(polygon(size, outline * 1.35 + [x, y]), region)
    gx, gy = coordinates(size)
    side = np.clip((gx - x + gy - y) / r, -1, 1).astype(np.float32)
    image = np.clip(shade(image, 1 + rim * outer * side), 0, 1)
    depth = np.clip(1 - 0.25 * side, 0, 1)
    return blend(image, _inside(polygon(size, outline + [x, y]), region) * depth, colour)


def stain(
    image: Array,
    region: Mask,
    rng: Rng,
    *,
    colour: Colour = (0.22, 0.16, 0.1),
    radius: Range = (14, 30),
    strength: Range = (0.55, 0.8),
    droplets: tuple[int, int] = (2, 7),
    rim: float = 0.3,
) -> Array:
    """An irregular spot that darkens the surface, darker along its dried edge, with droplets around it."""
    size = image.shape[0]
    x, y = pick_point(rng, region, 20)
    r = rng.uniform(*radius)
    alpha = blur(polygon(size, blob_points(rng, (x, y), r, 0.35, rng.uniform(0.7, 1.5))), 1.2)
    edge = np.clip(alpha - blur(alpha, 4), 0, 1) * 2
    for _ in range(rng.integers(droplets[0], droplets[1] + 1)):
        direction, far = rng.uniform(0, 2 * np.pi), r * rng.uniform(1.2, 2.0)
        spot = (x + far * np.cos(direction), y + far * np.sin(direction))
        alpha = np.maximum(alpha, disk(size, spot, r * rng.uniform(0.06, 0.18), 1.5))
    alpha = alpha * rng.uniform(*strength) * (0.75 + 0.25 * noise(rng, size, 20, 2)) + rim * edge
    return blend(image, _inside(np.clip(alpha, 0, 1), region), image * 0.35 + np.asarray(colour, np.float32) * 0.65)


def tint(
    image: Array,
    region: Mask,
    rng: Rng,
    *,
    colour: Colour = (0.75, 0.12, 0.12),
    radius: Range = (16, 34),
    strength: Range = (0.6, 0.85),
    soft: float = 3.0,
) -> Array:
    """A patch of wrong colour: hue is replaced, the surface's own texture shows through."""
    size = image.shape[0]
    centre = pick_point(rng, region, 20)
    outline = blob_points(rng, centre, rng.uniform(*radius), 0.22, rng.uniform(0.6, 1.7))
    alpha = blur(polygon(size, outline), soft) * rng.uniform(*strength)
    light = luminance(image)[..., None]
    coloured = np.clip((0.45 + 0.75 * light) * np.asarray(colour, np.float32), 0, 1)
    return blend(image, _inside(alpha, region), coloured)


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
    image = shade(image, 1 - 0.4 * _inside(shadow, region))
    body = _inside(stroke(size, points, thick), region)
    twist = 0.8 + 0.2 * noise(rng, size, 5, 1)
    image = blend(image, body, np.asarray(colour, np.float32) * 0.75 * twist[..., None])
    return blend(image, _inside(stroke(size, points - [0.4, 0.4], thick * 0.4), region), np.clip(colour, 0, 1))


def metal(
    image: Array,
    region: Mask,
    rng: Rng,
    *,
    colour: Colour = (0.72, 0.74, 0.78),
    radius: Range = (7, 14),
    count: tuple[int, int] = (1, 3),
) -> Array:
    """Shiny chips of metal: sharp polygons with a steep light gradient and a shadow."""
    size = image.shape[0]
    x, y = pick_point(rng, region, 24)
    gx, gy = coordinates(size)
    for _ in range(rng.integers(count[0], count[1] + 1)):
        r = rng.uniform(*radius)
        centre = np.array([x, y]) + rng.normal(0, 14, 2)
        angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(4, 7)))
        corners = np.stack([np.cos(angles) * rng.uniform(1.0, 2.2), np.sin(angles)], 1) * r
        corners = turn(corners, rng.uniform(0, np.pi)) + centre
        image = shade(image, 1 - 0.5 * _inside(blur(polygon(size, corners + [2, 3]), 1.2), region))
        heading = rng.uniform(0, 2 * np.pi)
        slope = ((gx - centre[0]) * np.cos(heading) + (gy - centre[1]) * np.sin(heading)) / r
        gloss = np.clip(0.75 + 0.45 * np.sin(2.2 * slope), 0.25, 1.35)
        chip = np.clip(np.asarray(colour, np.float32) * gloss[..., None], 0, 1)
        image = blend(image, _inside(polygon(size, corners), region), chip)
    return image


def glue(
    image: Array,
    region: Mask,
    rng: Rng,
    *,
    colour: Colour = (0.86, 0.84, 0.74),
    radius: Range = (14, 28),
    strength: Range = (0.45, 0.65),
    aspect: Range = (0.6, 1.8),
) -> Array:
    """A translucent, glossy smear with a bulging edge and specular highlights."""
    size = image.shape[0]
    centre = pick_point(rng, region, 20)
    alpha = polygon(size, blob_points(rng, centre, rng.uniform(*radius), 0.3, rng.uniform(*aspect)))
    alpha = _inside(alpha, region)
    height = blur(alpha, 5)
    slope_y, slope_x = np.gradient(height)
    light = (-slope_x - slope_y) * 14 * unit(size) + 0.35 * (noise(rng, size, 16, 2) - 0.5)
    image = blend(image, alpha * rng.uniform(*strength), colour)
    return np.clip(image + (alpha * np.clip(light, -0.25, 0.6))[..., None], 0, 1)


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
    factor = 1 + power * _inside(light - 1.2 * dark - 0.5 * line, region)
    return np.clip(shade(image, factor), 0, 1)


def rough(
    image: Array,
    region: Mask,
    rng: Rng,
    *,
    radius: Range = (16, 34),
    strength: Range = (0.12, 0.2),
    colour: Colour = (0.6, 0.58, 0.55),
    whiten: float = 0.3,
) -> Array:
    """An abraded, frayed patch: fine irregular relief and a ragged border."""
    size = image.shape[0]
    centre = pick_point(rng, region, 20)
    patch = polygon(size, blob_points(rng, centre, rng.uniform(*radius), 0.3, rng.uniform(0.6, 1.7)))
    patch = _inside(np.clip(blur(patch, 3) * 1.6 - 0.5 * noise(rng, size, 10, 2), 0, 1), region)
    relief = blur(grain(rng, size), 1.2) * 4
    image = blend(image, patch * whiten, colour)
    return np.clip(image + (patch * relief * rng.uniform(*strength))[..., None], 0, 1)


def imprint(
    image: Array,
    region: Mask,
    rng: Rng,
    *,
    colour: Colour = (0.95, 0.95, 0.95),
    texts: tuple[str, ...] = ("A7", "LOT", "K3"),
    scale: Range = (0.9, 1.5),
    strength: float = 0.9,
) -> Array:
    """Printed characters."""
    size = image.shape[0]
    x, y = pick_point(rng, region, 24)
    text = texts[rng.integers(len(texts))]
    font = rng.uniform(*scale) * unit(size)
    layer = np.zeros((size, size), np.uint8)
    face, thick = cv2.FONT_HERSHEY_DUPLEX, max(1, round(2 * unit(size)))
    (wide, high), _ = cv2.getTextSize(text, face, font, thick)
    origin = (round(x * unit(size) - wide / 2), round(y * unit(size) + high / 2))
    cv2.putText(layer, text, origin, face, font, 255, thick, cv2.LINE_AA)
    spin = cv2.getRotationMatrix2D((x * unit(size), y * unit(size)), rng.uniform(-60, 60), 1)
    layer = cv2.warpAffine(layer, spin, (size, size))
    return blend(image, _inside(layer.astype(np.float32) / 255, region) * strength, colour)


def chip(
    image: Array,
    region: Mask,
    rng: Rng,
    *,
    background: Array | Colour = (0.5, 0.5, 0.5),
    radius: Range = (16, 30),
    at: tuple[float, float] | None = None,
) -> Array:
    """A piece broken out: a jagged polygon shows what lies behind, its fracture edge is bright."""
    size = image.shape[0]
    x, y = at if at is not None else pick_point(rng, region, 4)
    r = rng.uniform(*radius)
    angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(7, 12)))
    corners = np.stack([np.cos(angles), np.sin(angles)], 1) * (r * rng.uniform(0.55, 1.15, len(angles)))[:, None]
    rim = _inside(polygon(size, corners * 1.12 + [x, y]), region)
    image = image + (0.45 * rim)[..., None] * (1 - image)
    return blend(image, _inside(polygon(size, corners + [x, y]), region), background)


def warp(image: Array, region: Mask, rng: Rng, *, radius: Range = (28, 50), shift: Range = (8, 16), twist: float = 0.5) -> Array:
    """A local bend: the surface inside a disk is pushed aside and twisted, smoothly towards its edge."""
    size = image.shape[0]
    x, y = pick_point(rng, region, 30)
    r, push = rng.uniform(*radius), rng.uniform(*shift)
    heading, spin = rng.uniform(0, 2 * np.pi), rng.uniform(-twist, twist)
    gx, gy = coordinates(size)
    dx, dy = gx - x, gy - y
    weight = np.clip(1 - np.hypot(dx, dy) / r, 0, 1) ** 1.5
    c, s = np.cos(spin * weight), np.sin(spin * weight)
    from_x = x + c * dx - s * dy - push * np.cos(heading) * weight
    from_y = y + s * dx + c * dy - push * np.sin(heading) * weight
    scale = unit(size)
    moved = cv2.remap(
        np.ascontiguousarray(image),
        (from_x * scale - 0.5).astype(np.float32),
        (from_y * scale - 0.5).astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT,
    )
    return np.where((weight > 0)[..., None], moved, image)


def uneven(image: Array, region: Mask, rng: Rng, *, radius: Range = (26, 50), strength: Range = (0.3, 0.5)) -> Array:
    """A blotch of uneven brightness without any edge of its own."""
    size = image.shape[0]
    centre = pick_point(rng, region, 20)
    patch = blur(polygon(size, blob_points(rng, centre, rng.uniform(*radius), 0.3, rng.uniform(0.5, 2))), 6)
    sign = rng.choice([-1.0, 1.0])
    factor = 1 + sign * rng.uniform(*strength) * _inside(patch, region) * (0.7 + 0.3 * noise(rng, size, 30, 2))
    return np.clip(shade(image, factor), 0, 1)


def displace(image: Array, region: Mask, rng: Rng, *, radius: Range = (20, 36), angle: Range = (0.6, 2.5)) -> Array:
    """A piece out of place: a square patch is turned in itself and leaves a dark gap along its edge."""
    size = image.shape[0]
    x, y = pick_point(rng, region, 30)
    r, spin = rng.uniform(*radius), rng.uniform(*angle)
    scale = unit(size)
    matrix = cv2.getRotationMatrix2D((x * scale, y * scale), np.degrees(spin), 1)
    matrix[:, 2] += rng.normal(0, 6, 2) * scale
    turned = cv2.warpAffine(np.ascontiguousarray(image), matrix, (size, size), borderMode=cv2.BORDER_REFLECT)
    square = turn(np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * r, spin) + [x, y]
    image = shade(image, 1 - 0.6 * _inside(polygon(size, (square - [x, y]) * 1.08 + [x, y]), region))
    return blend(image, _inside(polygon(size, square), region), turned)


def absent(image: Array, region: Mask, rng: Rng, *, background: Array | Colour = (0.5, 0.5, 0.5), radius: Range = (16, 30)) -> Array:
    """A part that is not there: a clean-cut area shows the background and the shadow of its edge."""
    size = image.shape[0]
    x, y = pick_point(rng, region, 24)
    r = rng.uniform(*radius)
    if rng.random() < 0.5:
        area = disk(size, (x, y), r)
    else:
        reach = np.array([np.cos(spin := rng.uniform(0, np.pi)), np.sin(spin)]) * r
        area = polygon(size, bar_points(np.array([x, y]) - reach, np.array([x, y]) + reach, r * rng.uniform(0.6, 1.4)))
    area = _inside(area, region)
    image = blend(image, area, background)
    shadow = np.clip(area - blur(area, 3), 0, 1) * area
    return shade(image, 1 - 0.6 * shadow)
