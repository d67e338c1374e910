"""Surfaces from clouds to tables: detection of objects and points, tuned and untuned, and the contest of examples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file
from torch import Tensor

from nandlib.data.groups import GOOD
from nandlib.evaluation.contest import LEAST_LEFT
from nandlib.evaluation.kshot import KShot
from nandlib.evaluation.result_tables import kshot_summary, shown_tables
from nandlib.evaluation.shown import SHOWN_K, shown_scores
from nandlib.evaluation.surface_areas import surface_areas
from nandlib.evaluation.uncertainty import GIVEN, SPECIFIC
from nandlib.study.open_kind import OpenKind
from nandlib.study.parallel import each
from nandlib.surfaces.config import SurfaceStudy
from nandlib.surfaces.contest import METHODS, ScoredSurfaces, SurfaceContest
from nandlib.surfaces.memory import SurfaceMemory
from nandlib.surfaces.samples import split_of

OBJECT_COLUMNS = ["part", "detector", "n_train", "n_good", "n_faulty", "auroc_object", "auroc_point"]
TYPE_COLUMNS = ["part", "detector", "group", "n", "auroc_object", "auroc_point"]
DETECTOR = "point_histograms"
KS = (1, 2, 4, 8)  # examples


def write_surfaces(study: OpenKind[SurfaceStudy], progress: bool = True) -> None:
    """Write ``objects.csv`` (`OBJECT_COLUMNS`), ``types.csv`` (`TYPE_COLUMNS`), and for the tuned detector ``kshot.csv``,
    ``intervals.csv`` and ``summary.csv`` (as of images), ``maps.safetensors`` for the pictures, and the protocol's own scores and tables
    with some examples of every type (`nandlib.evaluation.shown`).

    Args:
        study: Of surfaces.
        progress: Show a bar.
    """
    config, kept = study.config, dict[str, Tensor]()
    objects, types, scores = list[tuple[object, ...]](), list[tuple[object, ...]](), list[pd.DataFrame]()
    contest = _contest(config)
    for found in each(_Part(study), config.parts, name="parts", progress=progress):
        objects += found.objects
        types += found.types
        contest.extend(found.contest)
        scores.append(found.scores)
        kept |= found.pictured
    study.write_csv(pd.DataFrame(objects, columns=OBJECT_COLUMNS), "objects.csv")
    study.write_csv(pd.DataFrame(types, columns=TYPE_COLUMNS), "types.csv")
    for name, table in (("kshot", contest.table()), ("intervals", contest.intervals()), ("summary", kshot_summary(contest.table()))):
        study.write_csv(table.assign(detector=DETECTOR)[["detector", *table.columns]], f"{name}.csv")
    # no fault that is tested was drawn by what tuned the detector
    frame = pd.concat(scores, ignore_index=True)
    tables = shown_tables(frame, SPECIFIC if config.data.layout == "drawn" else GIVEN)
    study.write_protocol(frame, tables)
    study.data.mkdir(parents=True, exist_ok=True)
    save_file(kept, study.data / "maps.safetensors")


@dataclass(frozen=True)
class _Found:
    """Of one part: rows of both tables, the contest, scores with some examples shown, and what the pictures need."""

    objects: list[tuple[object, ...]]
    types: list[tuple[object, ...]]
    contest: KShot
    scores: pd.DataFrame
    pictured: dict[str, Tensor]


@dataclass(frozen=True)
class _Part:
    """All that is measured of one part."""

    study: OpenKind[SurfaceStudy]

    def __call__(self, name: str) -> _Found:
        config = self.study.config
        split = split_of(name, config.data, self.study.root)
        for own in split.test:
            own.cloud.nearest(config.reach)  # the most that is asked for
        good, objects, types = int((split.groups == GOOD).sum()), list[tuple[object, ...]](), list[tuple[object, ...]]()
        settings = {"untuned": config.untuned, "tuned": config.tuned}
        scored = {key: ScoredSurfaces(split, SurfaceMemory.fit(split.train, own), config.reach) for key, own in settings.items()}
        for detector, found in scored.items():
            counts = len(split.train), good, len(split.test) - good
            objects.append((name, detector, *counts, *surface_areas(split, found.maps)))
            for group in split.types:
                types.append((name, detector, group, int((split.groups == group).sum()), *surface_areas(split, found.maps, group)))
        one, contest = SurfaceContest(name, scored["tuned"], config.examples), _contest(config)
        contest.add(one)
        pictured = {f"{name}/{key}": tensor for key, tensor in _pictured(one)}
        return _Found(objects, types, contest, shown_scores(one, DETECTOR), pictured)


def _contest(config: SurfaceStudy) -> KShot:
    return KShot(KS, config.draws, methods=METHODS)


def _pictured(one: SurfaceContest) -> Iterator[tuple[str, Tensor]]:
    """Of the surface of median score of every type, and a good one: ``<type>/points``, ``mask``, ``maps``, and ``final/<added>`` with some
    examples of each type that are not shown in any picture."""
    scores, surfaces = one.scores("nothing", "", ()), one.tested.split.test
    chosen = {}
    for group in (GOOD, *one.added):
        own = np.flatnonzero(one.groups == group)
        chosen[group] = int(own[np.argsort(scores[own])[len(own) // 2]])
        yield f"{group}/points", torch.from_numpy(surfaces[chosen[group]].cloud.points).float()
        yield f"{group}/mask", torch.from_numpy(surfaces[chosen[group]].mask)
        yield f"{group}/maps", one.tested.maps[chosen[group]].clone()
    for added in one.added:
        own = np.setdiff1d(np.flatnonzero(one.groups == added), list(chosen.values()))
        if len(own) >= SHOWN_K + LEAST_LEFT - 1:
            final = one.final("examples", np.random.default_rng([0, SHOWN_K, *added.encode()]).permutation(own)[:SHOWN_K].tolist())
            for group, number in chosen.items():
                yield f"{group}/final/{added}", final[number]
