"""Auxiliary structures: arrays, lattices, contours and labels, drawn good or with one structural fault.

Like the products, a structure makes the same random choices with and without its fault. None of them is a product of
the embedded data set; they teach what "bent", "missing", "cut off" or "misprinted" look like on parts in general.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from nandlib.data.drawn.canvas import (
    Array,
    Rng,
    blend,
    blur,
    disk,
    ellipse_points,
    noise,
    paint,
    polygon,
    shade,
    stroke,
    turn,
    unit,
)

Structure = Callable[[Rng, int, Array, Array, "str | None"], Array]


def _colour(rng: Rng) -> Array:
    return np.clip(rng.uniform(0.15, 0.9) + rng.normal(0, 0.12, 3), 0, 1)


def array(rng: Rng, size: int, ground: Array, surface: Array, fault: str | None) -> Array:
    """Equal parts in a row, a grid or a circle: bars, discs, rings or plates, on a common body.

    Faults: missing, misplaced, color, bent, broken, cut.
    """
    kind, layout = rng.choice(["bar", "bar", "disc", "ring", "plate"]), rng.choice(["row", "grid", "circle"])
    pitch, angle, colour, other = rng.uniform(20, 44), rng.uniform(0, np.pi), _colour(rng), _colour(rng)
    n = int(rng.integers(3, 9))
    centres, headings = _places(rng, layout, n, pitch)
    reach = rng.uniform(0.35, 0.48) * pitch if layout != "row" or kind != "bar" else rng.uniform(30, 70)
    width = rng.uniform(0.15, 0.45) * pitch
    centres = turn(centres, angle) + 128 + rng.normal(0, 8, 2)
    headings = headings + angle
    first = int(rng.integers(len(centres)))
    faulty = range(first, min(len(centres), first + int(rng.integers(1, 4)) if layout == "row" else first + 1))
    push, spin, kink = rng.normal(0, 1, 2), rng.choice([-1, 1]) * rng.uniform(0.4, 1.2), rng.choice([-1, 1]) * rng.uniform(0.4, 1.0)
    stub, toothed = rng.uniform(0.1, 0.6), rng.uniform(0.3, 1, 12)
    with_body = rng.random() < 0.6
    image = ground
    if with_body and layout == "row":
        ends = turn(np.array([[-n * pitch / 2, -reach], [n * pitch / 2, -reach]]), angle) + centres.mean(0)
        image = blend(image, stroke(size, ends, rng.uniform(20, 60)), surface)
    elif with_body:
        image = blend(image, disk(size, centres.mean(0), np.ptp(centres, 0).max() * 0.75 + 14), surface)
    image = np.ascontiguousarray(image, np.float32)
    for k, (centre, heading) in enumerate(zip(centres, headings, strict=True)):
        fill, hit = colour, k in faulty
        if hit and fault == "missing":
            continue
        if hit and fault == "misplaced":
            centre, heading = centre + push * pitch * 0.35, heading + spin
        if hit and fault == "color":
            fill = other if np.abs(other - colour).max() > 0.2 else 1 - colour
        at = (centre, heading, reach)
        if kind == "bar":
            _bar(image, at, width, fill, fault if hit else None, kink, stub)
        else:
            _plate(image, at, kind, fill, fault if hit else None, stub, toothed)
    return image


def _places(rng: Rng, layout: str, n: int, pitch: float) -> tuple[Array, Array]:
    """Centres ``(n, 2)`` about the origin, and headings ``(n,)``."""
    if layout == "row":
        centres = np.stack([(np.arange(n) - (n - 1) / 2) * pitch, np.zeros(n)], 1)
        headings = np.full(n, np.pi / 2)
    elif layout == "grid":
        n_side = int(rng.integers(3, 6))
        steps = (np.arange(n_side) - (n_side - 1) / 2) * pitch
        centres = np.stack(np.meshgrid(steps, steps), -1).reshape(-1, 2)
        headings = np.full(len(centres), rng.choice([0, np.pi / 2]))
    else:
        t = np.arange(n) * 2 * np.pi / n
        centres, headings = np.stack([np.cos(t), np.sin(t)], 1) * rng.uniform(45, 80), t
    return centres, headings


At = tuple[Array, float, float]  # centre, heading and reach of a part


def _bar(image: Array, at: At, width: float, fill: Array, fault: str | None, kink: float, stub: float) -> None:
    centre, heading, reach = at
    axis = np.array([np.cos(heading), np.sin(heading)]) * reach
    path = np.stack([centre - axis, centre, centre + axis])
    if fault == "bent":
        path[2] = centre + turn(axis[None], kink)[0]
    if fault in ("cut", "broken"):
        path[2] = centre - axis * (1 - 2 * stub)
        path = path[[0, 2]]
    paint(image, path + [1.5, 2], fill * 0.2, width, 0.5)
    paint(image, path, fill, width)
    paint(image, path - width * 0.15, np.clip(fill * 1.35 + 0.05, 0, 1), width * 0.3, 0.8)


def _plate(image: Array, at: At, kind: str, fill: Array, fault: str | None, stub: float, toothed: Array) -> None:
    centre, heading, reach = at
    n_corners = 4 if kind == "plate" else 28
    radius = np.full(n_corners, reach * (1.2 if kind == "plate" else 1))
    stretch = np.array([1.0, 1.0])
    if fault == "bent":
        stretch = np.array([1.3, 0.55])
    if fault in ("cut", "broken"):
        gone = np.arange(n_corners) < n_corners * 0.45
        radius[gone] *= stub if fault == "cut" else toothed[np.arange(gone.sum()) % 12] * 0.6
    t = np.linspace(0, 2 * np.pi, n_corners, endpoint=False) + heading
    outline = np.stack([np.cos(t), np.sin(t)], 1) * radius[:, None] * stretch + centre
    paint(image, outline + [1.5, 2], fill * 0.2, opacity=0.5)
    paint(image, outline, fill)
    paint(image, (outline - centre) * 0.6 + centre, np.clip(fill * (0.25 if kind == "ring" else 1.2), 0, 1))


def lattice(rng: Rng, size: int, ground: Array, surface: Array, fault: str | None) -> Array:
    """Two crossing families of wires. Faults: bent, broken, missing."""
    pitch, angle, width = rng.uniform(18, 46), rng.uniform(0, np.pi), rng.uniform(2.5, 9)
    crossing = rng.uniform(0.9, 1.6)
    spot, reach, push = rng.uniform(70, 186, 2), rng.uniform(14, 32), rng.choice([-1, 1]) * rng.uniform(7, 16)
    wires = []
    for direction in (angle, angle + crossing):
        along, across = np.array([np.cos(direction), np.sin(direction)]), np.array([-np.sin(direction), np.cos(direction)])
        nearest = round(float((spot - 128) @ across) / pitch)
        for k in range(-9, 10):
            line = 128 + np.linspace(-190, 190, 130)[:, None] * along + across * pitch * k
            distance = np.hypot(*(line - spot).T)
            if fault == "bent":
                line = line + np.exp(-((distance / reach) ** 2))[:, None] * across * push
            if fault == "missing" and k == nearest and direction == angle:
                continue
            gap: np.ndarray | list[int] = np.flatnonzero(distance < reach * 0.8) if fault == "broken" else []
            pieces = [line[: gap[0]], line[gap[-1] + 1 :]] if len(gap) else [line]
            wires += [piece for piece in pieces if len(piece) > 1]
    image = shade(ground, 1 - 0.5 * stroke(size, [wire + 2 for wire in wires], width))
    image = blend(image, stroke(size, wires, width), surface)
    return blend(image, stroke(size, [wire - width * 0.15 for wire in wires], width * 0.3) * 0.6, np.clip(surface * 1.4, 0, 1))


def contour(rng: Rng, size: int, ground: Array, surface: Array, fault: str | None) -> Array:
    """One part with a lobed or toothed outline and a mark on it. Faults: bent (dented), broken, cut, misplaced."""
    lobes, depth, square = int(rng.integers(2, 16)), rng.uniform(0.03, 0.16), rng.random() < 0.4
    radius, aspect, spin = rng.uniform(55, 95), rng.uniform(0.5, 1), rng.uniform(0, 2 * np.pi)
    centre = 128 + rng.normal(0, 8, 2)
    at, span, dent = rng.uniform(0, 2 * np.pi), rng.uniform(0.15, 0.45), rng.uniform(0.2, 0.45)
    slip, tilt, jag = rng.normal(0, 18, 2), rng.choice([-1, 1]) * rng.uniform(0.4, 1.6), rng.uniform(0.2, 1, 240)
    t = np.linspace(0, 2 * np.pi, 240, endpoint=False)
    wave = np.sin(lobes * t)
    r = radius * (1 + depth * (np.sign(wave) if square else wave))
    near = np.exp(-((np.angle(np.exp(1j * (t - at))) / span) ** 2))
    if fault == "bent":
        r = r * (1 - dent * near)
    if fault == "broken":
        r = np.where(near > 0.4, r * (1 - dent * cv2.blur(jag[None], (5, 1))[0]), r)
    if fault == "cut":
        r = np.minimum(r, radius * (1 - dent) / np.clip(np.cos(t - at), 1e-3, 1))
    if fault == "misplaced":
        centre, spin = centre + slip, spin + tilt
    outline = turn(np.stack([r * np.cos(t), r * np.sin(t) * aspect], 1), spin) + centre
    body = polygon(size, outline)
    image = blend(shade(ground, 1 - 0.3 * blur(body, 4)), body, surface)
    image = shade(image, 1 - 0.5 * np.clip(body - blur(body, 4), 0, 1) * body)
    core = turn(ellipse_points((0, 0), (radius * 0.35, radius * 0.3 * aspect)), spin) + centre
    return blend(image, polygon(size, core), np.clip(surface * 0.5, 0, 1))


def label(rng: Rng, size: int, ground: Array, surface: Array, fault: str | None) -> Array:
    """A part with printed characters. Fault: print (smeared, doubled, incomplete or other characters)."""
    letters = np.array(list("ABCDEGHKLMNPRSTUVXZ1246789"))
    text, other = "".join(rng.choice(letters, 4)), "".join(rng.choice(letters, 4))
    how, ink = rng.integers(4), np.full(3, rng.choice([0.08, 0.95]))
    radius, angle, font = rng.uniform(70, 110), rng.uniform(-30, 30), rng.uniform(0.9, 1.7) * unit(size)
    shift = np.round(rng.uniform(4, 10, 2) * unit(size)).astype(int)
    body = polygon(size, ellipse_points((128, 128), (radius, radius * rng.uniform(0.6, 1))))
    image = blend(shade(ground, 1 - 0.3 * blur(body, 4)), body, surface)
    if fault == "print" and how == 0:
        text = other
    if fault == "print" and how == 1:
        text = text[:2]
    layer, face, thick = np.zeros((size, size), np.uint8), cv2.FONT_HERSHEY_DUPLEX, max(1, round(2.2 * unit(size)))
    (wide, high), _ = cv2.getTextSize(text, face, font, thick)
    cv2.putText(layer, text, ((size - wide) // 2, (size + high) // 2), face, font, 255, thick, cv2.LINE_AA)
    turned = cv2.warpAffine(layer, cv2.getRotationMatrix2D((size / 2, size / 2), angle, 1), (size, size))
    alpha: Array = turned.astype(np.float32) / 255
    if fault == "print" and how == 2:
        alpha = np.maximum(alpha, 0.7 * np.roll(alpha, tuple(shift), (0, 1)))
    if fault == "print" and how == 3:
        alpha = blur(alpha, 3) * 0.9
    return blend(image, alpha * (0.8 + 0.2 * noise(rng, size, 20, 1)), ink)


STRUCTURES: dict[Structure, tuple[str, ...]] = {
    array: ("missing", "misplaced", "color", "bent", "broken", "cut"),
    lattice: ("bent", "broken", "missing"),
    contour: ("bent", "broken", "cut", "misplaced"),
    label: ("print",),
}
