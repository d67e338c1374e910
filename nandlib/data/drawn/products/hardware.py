"""Products that are technical parts: cable, metal nut, screw, transistor and zipper."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nandlib.data.drawn.canvas import (
    Array,
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
    polygon,
    shade,
    stroke,
    turn,
)
from nandlib.data.drawn.products.scene import Scene, backdrop, scene


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

    def at(points: Sequence[tuple[float, float]] | Array) -> Array:
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

    def at(points: Sequence[tuple[float, float]] | Array) -> Array:
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
