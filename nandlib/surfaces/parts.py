"""Five parts, each a function of a few measures that vary a little from piece to piece, scanned at points.

Every part is one net of quadrilaterals between rings of corners, so that five of them take one line each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from nandlib.errors import DataError, nearest
from nandlib.surfaces.clouds import Cloud, as_cloud

VARIATION = 0.01  # deviation of every measure from piece to piece, relative
NOISE = 0.0005  # deviation of a point from the surface, of the diagonal
Measure = Callable[[float], float]


def _turned(profile: list[tuple[float, float]], steps: int = 96) -> np.ndarray:
    """Rings ``(R, steps, 3)`` of a profile of radii and heights that turns about the vertical axis."""
    angle = np.linspace(0, 2 * np.pi, steps, endpoint=False)
    circle = np.stack([np.cos(angle), np.sin(angle), np.zeros(steps)], 1)
    return np.stack([radius * circle + [0, 0, height] for radius, height in profile])


def _torus(of: Measure) -> np.ndarray:
    ring, tube, turn = of(1.0), of(0.35), np.linspace(0, 2 * np.pi, 49)
    return _turned([(ring + tube * np.cos(t), tube * np.sin(t)) for t in turn])


def _bottle(of: Measure) -> np.ndarray:
    body, neck, tall = of(0.5), of(0.18), of(1.9)
    shoulder = [(neck + (body - neck) * (1 + np.cos(t)) / 2, tall * (0.6 + 0.2 * t / np.pi)) for t in np.linspace(0, np.pi, 16)]
    return _turned([(0, 0), (body, 0), *shoulder, (neck, tall), (0, tall)])


def _gear(of: Measure, teeth: int = 12) -> np.ndarray:
    hole, root, tooth, thick = of(0.35), of(0.85), of(0.2), of(0.35)
    rings = _turned([(hole, 0), (root, 0), (root, thick), (hole, thick), (hole, 0)], 16 * teeth)
    place = np.arange(16 * teeth) % 16
    high = np.clip((4.5 - np.abs(place - 7.5)) / 1.5, 0, 1)  # flanks over three corners
    rings[1:3, :, :2] *= (1 + tooth / root * high)[:, None]
    return rings


def _bracket(of: Measure) -> np.ndarray:
    foot, wall, thick, wide = of(1.2), of(1.0), of(0.2), of(0.9)
    corner = [(0, 0), (foot, 0), (foot, thick), (thick, thick), (thick, wall), (0, wall), (0, 0)]
    outline = np.array([(x, 0.0, z) for x, z in corner])
    inside = np.full_like(outline, thick / 2) * [1, 0, 1]  # from here all of the outline is seen
    return np.stack([inside, outline, outline + [0, wide, 0], inside + [0, wide, 0]])


def _ribs(of: Measure, ribs: int = 4) -> np.ndarray:
    long, wide, high, thick = of(2.0), of(1.4), of(0.12), of(0.1)
    x, y = np.linspace(0, long, 161), np.linspace(0, wide, 9)
    centres = long * (np.arange(ribs) + 0.5) / ribs
    rib = np.clip(1.5 - np.abs(x[:, None] - centres) / thick, 0, 1).max(1)
    return np.stack([np.stack([x, np.full_like(x, place), high * rib], 1) for place in y])


PARTS: Mapping[str, tuple[Callable[[Measure], np.ndarray], bool]] = {  # rings, and whether each closes
    "bracket": (_bracket, False),
    "gear": (_gear, True),
    "bottle": (_bottle, True),
    "torus": (_torus, True),
    "ribbed_sheet": (_ribs, False),
}


def net(rings: np.ndarray, closed: bool) -> np.ndarray:
    """Triangles ``(T, 3, 3)`` between consecutive rings ``(R, M, 3)``; `closed`: the last corner of a ring meets its first."""
    lower, upper = rings[:-1], rings[1:]
    shifted = [np.roll(own, -1, axis=1) for own in (lower, upper)]
    if not closed:
        lower, upper, *shifted = (own[:, :-1] for own in (lower, upper, *shifted))
    halves = np.stack([lower, shifted[0], shifted[1]], 2), np.stack([lower, shifted[1], upper], 2)
    return np.concatenate([half.reshape(-1, 3, 3) for half in halves])


def part(name: str, seed: int, points: int = 4096) -> Cloud:
    """A piece of one of `PARTS`: about so many points, evenly spread over its surface (trimesh), in no order.

    Args:
        name: Of the part.
        seed: Of the piece: its measures, the points and their noise.
        points: How many are tried; those that lie too close to another are left out.

    Raises:
        DataError: If there is no such part.
    """
    import trimesh

    if name not in PARTS:
        raise DataError(f"no part '{name}': {nearest(name, list(PARTS))}")
    rng = np.random.default_rng([seed, *name.encode()])
    rings, closed = PARTS[name]
    triangles = net(rings(lambda size: size * (1 + VARIATION * rng.standard_normal())), closed)
    mesh = trimesh.Trimesh(**trimesh.triangles.to_kwargs(triangles))
    found = np.asarray(trimesh.sample.sample_surface_even(mesh, points, seed=int(rng.integers(2**31)))[0])
    return as_cloud(found + NOISE * np.linalg.norm(np.ptp(found, 0)) * rng.standard_normal(found.shape), name)
