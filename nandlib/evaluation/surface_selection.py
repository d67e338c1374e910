"""How a study of surfaces was tuned: on Perlin anomalies that are laid on its normal surfaces (`nandlib.surfaces.made_up`).

The rules, stated beforehand. The detector: among candidates, the largest mean over parts of the AUROC per object and per point; of those
within half a point the one with the fewest neighbours, then the least smoothing. Normality by example, with that detector: the largest
mean share of the gap closed with one and with four examples; of those within one percent the greatest similarity, then the smallest
reach and sharpness.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
import pandas as pd
from torch import Tensor
from tqdm.auto import tqdm

from nandlib.evaluation.kshot import KShot
from nandlib.evaluation.result_tables import kshot_summary
from nandlib.evaluation.surface_areas import surface_areas
from nandlib.method.config import ExampleConfig
from nandlib.surfaces.clouds import Cloud
from nandlib.surfaces.config import MemoryConfig
from nandlib.surfaces.contest import ScoredSurfaces, SurfaceContest
from nandlib.surfaces.made_up import made_up
from nandlib.surfaces.memory import SurfaceMemory

NEIGHBOURS = ((16,), (32,), (64,), (128,), (32, 128))
SMOOTH = (1, 8, 24)
SIMILARITIES, SHARPNESSES, REACHES = (0.7, 0.8, 0.9, 0.95), (20.0, 60.0), (64, 128, 256, 512)
EACH, KS, DRAWS = 5, (1, 4), 5  # anomalies of a type for the detector (for examples it takes more)
NEAR, NEAR_SHARE = 0.5, 1.0
COLUMNS = ["neighbours", "smooth", "auroc_object", "auroc_point", "mean", "chosen"]
EXAMPLE_COLUMNS = ["similarity", "sharpness", "reach", "share_1", "share_4", "share", "chosen"]


def select_memory(parts: Mapping[str, Sequence[Cloud]], progress: bool = True) -> pd.DataFrame:
    """`COLUMNS`, a row a candidate: AUROC in percent, mean over parts.

    Args:
        parts: Training-normal surfaces of every part.
        progress: Show a bar.
    """
    splits, rows = [made_up(own, EACH) for own in parts.values()], []
    for neighbours in tqdm(NEIGHBOURS, desc="descriptors", disable=not progress):
        config = MemoryConfig(neighbours=neighbours)
        every = [ScoredSurfaces(split, SurfaceMemory.fit(split.train, config), 2) for split in splits]
        for smooth in SMOOTH:
            areas = [surface_areas(one.split, _smoothed(one, smooth)) for one in every]
            objects, points = np.mean(areas, 0)
            rows.append((" ".join(map(str, neighbours)), smooth, objects, points, (objects + points) / 2, False))
    table = pd.DataFrame(rows, columns=COLUMNS)
    table.loc[best_memory(table), "chosen"] = True
    return table


def _smoothed(one: ScoredSurfaces, smooth: int) -> list[Tensor]:
    parts = zip(one.split.test, one.distances, strict=True)
    return [one.detector.averaged(distances, own.cloud.nearest(smooth)) for own, distances in parts]


def best_memory(table: pd.DataFrame) -> int:
    """Row of the candidate that the rule takes."""
    near = table[table["mean"] >= table["mean"].max() - NEAR]
    most = near["neighbours"].map(lambda own: sum(map(int, own.split())))
    return int(near.assign(most=most).sort_values(["most", "smooth"]).index[0])


def chosen_memory(table: pd.DataFrame) -> MemoryConfig:
    """Settings of the chosen candidate."""
    row = table[table["chosen"]].iloc[0]
    return MemoryConfig(neighbours=tuple(int(k) for k in str(row["neighbours"]).split()), smooth=int(row["smooth"]))


def select_shown(parts: Mapping[str, Sequence[Cloud]], memory: MemoryConfig, progress: bool = True) -> pd.DataFrame:
    """`EXAMPLE_COLUMNS`, a row a candidate: shares of the gap closed in percent.

    Args:
        parts: Training-normal surfaces of every part.
        memory: Of the detector.
        progress: Show a bar.
    """
    splits = {name: made_up(own) for name, own in parts.items()}
    fitted = {name: SurfaceMemory.fit(split.train, memory) for name, split in splits.items()}
    rows = []
    for reach in tqdm(REACHES, desc="reach", disable=not progress):
        every = {name: ScoredSurfaces(split, fitted[name], reach) for name, split in splits.items()}
        for similarity, sharpness in product(SIMILARITIES, SHARPNESSES):
            found = KShot(KS, DRAWS, resamples=1, methods=("nothing", "examples"))
            for name, tested in every.items():
                found.add(SurfaceContest(name, tested, ExampleConfig(similarity=similarity, sharpness=sharpness)))
            summary = kshot_summary(found.table()).query("method == 'examples'").set_index("k")
            shares = [float(share) for share in summary["gap_closed"].loc[list(KS)]]
            rows.append((similarity, sharpness, reach, *shares, float(np.mean(shares)), False))
    table = pd.DataFrame(rows, columns=EXAMPLE_COLUMNS)
    table.loc[best_shown(table), "chosen"] = True
    return table


def best_shown(table: pd.DataFrame) -> int:
    """Row of the candidate that the rule takes."""
    near = table[table["share"] >= table["share"].max() - NEAR_SHARE]
    return int(near.sort_values(["similarity", "reach", "sharpness"], ascending=[False, True, True]).index[0])
