"""What detectors cost, beside what they find: PatchCore and those that are trained, on one study, in one run."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from nandlib.benchmarks.images import timed
from nandlib.data.images import as_image
from nandlib.detectors.base import TorchDetector
from nandlib.detectors.fitted import FittedDetector
from nandlib.detectors.patchcore import PatchCore
from nandlib.errors import DataError
from nandlib.evaluation.protocol import auroc
from nandlib.models import VisionLanguageModel
from nandlib.stages.maps import FITTING
from nandlib.study.fitted import fitted_detectors
from nandlib.study.images import image_paths
from nandlib.study.model import model_of
from nandlib.study.open_study import OpenStudy

COLUMNS = ["detector", "train_s", "peak_gb", "image_ms", "backbone_ratio", "state_mb", "auroc_map", "auroc_official"]
IMAGES, REPEATS = 8, 5


def detector_cost(study: OpenStudy) -> pd.DataFrame:
    """`COLUMNS` for PatchCore and the trained detectors of a study whose stages have been run.

    ``train_s``: seconds to fit all classes, and ``peak_gb``: the process's largest memory until then, as the stage ``maps`` noted them;
    ``image_ms``: milliseconds an image from its tensor to its map, in batches of eight, and ``backbone_ratio``: how many times the bare
    pass of the embedded tower that is (at full size: of the detector's own backbone), medians of passes in turn; ``state_mb``: megabytes
    of state (PatchCore: of its memory), all classes together; ordinary image AUROC in percent by the maximum of the map and by the
    official score, mean over classes.

    Detectors of which the stage ``maps`` noted nothing, since their maps had been there, are left out.

    Raises:
        DataError: If that is true of all of them.
    """
    path = study.data / FITTING
    fitting: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    names = [name for name in study.config.detectors if name in fitting]
    if not names:
        raise DataError(f"{path} says of no detector how long fitting took: remove {study.data / 'maps'} and run the stage maps again")
    model = model_of(study)
    rows = []
    for name in names:
        own = fitted_detectors(study, name, model, study.classes())
        speed, found = _speed(own, study, model), study.base_auroc.query("detector == @name")["auroc"].mean()
        rows.append(
            (name, *(fitting[name][key] for key in ("train_s", "peak_gb")), *speed, _state(own), found, _official(own, study, found))
        )
    table = pd.DataFrame(rows, columns=COLUMNS)
    return table.round({"image_ms": 1, "backbone_ratio": 2, "state_mb": 2})


@torch.no_grad()
def _speed(own: Mapping[str, TorchDetector], study: OpenStudy, model: VisionLanguageModel) -> tuple[float, float]:
    class_name, detector = next(iter(own.items()))
    images = [as_image(path) for path in image_paths(study, class_name)[:IMAGES]]
    batch, times = torch.stack([detector.preprocess(image) for image in images]), list[list[float]]()
    bare = _backbone(detector, study, model)
    for _ in range(REPEATS + 1):  # the first warms up; the tower remembers the tensor itself, hence the clones
        times.append([timed(partial(run, batch.clone())) for run in (bare, detector.maps)])
    bare, whole = np.median(times[1:], axis=0)
    return 1000 * float(whole) / len(batch), float(whole / bare)


def _backbone(detector: TorchDetector, study: OpenStudy, model: VisionLanguageModel) -> Callable[[Tensor], object]:
    """The embedded tower, of which all detectors there take layers; at full size each has its own network."""
    if study.config.model.name == "mini":
        tower: Callable[[Tensor], object] = model.tower
        return tower
    if isinstance(detector, PatchCore):
        network, device = detector.network, study.config.model.device
        return lambda batch: network.feature_extractor(batch.to(device))
    assert isinstance(detector, FittedDetector)
    return detector.features.layers


def _state(own: Mapping[str, TorchDetector]) -> float:
    tensors: dict[int, Tensor] = {}
    for one in own.values():
        held = one.tensors.values() if isinstance(one, FittedDetector) else [one.memory] if isinstance(one, PatchCore) else []
        tensors |= {tensor.data_ptr(): tensor for tensor in held}
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()) / 1e6


def _official(own: Mapping[str, TorchDetector], study: OpenStudy, by_map: float) -> float:
    """By the official image score; PatchCore's is the maximum of the map."""
    found = []
    for class_name, detector in own.items():
        if not isinstance(detector, FittedDetector):
            return by_map
        label = study.rows(class_name)["group"] != "good"
        found.append(auroc(label, detector.image_scores(image_paths(study, class_name))))
    return float(np.mean(found))
