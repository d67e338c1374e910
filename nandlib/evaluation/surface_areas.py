"""AUROC of surfaces, per object and per point."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from nandlib.data.groups import GOOD
from nandlib.evaluation.protocol import auroc
from nandlib.surfaces.memory import object_score
from nandlib.surfaces.samples import SurfaceSplit


def surface_areas(split: SurfaceSplit, maps: Sequence[Tensor], group: str | None = None) -> tuple[float, float]:
    """AUROC in percent: good objects against those at fault by the maximum of the map, and all their points by A, good objects' too (NaN
    where no point is marked: masks may lie on the table, which is left out).

    Args:
        split: Tested surfaces.
        maps: A of each ``(P,)``.
        group: Of the faults that count; None: all, the untyped ones too.
    """
    taken = [(own, found) for own, found in zip(split.test, maps, strict=True) if own.group == GOOD or group in (None, own.group)]
    objects = auroc(np.array([own.group != GOOD for own, _ in taken]), np.array([object_score(found) for _, found in taken]))
    marked = np.concatenate([own.mask for own, _ in taken])
    points = auroc(marked, np.concatenate([found.numpy() for _, found in taken])) if 0 < marked.sum() < len(marked) else float("nan")
    return objects, points
