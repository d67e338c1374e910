"""Which way a surface faces, at every point."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from nandlib.surfaces.clouds import Cloud

NEIGHBOURS = 16


def normals_of(cloud: Cloud, neighbours: int = NEIGHBOURS) -> np.ndarray:
    """Unit normals ``(P, 3)``, turned to point away from the centre of the cloud.

    Cross products along the grid where the cloud is organised, else the direction of least spread of the nearest points (kNN-PCA).

    Args:
        cloud: Of the surface.
        neighbours: k of the nearest points.
    """
    found = _nearest(cloud.points, neighbours)
    if cloud.grid is not None:
        crossed = _crossed(cloud.points, cloud.grid)
        known = np.isfinite(crossed).all(1)
        found[known] = crossed[known]
    outward = ((cloud.points - cloud.points.mean(0)) * found).sum(1)
    turned: np.ndarray = np.where(outward[:, None] < 0, -found, found)
    return turned


def _nearest(points: np.ndarray, neighbours: int) -> np.ndarray:
    around = points[cKDTree(points).query(points, min(neighbours, len(points)))[1]]
    centred = around - around.mean(1, keepdims=True)
    directions: np.ndarray = np.linalg.eigh(np.einsum("pki,pkj->pij", centred, centred))[1][:, :, 0]
    return directions


def _crossed(points: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Cross products of the differences across and down the grid ``(P, 3)``; no numbers where a neighbour is missing."""
    place = np.where(grid[..., None] >= 0, points[grid], np.nan)
    across, down = (np.full_like(place, np.nan) for _ in range(2))
    across[:, 1:-1] = place[:, 2:] - place[:, :-2]
    down[1:-1] = place[2:] - place[:-2]
    crossed = np.cross(across, down)
    with np.errstate(invalid="ignore", divide="ignore"):
        crossed /= np.linalg.norm(crossed, axis=-1, keepdims=True)
    found = np.full_like(points, np.nan)
    found[grid[grid >= 0]] = crossed[grid >= 0]
    return found
