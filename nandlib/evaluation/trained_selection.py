"""How the embedded settings of the trained detectors were chosen: A0 on products that no table reports."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from nandlib.data.images import as_image
from nandlib.detectors.config import TOGETHER
from nandlib.detectors.fitted import FittedDetector
from nandlib.detectors.trained import TRAINED
from nandlib.evaluation.protocol import auroc
from nandlib.models import VisionLanguageModel
from nandlib.study.images import image_paths
from nandlib.study.model import model_of
from nandlib.study.open_study import OpenStudy

CANDIDATES: Mapping[str, Sequence[Mapping[str, Any]]] = {  # what differs from the settings as they stand
    "uniad": (
        {},
        {"stages": (4, 5)},
        {"rate": 3e-3},
        {"rate": 3e-3, "epochs": 40},
        {"stages": (4, 5), "rate": 3e-3},
        {"stages": (4, 5), "rate": 3e-3, "grid": 14, "epochs": 80},
        {"stages": (3, 4), "rate": 3e-3, "grid": 14, "epochs": 80},
    ),
    "onenip": (
        {},
        {"rate": 3e-3},
        {"rate": 3e-3, "epochs": 40},
        {"rate": 3e-3, "versions": 8},
        {"stages": (5,)},
        {"stages": (5,), "versions": 8},
        {"stages": (5,), "rate": 3e-3},
        {"stages": (5,), "rate": 3e-3, "epochs": 40},
        {"stages": (5,), "rate": 3e-3, "versions": 4},
        {"stages": (5,), "rate": 3e-3, "versions": 8},
        {"stages": (5,), "rate": 3e-3, "dropout": 0.1},
        {"stages": (5,), "rate": 3e-3, "dropout": 0.1, "versions": 8},
        {"stages": (5,), "rate": 3e-3, "grid": 14},
    ),
    "pbas": (
        {},
        {"rate_factor": 10.0},
        {"rate_factor": 10.0, "epochs": 40},
        {"rate_factor": 10.0, "stages": (2, 3, 4), "epochs": 40},
        {"rate_factor": 10.0, "stages": (3, 4), "epochs": 40},
        {"rate_factor": 10.0, "stages": (3, 4)},
    ),
    "pradot": ({}, {"stages": (4,)}),
    "hetnet_style": ({}, {"second": "self_trained"}),
    "fader_style": ({}, {"side": 96}),
}
LONGER: Mapping[str, Sequence[Mapping[str, Any]]] = {  # what the reduction costs: two to four times the epochs
    "uniad": ({"epochs": 480}, {"rate": 3e-3, "epochs": 480}, {"stages": (4, 5), "rate": 3e-3, "epochs": 480}),
    "onenip": ({"epochs": 240}, {"stages": (5,), "rate": 3e-3, "epochs": 240}),
    "pbas": ({"epochs": 160}, {"rate_factor": 10.0, "epochs": 160}, {"rate_factor": 10.0, "stages": (3, 4), "epochs": 160}),
    "pradot": ({"epochs": 100},),
}
COLUMNS = ["detector", "changed", "auroc_map", "auroc_official", "kind"]


def select_trained(study: OpenStudy, known: pd.DataFrame | None = None, progress: bool = True) -> Iterator[pd.DataFrame]:
    """`COLUMNS`: mean A0 over the classes of a study (image AUROC of good against all others, percent) by the map's maximum and by the
    official score; the settings as they stand are ``{}``. Gives the table anew with every row that is found: it takes hours.

    ``kind``: ``chosen`` for the candidate with the highest A0 by the map, ``candidate`` for the others, ``longer`` for what longer
    training would give: no candidate, since a study should train in minutes.

    Args:
        study: On whose test images settings may be chosen.
        known: Rows that an earlier run has found.
        progress: Show a progress bar.
    """
    model = model_of(study)
    rows = {(row["detector"], row["changed"]): row for row in ([] if known is None else known.to_dict("records"))}
    every = [(name, change, "candidate") for name, changes in CANDIDATES.items() for change in changes]
    every += [(name, change, "longer") for name, changes in LONGER.items() for change in changes]
    for name, change, kind in tqdm(every, desc="candidates", disable=not progress):
        if (name, str(dict(change))) not in rows:
            found = [_a0(one, study, class_name) for class_name, one in _fitted(name, change, study, model).items()]
            values = (name, str(dict(change)), *np.mean(found, axis=0), kind)
            rows[values[:2]] = dict(zip(COLUMNS, values, strict=True))
            yield _chosen(pd.DataFrame([rows[key] for key in ((n, str(dict(c))) for n, c, _ in every) if key in rows]))


def _chosen(table: pd.DataFrame) -> pd.DataFrame:
    """With the best candidate of every detector marked."""
    table["kind"] = table["kind"].replace("chosen", "candidate")
    best = table[table["kind"] == "candidate"].groupby("detector")["auroc_map"].idxmax()
    table.loc[best, "kind"] = "chosen"
    return table


def _fitted(name: str, change: Mapping[str, Any], study: OpenStudy, model: VisionLanguageModel) -> dict[str, FittedDetector[Any]]:
    kind, normals = TRAINED[name], {class_name: image_paths(study, class_name, "train") for class_name in study.classes()}
    config = kind.config_type.model_validate(dict(change))
    if name in TOGETHER:
        whole = kind.fit(normals, model, config)
        return {class_name: whole.of_class(class_name) for class_name in normals}
    return {class_name: kind.fit({class_name: own}, model, config) for class_name, own in normals.items()}


@torch.no_grad()
def _a0(detector: FittedDetector[Any], study: OpenStudy, class_name: str) -> tuple[float, float]:
    label, paths = study.rows(class_name)["group"] != "good", image_paths(study, class_name)
    peaks: list[Tensor] = [detector.maps(detector.preprocess(as_image(path))[None]).amax() for path in paths]
    return auroc(label, torch.stack(peaks)), auroc(label, detector.image_scores(paths))
