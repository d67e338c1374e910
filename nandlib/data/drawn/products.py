"""The 15 products: one renderer each, `(rng, size, **fault) -> Scene`.

A renderer draws a good product unless a fault is named; it makes the same random choices either way, so that the
good and the faulty image of one generator state differ in the fault alone. Lengths are those of a 256-pixel image.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from nandlib.data.drawn.canvas import (
    Array,
    Colour,
    Mask,
    Rng,
    bar_points,
    blend,
    blur,
    coordinates,
    disk,
    ellipse_points,
    grain,
    noise,
    paint,
    plain,
    polygon,
    shade,
    stroke,
    turn,
    unit,
)


@dataclass(frozen=True)
class Scene:
    """A drawn product: the image, where the product is, and what is seen where it is not."""

    image: Array
    region: Mask
    background: Array


def backdrop(rng: Rng, size: int, colour: Colour, depth: float = 0.04) -> Array:
    """A table of one colour, slightly cloudy."""
    return shade(plain(size, colour), 1 - depth + 2 * depth * noise(rng, size, 60, 2))


def scene(image: Array, alpha: Array, background: Array) -> Scene:
    """An object, where `alpha` says, before a background."""
    return Scene(np.clip(image, 0, 1).astype(np.float32), alpha > 0.5, background.astype(np.float32))


def texture(image: Array, background: Colour = (0.05, 0.05, 0.05)) -> Scene:
    """A surface that fills the image; `background` shows through where a piece is broken out."""
    return scene(image, np.ones(image.shape[:2], np.float32), plain(image.shape[0], background))


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


def cable(
    rng: Rng,
    size: int,
    swap: bool = False,
    missing_cable: bool = False,
    missing_wire: bool = False,
    bent_wire: bool = False,
) -> Scene:
    """The section of a cable: three insulated conductors of copper strands in a grey sheath."""
    centre, spin = 128 + rng.normal(0, 2, 2), rng.uniform(-0.08, 0.08)
    background = backdrop(rng, size, (0.16, 0.17, 0.19))
    sheath = 0.62 + 0.06 * noise(rng, size, 14, 3)
    image = blend(background, disk(size, centre, 118, 1.5), sheath[..., None] * np.array([1, 1, 1.02]))
    image = blend(image, disk(size, centre, 106, 2), np.array([0.30, 0.30, 0.31]))
    colours = [(0.16, 0.45, 0.22), (0.22, 0.36, 0.66), (0.48, 0.38, 0.32)]
    if swap:
        colours[1] = colours[0]
    faulty, bend, kink = int(rng.integers(3)), rng.uniform(0, 6.28), rng.normal(0, 12, 2)
    for k, colour in enumerate(colours):
        hub = centre + 54 * np.array([np.cos(spin + k * 2.0944 - 1.5708), np.sin(spin + k * 2.0944 - 1.5708)])
        mottling = (0.9 + 0.2 * noise(rng, size, 12, 2))[..., None]
        strands = rng.normal(0, 0.9, (37, 2)), rng.uniform(0.75, 1.1, 37), rng.integers(37, size=7)
        if missing_cable and k == faulty:
            image = blend(image, disk(size, hub, 46, 2), np.array([0.10, 0.10, 0.11]))
            continue
        image = blend(image, disk(size, hub, 48, 1.5), np.asarray(colour) * mottling)
        image = blend(image, disk(size, hub, 31, 2), np.array([0.14, 0.09, 0.06]))
        rows = [(q, p) for q in range(-3, 4) for p in range(-3, 4) if abs(q + p) <= 3]
        for n, (q, p) in enumerate(rows):
            if missing_wire and k == faulty and n in strands[2]:
                continue
            at = hub + 8.6 * np.array([q + p / 2, p * 0.866]) + strands[0][n]
            wire = np.array([0.85, 0.52, 0.33]) * strands[1][n]
            paint(image, ellipse_points(at, (4.4, 4.4), n=16), wire)
            paint(image, ellipse_points(at - 1.3, (1.4, 1.4), n=8), np.clip(wire * 1.35, 0, 1), opacity=0.8)
        if bent_wire and k == faulty:
            end = hub + turn(np.array([[52.0, 0.0]]), bend)[0]
            path = np.stack([hub, (hub + end) / 2 + kink, end])
            image = blend(image, stroke(size, path, 9), np.array([0.62, 0.36, 0.22]))
            image = blend(image, stroke(size, path - 1.5, 3), np.array([0.98, 0.68, 0.45]))
    return scene(image, disk(size, centre, 116), background)


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
    image = blend(image, stroke(size, np.array([[4, -44], [4, 44]]) @ _rotation(angle) + centre, 2) * body, (0.3, 0.2, 0.1))
    gloss = np.exp(-(((v + 20) / 6) ** 2)) * body * (np.abs(u) < 75) * 0.45
    image = blend(image, gloss.astype(np.float32), (1, 1, 1))
    image = letters(image, imprint, centre + turn(np.array([[46.0, 6.0]]), angle)[0], 1.05, (0.97, 0.93, 0.85), angle)
    return scene(image, body, background)


def _rotation(angle: float) -> Array:
    return np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


def letters(image: Array, text: str, centre: Array, scale: float, colour: Colour, angle: float = 0, slip: float = 0.0) -> Array:
    """Printed `text`; `slip` doubles and smears it, as a faulty imprint does."""
    size = image.shape[0]
    layer = np.zeros((size, size), np.uint8)
    face, thick, font = cv2.FONT_HERSHEY_DUPLEX, max(1, round(2 * unit(size))), scale * unit(size)
    (wide, high), _ = cv2.getTextSize(text, face, font, thick)
    middle = centre * unit(size)
    cv2.putText(layer, text, (round(middle[0] - wide / 2), round(middle[1] + high / 2)), face, font, 255, thick, cv2.LINE_AA)
    layer = cv2.warpAffine(layer, cv2.getRotationMatrix2D((float(middle[0]), float(middle[1])), -np.degrees(angle), 1), (size, size))
    alpha = layer.astype(np.float32) / 255
    if slip:
        moved = np.roll(alpha, round(slip * unit(size)), (0, 1))
        alpha = np.clip(0.75 * np.maximum(moved, alpha * (np.arange(size) % (size // 9) > size // 20)), 0, 1)
    return blend(image, alpha * 0.9, colour)


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
            gap = np.flatnonzero(distance < 17) if broken else []
            pieces = [line[: gap[0]], line[gap[-1] + 1 :]] if len(gap) else [line]
            wires += [piece for piece in pieces if len(piece) > 1]
    shine = 0.6 + 0.1 * noise(rng, size, 30, 2)
    image = blend(background, stroke(size, wires, 5.5), shine[..., None] * np.array([1, 1, 0.98]))
    image = blend(image, stroke(size, [wire - 1 for wire in wires], 1.6) * 0.8, (0.88, 0.88, 0.86))
    image = image + 0.015 * grain(rng, size)[..., None]
    return scene(image, np.ones((size, size), np.float32), background)


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


def metal_nut(rng: Rng, size: int, bent: bool = False, flip: bool = False) -> Scene:
    """A stamped steel nut with four lobes and a threaded bore."""
    centre, spin = 128 + rng.normal(0, 3, 2), rng.uniform(-0.2, 0.2)
    background = backdrop(rng, size, (0.12, 0.12, 0.13))
    t = np.linspace(0, 2 * np.pi, 240, endpoint=False)
    side = -1.0 if flip else 1.0
    skew = 0.30 * side
    r = 84 + 18 * np.cos(4 * t + skew * np.sin(4 * t + 1.2)) + 5 * side * np.cos(8 * t + 0.8)
    damaged = int(rng.integers(4))
    if bent:
        gap = np.angle(np.exp(1j * (t - damaged * np.pi / 2)))
        r = r - 22 * np.exp(-((gap / 0.28) ** 2))
    outline = turn(np.stack([r * np.cos(t), r * np.sin(t)], 1), spin) + centre
    body = polygon(size, outline)
    x, y = coordinates(size)
    brushed = noise(rng, size, 5, 2, stretch=(14, 1))
    angle = np.arctan2(y - centre[1], x - centre[0])
    light = 0.56 + 0.12 * brushed + 0.07 * np.cos(2 * angle + 1) + 0.015 * grain(rng, size)
    image = blend(background, body, light[..., None] * np.array([1.0, 1.0, 1.02]))
    bevel = np.clip(body - blur(body, 5), 0, 1) * body
    image = shade(image, 1 - 0.8 * bevel)
    ring = np.array([0.46, 0.46, 0.47]) if flip else np.array([0.76, 0.76, 0.77])
    image = blend(image, disk(size, centre, 52, 2) * 0.7, ring)
    if bent:
        at = centre + turn(np.array([[72.0, 0.0]]), spin + damaged * np.pi / 2)[0]
        image = shade(image, 1 - 0.5 * disk(size, at, 17, 12) * body)
    bore = disk(size, centre, 37, 1.5)
    distance = np.hypot(x - centre[0], y - centre[1])
    image = blend(image, bore, (0.30 + 0.12 * np.sin(distance * 1.6 + angle))[..., None] * np.ones(3))
    image = blend(image, disk(size, centre, 28, 1.5), background)
    return scene(image, body * (1 - disk(size, centre, 38)), background)


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


def screw(
    rng: Rng,
    size: int,
    front: bool = False,
    thread_top: bool = False,
    thread_side: bool = False,
    head: bool = False,
    neck: bool = False,
) -> Scene:
    """A screw lying on a light table: head, plain neck, threaded shaft and tip along u from -100 to 100."""
    centre, spin = 128 + rng.normal(0, 3, 2), rng.uniform(0, 6.28)
    background = backdrop(rng, size, (0.80, 0.80, 0.79), 0.02)

    def at(points: list[tuple[float, float]] | Array) -> Array:
        return turn(np.asarray(points, float), spin) + centre

    streaks = noise(rng, size, 6, 2)
    u = np.linspace(-22, 84, 320)
    teeth = 13 + 4.5 * np.abs(np.sin(u * 0.42 + 0.6))
    upper, lower = teeth.copy(), teeth.copy()
    spot, jag = rng.uniform(0, 60), rng.normal(0, 1, 320)
    near = np.exp(-(((u - spot) / 10) ** 2))
    if thread_top:
        upper = upper - near * (6 + 1.5 * jag)
    if thread_side:
        lower = lower - 0.6 * near * (7 + 1.5 * jag)
    shaft = at(np.concatenate([np.stack([u, -upper], 1), np.stack([u[::-1], lower[::-1]], 1)]))
    tip = [(84, -12), (88, -11), (82, 3), (84, 12)] if front else [(84, -13), (108, -2), (108, 2), (84, 13)]
    parts = [
        shaft,
        at(tip),
        at(bar_points((-84, 0), (-22, 0), 24)),
        at([(-88, -34), (-78, -34), (-62, -12), (-62, 12), (-78, 34), (-88, 34)]),
    ]
    body = np.maximum.reduce([polygon(size, part) for part in parts])
    x, y = coordinates(size)
    dx, dy = x - centre[0], y - centre[1]
    along, across = np.cos(spin) * dx + np.sin(spin) * dy, -np.sin(spin) * dx + np.cos(spin) * dy
    light = 0.34 + 0.34 * np.exp(-(((across + 4) / 8) ** 2)) + 0.10 * streaks
    turns = np.sin(along * 0.84 + 1.2 + across * 0.12) * ((along > -22) & (along < 86))
    damage = (thread_top * (across < 0) + thread_side * (across > 0)) * np.exp(-(((along - spot) / 10) ** 2))
    light = light + 0.13 * turns * (1 - np.clip(damage, 0, 1)) + 0.25 * np.clip(damage, 0, 1)
    image = shade(background, 1 - 0.35 * blur(body, 5))
    image = blend(image, body, light[..., None] * np.array([1.0, 0.98, 0.94]))
    bundle = [rng.uniform(-1, 1, (6, 3)) for _ in range(2)]
    for wanted, lines, (u0, half_u, half_v) in ((head, bundle[0], (-80, 4, 24)), (neck, bundle[1], (-44, 16, 8))):
        if wanted:
            for a, b, c in lines:
                ends = at([(u0 + half_u * a - 5, half_v * b - 5), (u0 + half_u * a + 5 + 3 * c, half_v * b + 5)])
                image = blend(image, stroke(size, ends, 1.6) * body, (0.95, 0.95, 0.92))
    return scene(image, body, background)


def tile(rng: Rng, size: int) -> Scene:
    """A terrazzo tile: pale ground, angular dark chips."""
    image = plain(size, (0.74, 0.73, 0.71))
    image = shade(image, 0.94 + 0.12 * noise(rng, size, 50, 3))
    for level, colour in ((0.64, (0.46, 0.45, 0.44)), (0.72, (0.24, 0.23, 0.24))):
        chips = np.clip((noise(rng, size, 13, 2) - level) * 25, 0, 1)
        image = blend(image, chips, colour)
    return texture(image + 0.02 * grain(rng, size)[..., None], (0.12, 0.12, 0.12))


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


def transistor(
    rng: Rng,
    size: int,
    bent_lead: bool = False,
    cut_lead: bool = False,
    damaged_case: bool = False,
    misplaced: bool = False,
) -> Scene:
    """A black package with three tin leads plugged into a perforated board."""
    x, y = coordinates(size)
    shift, spin = rng.normal(0, 1.5, 2), rng.normal(0, 0.015)
    board = 0.50 + 0.07 * noise(rng, size, 8, 2)
    background = board[..., None] * np.array([0.62, 0.44, 0.30])
    hole = np.hypot((x - 15) % 32 - 16, (y - 15) % 32 - 16)
    background = blend(background, np.clip((8 - hole) + 0.5, 0, 1), np.array([0.72, 0.68, 0.60]))
    background = blend(background, np.clip((5 - hole) + 0.5, 0, 1), np.array([0.10, 0.09, 0.08]))
    faulty, kink, stub = int(rng.integers(3)), rng.choice([-1.0, 1.0]) * rng.uniform(18, 26), rng.uniform(0.25, 0.5)
    crash = rng.uniform(-30, 30, 2) + [0, -45], rng.uniform(0.5, 1.1, 9)
    slip, tilt = rng.normal(0, 1, 2) * 8 + [0, 46], rng.choice([-1.0, 1.0]) * rng.uniform(0.4, 1.2)
    centre = np.array([128.0, 128.0]) + shift
    if misplaced:
        centre, spin = centre + slip, spin + tilt

    def at(points: list[tuple[float, float]] | Array) -> Array:
        return turn(np.asarray(points, float), spin) + centre

    image, body = background, np.zeros((size, size), np.float32)
    for k in range(3):
        foot = np.array([(k - 1) * 32.0, 84.0])
        path = np.array([[(k - 1) * 24.0, 0.0], [(k - 1) * 32.0, 30.0], foot])
        if bent_lead and k == faulty:
            path[1, 0] += kink
            path[2, 0] += kink * 0.4
        if cut_lead and k == faulty:
            path[2] = path[1] + (path[2] - path[1]) * stub * 0.4
        lead = stroke(size, at(path), 9)
        image = shade(image, 1 - 0.35 * blur(stroke(size, at(path) + 4, 9), 2))
        image = blend(image, lead, np.array([0.70, 0.70, 0.70]))
        image = blend(image, stroke(size, at(path) - 2, 3), np.array([0.92, 0.92, 0.90]))
        body = np.maximum(body, lead)
    case = polygon(size, at([(-54, -84), (54, -84), (58, -74), (58, 8), (-58, 8), (-58, -74)]))
    pores = 0.15 + 0.03 * noise(rng, size, 3, 2)
    image = shade(image, 1 - 0.5 * blur(case, 5) * (1 - case))
    image = blend(image, case, pores[..., None] * np.ones(3))
    image = blend(image, polygon(size, at([(-54, -84), (54, -84), (48, -76), (-48, -76)])), np.array([0.25, 0.25, 0.26]))
    image = blend(image, polygon(size, at(ellipse_points((0, -50), (10, 10)))), np.array([0.10, 0.10, 0.10]))
    if damaged_case:
        angles = np.sort(crash[1] * 2 * np.pi * np.linspace(0.1, 1, 9))
        wound = np.stack([np.cos(angles), np.sin(angles)], 1) * (22 * crash[1])[:, None] + crash[0]
        image = blend(image, polygon(size, at(wound * 1.0)) * case, np.array([0.46, 0.44, 0.42]))
        image = blend(image, polygon(size, at((wound - crash[0]) * 0.7 + crash[0])) * case, np.array([0.30, 0.28, 0.27]))
    return scene(image, np.maximum(body, case), background)


def wood(rng: Rng, size: int) -> Scene:
    """Sawn wood with upright grain."""
    x, _ = coordinates(size)
    drift = 16 * noise(rng, size, 120, 2, stretch=(1, 3))
    rings = np.sin((x + drift) / 5.2 + 2 * noise(rng, size, 30, 2, stretch=(1, 5)))
    fibres = noise(rng, size, 3, 2, stretch=(1, 18))
    light = 0.66 + 0.08 * rings + 0.15 * (fibres - 0.5) + 0.012 * grain(rng, size)
    return texture(light[..., None] * np.array([0.86, 0.60, 0.38]), (0.10, 0.06, 0.04))


def zipper(
    rng: Rng,
    size: int,
    broken_teeth: bool = False,
    split_teeth: bool = False,
    squeezed_teeth: bool = False,
    rough: bool = False,
) -> Scene:
    """A closed zipper: dark cloth tapes, a column of interlocking teeth."""
    x, y = coordinates(size)
    middle, pitch = 128 + rng.normal(0, 2), 10.0
    phase = rng.uniform(0, pitch)
    cloth = 0.20 + 0.05 * np.sin(2 * np.pi * x / 6) * np.sin(2 * np.pi * y / 5) + 0.05 * noise(rng, size, 5, 2)
    background = backdrop(rng, size, (0.86, 0.86, 0.85), 0.02)
    tape = (np.clip(86 - np.abs(x - middle), -0.5, 0.5) + 0.5).astype(np.float32)
    image = blend(background, tape, cloth[..., None] * np.array([1.0, 1.0, 1.06]))
    seams = np.clip(2.5 - np.abs(np.abs(x - middle) - 40), 0, 1).astype(np.float32)
    image = blend(image, seams * tape * 0.5, (0.34, 0.34, 0.37))
    spot = rng.uniform(70, 186)
    lost = rng.integers(3, 6)
    jag = rng.normal(0, 1, (64, 4))
    for k in range(-1, 27):
        for side in (-1, 1):
            shift = jag[2 * (k + 1) + (side > 0)]
            at = k * pitch + phase + (pitch / 2 if side > 0 else 0)
            near = np.exp(-(((at - spot) / 24) ** 2))
            reach, gap, tilt, light = 21.0, 4.0, 0.0, 0.60 + 0.03 * shift[3]
            if broken_teeth and side > 0 and abs(at - spot) < lost * pitch / 2:
                continue
            if split_teeth:
                gap = gap - 13 * near
                tilt = 3 * near
            if squeezed_teeth:
                at = spot + (at - spot) * (1 - 0.45 * near)
                reach = reach - 7 * near
            if rough:
                reach, tilt = reach + 3.5 * near * shift[0], 3.5 * near * shift[1]
                light = light + 0.16 * near * shift[2]
            inner, outer = middle - side * gap, middle + side * reach
            tooth = bar_points((inner, at), (outer, at + tilt), 4.6, 6.4)
            paint(image, tooth + [0, 1.5], (0.08, 0.08, 0.09), opacity=0.5)
            paint(image, tooth, (light, light, light * 0.96))
            paint(image, np.array([[inner, at - 1], [outer, at + tilt - 1]]), (0.85, 0.85, 0.82), width=1, opacity=0.7)
    image = image + 0.008 * grain(rng, size)[..., None]
    return scene(image, tape, background)
