"""Which way a surface faces, at every point."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import breadth_first_order, connected_components, minimum_spanning_tree

NEIGHBOURS = 16  # nearest points, of which a normal is the direction of least spread
LONG = 5.0  # times the median step along the grid: a longer one leads from one surface to another
SLIGHT = 1e-3  # no edge of the tree weighs nothing: that would be no edge


def normals_of(points: np.ndarray, grid: np.ndarray | None, nearest: np.ndarray) -> np.ndarray:
    """Unit normals ``(P, 3)`` that all face one side.

    Cross products along the grid where the cloud is organised and neither step is `LONG`, as over the edge of what lies in front; else the
    direction of least spread of the nearest points (kNN-PCA).
    The sign goes along the spanning tree of the surface's nearest and most parallel points (Hoppe et al., 1992); of the two sides the
    front is the one that faces away from the centre on the whole, Σ (p - centre) · n > 0, which of a closed body is the outside. An even
    sheet has no such side: all its points agree on one of the two.

    Args:
        points: ``(P, 3)``.
        grid: ``(H, W)`` of an organised cloud: the point that lies in each cell, or -1.
        nearest: ``(P, k)`` positions of each point's nearest ones, itself among them.
    """
    found = _least_spread(points[nearest])
    if grid is not None:
        crossed = _crossed(points, grid)
        known = np.isfinite(crossed).all(1)
        found[known] = crossed[known]
    return found * _signs(points - points.mean(0), found, nearest)[:, None]


def _least_spread(around: np.ndarray) -> np.ndarray:
    centred = around - around.mean(1, keepdims=True)
    directions: np.ndarray = np.linalg.eigh(np.einsum("pki,pkj->pij", centred, centred))[1][:, :, 0]
    return directions


def _signs(centred: np.ndarray, found: np.ndarray, nearest: np.ndarray) -> np.ndarray:
    """1 or -1 for every normal ``(P,)``."""
    here, there = np.repeat(np.arange(len(found)), nearest.shape[1]), nearest.ravel()
    weights = 1 + SLIGHT - np.abs((found[here] * found[there]).sum(1))
    apart = here != there
    graph = coo_array((weights[apart], (here[apart], there[apart])), (len(found),) * 2)
    tree = csr_array(minimum_spanning_tree(graph.tocsr()))
    signs = np.ones(len(found))
    count, part = connected_components(tree, directed=False)
    for number in range(count):
        own = np.flatnonzero(part == number)
        order, before = breadth_first_order(tree, own[0], directed=False)
        rest = order[1:]  # in an order in which each comes after its neighbour on the tree
        turned = np.where((found[rest] * found[before[rest]]).sum(1) < 0, -1, 1)
        for place, turn in zip(rest, turned, strict=True):
            signs[place] = signs[before[place]] * turn
        if (signs[own, None] * found[own] * centred[own]).sum() < 0:
            signs[own] *= -1
    return signs


def _crossed(points: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Cross products of the differences across and down the grid ``(P, 3)``; no numbers where a neighbour is missing or far away."""
    place = np.where(grid[..., None] >= 0, points[grid], np.nan)
    across, down = (np.full_like(place, np.nan) for _ in range(2))
    across[:, 1:-1] = place[:, 2:] - place[:, :-2]
    down[1:-1] = place[2:] - place[:-2]
    for steps in (across, down):
        lengths = np.linalg.norm(steps, axis=-1)
        if (known := np.isfinite(lengths)).any():
            steps[lengths > LONG * np.median(lengths[known])] = np.nan
    crossed = np.cross(across, down)
    with np.errstate(invalid="ignore", divide="ignore"):
        crossed /= np.linalg.norm(crossed, axis=-1, keepdims=True)
    found = np.full_like(points, np.nan)
    found[grid[grid >= 0]] = crossed[grid >= 0]
    return found
