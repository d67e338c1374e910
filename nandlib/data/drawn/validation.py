"""Validation products: ten classes that are in no study and train nothing, on which every choice of `nand_plus` was made.

They are drawn as the products of the embedded data set are, with renderers, colours and type names of their own.
"""

from __future__ import annotations

import numpy as np

from nandlib.data.drawn import defects
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
    plain,
    polygon,
    shade,
    stroke,
    turn,
)
from nandlib.data.drawn.catalogue import Product, change, mark, ring
from nandlib.data.drawn.products.scene import Scene, backdrop, letters, scene, texture


def gear_wheel(rng: Rng, size: int, broken_tooth: bool = False, bent_spoke: bool = False) -> Scene:
    """A brass wheel with fourteen teeth and five spokes."""
    centre, spin = 128 + rng.normal(0, 3, 2), rng.uniform(0, 6.28)
    background = backdrop(rng, size, (0.30, 0.33, 0.37))
    t = np.linspace(0, 2 * np.pi, 420, endpoint=False)
    r = 96 + 9 * np.tanh(4 * np.sin(14 * t))
    tooth, jag, spoke = rng.integers(14), rng.uniform(-2, 2, 420), int(rng.integers(5))
    near = np.abs(np.angle(np.exp(1j * (t - (tooth + 0.25) * 2 * np.pi / 14)))) < 0.24
    if broken_tooth:
        r = np.where(near, 86 + jag, r)
    rim = polygon(size, turn(np.stack([r * np.cos(t), r * np.sin(t)], 1), spin) + centre) * (1 - disk(size, centre, 70))
    light = 0.62 + 0.16 * noise(rng, size, 30, 3)
    brass = light[..., None] * np.array([1.05, 0.86, 0.48])
    alpha = np.maximum(rim, disk(size, centre, 26))
    for k in range(5):
        direction = turn(np.array([[1.0, 0.0]]), spin + k * 2 * np.pi / 5)[0]
        side = np.array([-direction[1], direction[0]])
        kink = 16 * side if bent_spoke and k == spoke else 0 * side
        path = np.stack([centre + 20 * direction, centre + 47 * direction + kink, centre + 76 * direction])
        alpha = np.maximum(alpha, stroke(size, path, 13))
    alpha = alpha * (1 - disk(size, centre, 11))
    image = blend(shade(background, 1 - 0.35 * blur(alpha, 4)), alpha, brass)
    return scene(shade(image, 1 - 0.5 * np.clip(alpha - blur(alpha, 3), 0, 1) * alpha), alpha, background)


def circuit_board(rng: Rng, size: int, missing_component: bool = False, shifted_component: bool = False) -> Scene:
    """A green board: copper traces, two chips with legs, eight resistors."""
    image = plain(size, (0.08, 0.34, 0.22)) * (0.9 + 0.2 * noise(rng, size, 60, 2))[..., None]
    jitter, slip, tilt = rng.normal(0, 2, 2), rng.normal(0, 1, 2), rng.uniform(0.35, 0.7)
    for k in range(12):
        y = 14 + 20 * k
        image = blend(image, stroke(size, np.array([[-4, y], [70, y], [95, y + 14], [260, y + 14]]) + jitter, 2.5), (0.55, 0.60, 0.28))
    which = int(rng.integers(8))
    image = np.ascontiguousarray(image, np.float32)
    for x, y in ((78, 84), (172, 168)):
        at = np.array([x, y]) + jitter
        for k in range(-3, 4):
            paint(image, np.stack([at + [-40, 9 * k], at + [40, 9 * k]]), (0.78, 0.78, 0.76), 4)
        paint(image, bar_points(at - [0, 34], at + [0, 34], 58), (0.10, 0.10, 0.11))
        paint(image, ellipse_points(at + [-20, -26], (3, 3)), (0.4, 0.4, 0.4))
    places = [(160 + 22 * (k % 4), 52 + 34 * (k // 4)) for k in range(4)] + [(42 + 24 * k, 178) for k in range(4)]
    for k, place in enumerate(places):
        at, angle = np.array(place, float) + jitter, np.pi / 2
        if k == which and missing_component:
            paint(image, ellipse_points(at - [0, 13], (4, 4)), (0.75, 0.75, 0.7))
            paint(image, ellipse_points(at + [0, 13], (4, 4)), (0.75, 0.75, 0.7))
            continue
        if k == which and shifted_component:
            at, angle = at + 7 * np.sign(slip), angle + tilt
        axis = np.array([np.cos(angle), np.sin(angle)])
        paint(image, np.stack([at - 16 * axis, at + 16 * axis]), (0.75, 0.75, 0.7), 3)
        paint(image, bar_points(at - 10 * axis, at + 10 * axis, 11), (0.80, 0.68, 0.48))
        for stripe, colour in ((-5, (0.5, 0.2, 0.1)), (0, (0.1, 0.1, 0.1)), (5, (0.8, 0.1, 0.1))):
            side = np.array([-axis[1], axis[0]]) * 5
            paint(image, np.stack([at + stripe * axis - side, at + stripe * axis + side]), colour, 2)
    return texture(image)


def comb(rng: Rng, size: int, broken_teeth: bool = False, bent_tooth: bool = False) -> Scene:
    """A tortoiseshell comb: a back and seventeen teeth."""
    shift, spin = rng.normal(0, 3, 2), rng.normal(0, 0.04)
    background = backdrop(rng, size, (0.88, 0.86, 0.90), 0.02)
    shell = noise(rng, size, 26, 3)
    amber = 0.35 * np.array([0.5, 0.24, 0.1]) + shell[..., None] * np.array([0.80, 0.46, 0.16])
    first, stubs, kink = int(rng.integers(3, 12)), rng.uniform(15, 60, 3), rng.choice([-1, 1]) * rng.uniform(7, 11)

    def place(points: list[tuple[float, float]]) -> Array:
        return turn(np.asarray(points, float) - 128, spin) + 128 + shift

    alpha = polygon(size, place([(22, 40), (234, 40), (240, 84), (16, 84)]))
    for k in range(17):
        x, end = 26 + 12.7 * k, 212.0
        if broken_teeth and first <= k < first + 3:
            end = 90 + stubs[k - first]
        bend = kink if bent_tooth and k == first else 0
        alpha = np.maximum(alpha, stroke(size, place([(x, 80), (x, 120), (x + bend * min(1, (end - 120) / 92), end)]), 7))
    image = blend(shade(background, 1 - 0.3 * blur(alpha, 4)), alpha, amber)
    return scene(image, alpha, background)


def coin(rng: Rng, size: int, dented_edge: bool = False, worn_inscription: bool = False) -> Scene:
    """A silver coin: beaded border, a star, a year."""
    centre, spin = 128 + rng.normal(0, 2, 2), rng.normal(0, 0.06)
    background = backdrop(rng, size, (0.16, 0.10, 0.20))
    t = np.linspace(0, 2 * np.pi, 240, endpoint=False)
    at = rng.uniform(0, 6.28)
    r = 104 - (13 * np.exp(-((np.angle(np.exp(1j * (t - at))) / 0.22) ** 2)) if dented_edge else 0)
    body = polygon(size, np.stack([r * np.cos(t), r * np.sin(t)], 1) + centre)
    light = 0.60 + 0.14 * noise(rng, size, 60, 3) + 0.012 * grain(rng, size)
    image = blend(background, body, light[..., None] * np.array([0.98, 1.0, 1.04]))
    image = shade(image, 1 - 0.6 * np.clip(body - blur(body, 5), 0, 1) * body)
    image = np.ascontiguousarray(image, np.float32)
    for n in range(48):
        bead = centre + turn(np.array([[90.0, 0.0]]), n * 2 * np.pi / 48)[0]
        paint(image, ellipse_points(bead + 0.8, (2.6, 2.6), n=10), (0.35, 0.35, 0.38))
        paint(image, ellipse_points(bead, (2.2, 2.2), n=10), (0.85, 0.86, 0.9))
    k = np.arange(10)
    star = turn(np.stack([np.cos(k * np.pi / 5), np.sin(k * np.pi / 5)], 1) * np.where(k % 2, 17, 42)[:, None], spin - 0.31)
    paint(image, star + centre - [0, 14] + 1.5, (0.32, 0.32, 0.35))
    paint(image, star + centre - [0, 14], (0.78, 0.79, 0.83))
    image = letters(image, "1" if worn_inscription else "1926", centre + [0, 52], 1.0, (0.28, 0.28, 0.31), spin)
    return scene(image, body, background)


def keyboard(rng: Rng, size: int, missing_key: bool = False, wrong_letter: bool = False, turned_key: bool = False) -> Scene:
    """Five by five white keys with a letter each on a black tray."""
    image = np.ascontiguousarray(backdrop(rng, size, (0.10, 0.10, 0.11)), np.float32)
    which, shift, tilt = int(rng.integers(25)), rng.normal(0, 2, 2), rng.choice([-1, 1]) * rng.uniform(0.3, 0.6)
    other = "XZKQ"[int(rng.integers(4))]
    for k in range(25):
        at = np.array([36 + 46 * (k % 5), 36 + 46 * (k // 5)], float) + shift
        if k == which and missing_key:
            paint(image, ellipse_points(at, (6, 6)), (0.30, 0.30, 0.32))
            continue
        angle = tilt if k == which and turned_key else 0.0
        square = turn(np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], float), angle)
        paint(image, square * 20 + at, (0.66, 0.66, 0.64))
        paint(image, square * 15 + at - [0, 2], (0.90, 0.90, 0.87))
        letter = other * 2 if k == which and wrong_letter else "ASDFGHJLPOIUYTREWVBNMCEDK"[k]
        image = np.ascontiguousarray(letters(image, letter, at - [0, 2], 0.7, (0.12, 0.12, 0.14), angle), np.float32)
    return texture(image, (0.08, 0.08, 0.08))


def roof_shingles(rng: Rng, size: int, missing_shingle: bool = False, slipped_shingle: bool = False) -> Scene:
    """Rows of overlapping round slate shingles."""
    x0, which, slip = rng.uniform(-8, 8), int(rng.integers(8, 40)), rng.uniform(9, 14)
    image = np.ascontiguousarray(plain(size, (0.12, 0.11, 0.11)), np.float32)
    tone = rng.uniform(0.85, 1.1, 80)
    rough = (0.85 + 0.3 * noise(rng, size, 8, 3))[..., None]
    count = 0
    for row in range(9, -1, -1):
        for column in range(-1, 7):
            at = np.array([x0 + 42 * column + 21 * (row % 2), 28.0 * row])
            hit, count = count == which, count + 1
            if hit and missing_shingle:
                continue
            at = at + [0.3 * slip, slip] if hit and slipped_shingle else at
            outline = np.concatenate([[[-20, -30], [20, -30]], np.stack([20 * np.cos(a := np.linspace(0, np.pi, 16)), 20 * np.sin(a)], 1)])
            paint(image, outline + at + [0, 3], (0.08, 0.08, 0.09))
            paint(image, outline + at, np.array([0.36, 0.40, 0.46]) * tone[count % 80])
    return texture(image * rough)


def plaid_cloth(rng: Rng, size: int) -> Scene:
    """Woven cloth with crossing bands of red, cream and navy."""
    x, y = coordinates(size)
    u, v = x + rng.uniform(0, 64), y + rng.uniform(0, 64)

    def bands(axis: Array) -> Array:
        phase = axis % 64
        colour = np.where((phase < 26)[..., None], np.array([0.62, 0.14, 0.14]), np.array([0.86, 0.80, 0.68]))
        return np.where(((phase > 44) & (phase < 52))[..., None], np.array([0.12, 0.14, 0.30]), colour)

    over = (np.sin(np.pi * (x + y) / 3) > 0)[..., None]
    image = np.where(over, 0.75 * bands(u) + 0.25 * bands(v), 0.25 * bands(u) + 0.75 * bands(v))
    return texture(image * (0.88 + 0.24 * noise(rng, size, 5, 2))[..., None])


def cork_board(rng: Rng, size: int) -> Scene:
    """Pressed cork: brown grains of several sizes."""
    image = plain(size, (0.70, 0.52, 0.34)) * (0.85 + 0.3 * noise(rng, size, 10, 3))[..., None]
    for level, colour, scale in ((0.70, (0.40, 0.26, 0.14), 9), (0.74, (0.84, 0.68, 0.48), 12), (0.78, (0.28, 0.17, 0.09), 6)):
        image = blend(image, np.clip((noise(rng, size, scale, 2) - level) * 18, 0, 1), colour)
    return texture(image + 0.02 * grain(rng, size)[..., None])


def candle(rng: Rng, size: int, missing_wick: bool = False, bent_wick: bool = False) -> Scene:
    """A tealight from above: metal cup, white wax, a wick."""
    centre = 128 + rng.normal(0, 3, 2)
    background = backdrop(rng, size, (0.42, 0.30, 0.26))
    cup = disk(size, centre, 100, 1.5)
    x, y = coordinates(size)
    angle = np.arctan2(y - centre[1], x - centre[0])
    image = blend(shade(background, 1 - 0.3 * blur(cup, 5)), cup, (0.62 + 0.16 * np.cos(5 * angle + 1))[..., None] * np.ones(3))
    wax = (0.86 + 0.08 * noise(rng, size, 40, 3))[..., None] * np.array([1.0, 0.98, 0.92])
    image = blend(image, disk(size, centre, 90, 2), wax)
    heading = rng.uniform(0, 6.28)
    tip = np.array([np.cos(heading), np.sin(heading)])
    image = blend(image, disk(size, centre, 16, 2), (0.70, 0.70, 0.70))
    path = np.stack([centre, centre + 26 * tip, centre + 44 * tip + 22 * np.array([-tip[1], tip[0]])]) if bent_wick else None
    if not missing_wick:
        image = blend(image, stroke(size, path if path is not None else np.stack([centre, centre + 15 * tip]), 7), (0.22, 0.20, 0.18))
    return scene(image, cup, background)


def flange(rng: Rng, size: int, missing_bolt: bool = False, loose_bolt: bool = False, torn_gasket: bool = False) -> Scene:
    """A painted flange with eight hexagonal bolts around a bore, sealed by a red gasket."""
    centre, spin, which = 128 + rng.normal(0, 2, 2), rng.normal(0, 0.1), int(rng.integers(8))
    background = backdrop(rng, size, (0.70, 0.72, 0.74), 0.02)
    away, tilt, cut = rng.uniform(7, 11), rng.uniform(0.2, 0.5), rng.uniform(0, 6.28)
    body = disk(size, centre, 112, 1.5)
    paintwork = (0.8 + 0.25 * noise(rng, size, 18, 3))[..., None] * np.array([0.22, 0.42, 0.58])
    image = blend(shade(background, 1 - 0.3 * blur(body, 5)), body, paintwork)
    t = np.linspace(0, 2 * np.pi, 200)
    rim = 52 + (7 * np.exp(-((np.angle(np.exp(1j * (t - cut))) / 0.3) ** 2)) if torn_gasket else 0 * t)
    image = blend(image, polygon(size, np.stack([rim * np.cos(t), rim * np.sin(t)], 1) + centre), (0.66, 0.16, 0.12))
    image = np.ascontiguousarray(blend(image, disk(size, centre, 42, 1.5), (0.06, 0.06, 0.07)), np.float32)
    for k in range(8):
        direction = turn(np.array([[1.0, 0.0]]), spin + k * np.pi / 4)[0]
        at, angle = centre + 82 * direction, spin + k * np.pi / 4
        if k == which and missing_bolt:
            paint(image, ellipse_points(at, (9, 9)), (0.05, 0.05, 0.06))
            continue
        if k == which and loose_bolt:
            at, angle = at + away * np.array([-direction[1], direction[0]]), angle + tilt
        corners = ellipse_points((0, 0), (14, 14), angle, 6)
        paint(image, corners + at + [1.5, 2], (0.08, 0.12, 0.16), opacity=0.7)
        paint(image, corners + at, (0.68, 0.68, 0.66))
        paint(image, corners * 0.6 + at - 0.5, (0.84, 0.84, 0.82))
    return scene(image, body * (1 - disk(size, centre, 56)), background)


RUST, MOSS, INK, SOOT = (0.55, 0.27, 0.10), (0.20, 0.32, 0.10), (0.10, 0.14, 0.42), (0.07, 0.06, 0.06)

VALIDATION: dict[str, Product] = {
    "candle": Product(
        candle,
        {
            "bent_wick": change(bent_wick=True),
            "cracked_wax": mark(defects.crack, ring(24, 88), colour=(0.50, 0.46, 0.40), width=(2, 3)),
            "ink_stamp": mark(defects.imprint, ring(24, 74), colour=(0.45, 0.10, 0.35), texts=("OK", "T1", "9"), scale=(0.9, 1.4)),
            "missing_wick": change(missing_wick=True),
            "soot": mark(defects.stain, ring(20, 80), colour=SOOT, radius=(10, 22)),
        },
    ),
    "circuit_board": Product(
        circuit_board,
        {
            "missing_component": change(missing_component=True),
            "scratched_trace": mark(defects.scratch, colour=(0.75, 0.72, 0.5), length=(50, 110), width=(1.4, 2.2)),
            "shifted_component": change(shifted_component=True),
            "solder_splash": mark(defects.metal, colour=(0.78, 0.79, 0.82), radius=(5, 9)),
            "burn_mark": mark(defects.stain, colour=(0.10, 0.06, 0.03), radius=(14, 24), strength=(0.65, 0.85), rim=0.1),
        },
    ),
    "coin": Product(
        coin,
        {
            "dented_edge": change(dented_edge=True),
            "gouge": mark(defects.cut, ring(0, 84), length=(30, 60), width=(4, 7), colour=(0.20, 0.20, 0.22), lip=0.4),
            "tarnish": mark(defects.tint, ring(0, 84), colour=(0.42, 0.30, 0.16), radius=(16, 30)),
            "worn_inscription": change(worn_inscription=True),
        },
    ),
    "comb": Product(
        comb,
        {
            "bent_tooth": change(bent_tooth=True),
            "broken_teeth": change(broken_teeth=True),
            "glued_dirt": mark(defects.glue, colour=(0.80, 0.78, 0.66), radius=(12, 20)),
            "hair": mark(defects.thread, colour=(0.14, 0.10, 0.08), width=(1.6, 2.4), length=(90, 180)),
        },
    ),
    "cork_board": Product(
        cork_board,
        {
            "gum": mark(defects.glue, colour=(0.90, 0.76, 0.80), radius=(12, 22)),
            "pin_hole": mark(defects.hole, radius=(4, 7), rim=0.35),
            "pen_line": mark(defects.scratch, colour=INK, count=(1, 2), width=(1.8, 2.8), length=(60, 130)),
            "tear": mark(defects.cut, length=(45, 85), width=(7, 12), colour=(0.16, 0.10, 0.06)),
            "water_spot": mark(defects.stain, colour=(0.36, 0.24, 0.14), radius=(22, 36), strength=(0.4, 0.55)),
        },
    ),
    "flange": Product(
        flange,
        {
            "chipped_paint": mark(defects.chip, ring(58, 110), background=(0.62, 0.60, 0.58), radius=(8, 14)),
            "loose_bolt": change(loose_bolt=True),
            "missing_bolt": change(missing_bolt=True),
            "rust": mark(defects.rough, ring(58, 110), colour=RUST, radius=(14, 26), whiten=0.7),
            "torn_gasket": change(torn_gasket=True),
        },
    ),
    "gear_wheel": Product(
        gear_wheel,
        {
            "bent_spoke": change(bent_spoke=True),
            "broken_tooth": change(broken_tooth=True),
            "metal_chips": mark(defects.metal, colour=(0.80, 0.80, 0.82), radius=(6, 10)),
            "oil": mark(defects.stain, colour=(0.12, 0.09, 0.04), radius=(14, 24)),
        },
    ),
    "keyboard": Product(
        keyboard,
        {
            "coffee": mark(defects.stain, colour=(0.24, 0.13, 0.05), radius=(22, 36), strength=(0.5, 0.7)),
            "missing_key": change(missing_key=True),
            "turned_key": change(turned_key=True),
            "wrong_letter": change(wrong_letter=True),
            "yellowed_keys": mark(defects.tint, colour=(0.86, 0.72, 0.26), radius=(22, 36)),
        },
    ),
    "plaid_cloth": Product(
        plaid_cloth,
        {
            "bleach": mark(defects.tint, colour=(0.94, 0.90, 0.84), radius=(16, 30)),
            "fraying": mark(defects.rough, radius=(16, 30), colour=(0.75, 0.70, 0.66)),
            "moth_hole": mark(defects.hole, radius=(8, 14), ragged=0.2),
            "pulled_thread": mark(defects.thread, colour=(0.90, 0.84, 0.70)),
            "wrinkle": mark(defects.fold, strength=(0.4, 0.55)),
        },
    ),
    "roof_shingles": Product(
        roof_shingles,
        {
            "crack": mark(defects.crack, length=(70, 120), width=(2, 3.4)),
            "missing_shingle": change(missing_shingle=True),
            "moss": mark(defects.rough, colour=MOSS, radius=(16, 28), whiten=0.65),
            "slipped_shingle": change(slipped_shingle=True),
        },
    ),
}  # fmt: skip
