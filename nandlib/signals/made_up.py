"""Typed anomalies made on normal records: on these the settings of normality by example in time are chosen, not on a patient's.

N records, K leads, Q samples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from nandlib.data.groups import GOOD
from nandlib.errors import DataError
from nandlib.signals.records import Records, Split

Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def _bump(q: int, centre: float, width: float) -> np.ndarray:
    found: np.ndarray = np.exp(-(((np.arange(q) / q - centre) / width) ** 2))
    return found


def _raised(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A slow rise, as of an ST segment."""
    return x + x.std() * rng.uniform(0.8, 1.6) * _bump(x.shape[1], rng.uniform(0.35, 0.45), 0.12)


def _inverted(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A wave turned upside down about its mean."""
    weight = _bump(x.shape[1], rng.uniform(0.65, 0.75), 0.1)
    return x - 2 * weight * (x - x.mean(1, keepdims=True)) * rng.uniform(0.8, 1.2)


def _early(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """All that follows comes earlier."""
    q, by = x.shape[1], rng.uniform(0.08, 0.15)
    at = np.linspace(0, 1, q)
    moved = np.clip(at + by * np.clip((at - 0.2) / 0.2, 0, 1), 0, 1)
    return np.stack([np.interp(moved, at, lead) for lead in x])


def _spiked(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A second sharp wave."""
    return x + x.std() * rng.uniform(1.5, 2.5) * _bump(x.shape[1], rng.uniform(0.55, 0.62), 0.02)


def _flattened(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The end of the record loses its height."""
    weight = np.clip((np.arange(x.shape[1]) / x.shape[1] - rng.uniform(0.72, 0.8)) / 0.05, 0, 1)
    return x * (1 - weight) + x.mean(1, keepdims=True) * weight


TYPES: Mapping[str, Change] = {"raised": _raised, "inverted": _inverted, "early": _early, "spiked": _spiked, "flattened": _flattened}


def made_up(normals: np.ndarray, each: int = 20, seed: int = 0) -> Split:
    """Normal records to train on, and others of which some are changed.

    Args:
        normals: ``(N, K, Q)``; half are trained on.
        each: Records of every type, and good ones twice as many, drawn with replacement where there are fewer.
        seed: Of the draws.

    Raises:
        DataError: If there are fewer than two.
    """
    if len(normals) < 2:
        raise DataError(f"{len(normals)} normal record(s): two or more, to train on some and change others")
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(normals))
    half = len(normals) // 2
    groups = [GOOD] * (2 * each) + [name for name in TYPES for _ in range(each)]
    rest = order[half:]
    chosen = normals[rng.choice(rest, len(groups), replace=len(rest) < len(groups))]
    tested = [TYPES[name](own, rng) if name != GOOD else own for name, own in zip(groups, chosen, strict=True)]
    trained = Records(normals[order[:half]], np.full(half, GOOD))
    return Split(trained, Records(np.stack(tested).astype(np.float32), np.array(groups)))
