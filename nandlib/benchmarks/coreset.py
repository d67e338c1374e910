"""What it costs to choose PatchCore's memory shard by shard: how well it covers the patches, and AUROC, against the choice among all."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
from tqdm.auto import tqdm

from nandlib.detectors.patchcore import PatchCore
from nandlib.evaluation.protocol import auroc
from nandlib.study.images import image_paths
from nandlib.study.model import model_of
from nandlib.study.open_study import OpenStudy

COLUMNS = ["class", "images", "shards", "seed", "memory", "radius", "auroc", "difference", "seconds"]
SHARDS, SEEDS = (1, 2, 4, 8), (0, 1, 2)


def coreset_difference(study: OpenStudy, progress: bool = False) -> pd.DataFrame:
    """`COLUMNS`: a row a class, number of shards and seed; one shard is the exact greedy choice, among all patches.

    ``memory``: descriptors that are kept; ``radius``: the largest distance of a training-normal patch to what is kept, which the greedy
    choice makes small; ``auroc``: of good test images against all others, in percent, by the maximum of the map; ``difference``: to one
    shard with the same seed, in points (that of one shard with the next seed tells how much is luck); ``seconds``: to fit.

    Args:
        study: Its images must be there.
        progress: Show a progress bar.
    """
    rows, model = list[tuple[object, ...]](), model_of(study)
    for class_name in tqdm(study.classes(), desc="coreset", disable=not progress):
        normals, tests = (image_paths(study, class_name, split) for split in ("train", "test"))
        abnormal = (study.rows(class_name)["group"] != "good").to_numpy()
        for seed in SEEDS:
            exact = float("nan")
            for count in SHARDS:
                config = study.config.patchcore.model_copy(
                    update={"max_patches": None, "seed": seed, "shard_images": None if count == 1 else -(-len(normals) // count)}
                )
                start = time.perf_counter()
                detector = PatchCore(model, normals, config)
                seconds = time.perf_counter() - start
                area = auroc(abnormal, [float(single.max()) for single in detector(tests)])
                exact = area if count == 1 else exact
                radius = _radius(detector, normals)
                rows.append((class_name, len(normals), count, seed, len(detector.memory), radius, area, area - exact, seconds))
    return pd.DataFrame(rows, columns=COLUMNS).round({"radius": 3, "auroc": 2, "difference": 2, "seconds": 1})


def _radius(detector: PatchCore, normals: Sequence[Path]) -> float:
    """The largest distance of a normal patch to the memory."""
    largest = 0.0
    for path in normals:
        patches = detector.describe([path]).flatten(2)[0].T
        largest = max(largest, float(torch.cdist(patches, detector.memory).min(1).values.max()))
    return largest
