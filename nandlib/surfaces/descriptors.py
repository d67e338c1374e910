"""Fast point feature histograms: how the surface turns around a point, whatever its pose (Rusu, Blodow, Beetz, ICRA 2009).

P points, k neighbours, B bins.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from nandlib.errors import DataError
from nandlib.surfaces.clouds import Cloud

BINS = 11  # of each of the three angles
TINY = 1e-12


def pair_angles(points: np.ndarray, normals: np.ndarray, nearest: np.ndarray) -> np.ndarray:
    """The three angles between each point and its neighbours ``(P, k)``, in 0..1: ``(3, P, k)``.

    In the frame u = n_p, v = u × d, w = u × v, with d the direction to the neighbour: v · n_q, u · d and the angle of n_q in the plane
    of u and w.
    """
    away = _unit(points[nearest] - points[:, None])
    u = np.broadcast_to(normals[:, None], away.shape)
    v = _unit(np.cross(u, away))
    w, other = np.cross(u, v), normals[nearest]
    across, up, aside, ahead = (np.einsum("pki,pki->pk", *pair) for pair in ((v, other), (u, away), (w, other), (u, other)))
    return np.stack([(across + 1) / 2, (up + 1) / 2, (np.arctan2(aside, ahead) / np.pi + 1) / 2])


def _unit(vectors: np.ndarray) -> np.ndarray:
    found: np.ndarray = vectors / np.maximum(np.sqrt(np.einsum("pki,pki->pk", vectors, vectors))[..., None], TINY)
    return found


def histograms(values: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Of values in 0..1 ``(P, k)``, each shared by the two bins whose centres lie nearest: ``(P, bins)``, rows sum to 1."""
    place = np.clip(values * bins - 0.5, 0, bins - 1)
    low = np.minimum(place.astype(np.int64), bins - 2)
    rows, share = np.arange(len(values))[:, None] * bins, place - low
    size = len(values) * bins
    found = np.bincount((rows + low).ravel(), (1 - share).ravel(), size) + np.bincount((rows + low + 1).ravel(), share.ravel(), size)
    counted: np.ndarray = found.reshape(len(values), bins) / values.shape[1]
    return counted


def fpfh(cloud: Cloud, neighbours: int) -> np.ndarray:
    """``(P, 33)``: each point's own histograms, plus the mean of its neighbours', the nearer the heavier.

    Args:
        cloud: Of a surface.
        neighbours: k.
    """
    points = cloud.points - cloud.points.mean(0)  # about the centre few digits are enough
    nearest = cloud.nearest(neighbours + 1)[:, 1:]
    angles = pair_angles(points.astype(np.float32), cloud.normals.astype(np.float32), nearest)
    own = np.concatenate([histograms(values) for values in angles], 1)
    away = points[nearest] - points[:, None]
    weights = 1 / np.maximum(np.sqrt(np.einsum("pki,pki->pk", away, away)), TINY)
    weights /= weights.sum(1, keepdims=True)
    mean = csr_array((weights.ravel(), nearest.ravel(), np.arange(len(own) + 1) * weights.shape[1]), shape=(len(own), len(own)))
    found: np.ndarray = own + mean @ own
    return found


def described(clouds: Sequence[Cloud], neighbours: Sequence[int]) -> list[Tensor]:
    """Square roots of the histograms of several neighbourhoods, side by side (distances are Hellinger's): each ``(P, 33 · n)`` float32.

    Raises:
        DataError: If they are no clouds.
    """
    if isinstance(clouds, Cloud) or not all(isinstance(own, Cloud) for own in clouds):
        raise DataError("surfaces are a list of clouds: as_cloud(array) or read_cloud(path) gives one")

    def one(cloud: Cloud) -> Tensor:
        parts = [np.sqrt(fpfh(cloud, count)) for count in neighbours]
        return torch.from_numpy(np.concatenate(parts, 1).astype(np.float32))

    return [one(cloud) for cloud in clouds]
