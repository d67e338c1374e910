"""What detectors ask of a small device: parameters, multiplications and additions, milliseconds an image on one core."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from nandlib.data.images import as_image
from nandlib.detectors.aprilgan import AprilGan
from nandlib.detectors.base import TorchDetector
from nandlib.detectors.fader import FaderStyle
from nandlib.detectors.fitted import FittedDetector
from nandlib.detectors.patchcore import PatchCore
from nandlib.evaluation.scope import measured
from nandlib.models import VisionLanguageModel
from nandlib.models.mini import MiniModel
from nandlib.study.fitted import fitted_detectors
from nandlib.study.images import image_paths
from nandlib.study.model import model_of
from nandlib.study.open_study import OpenStudy

COLUMNS = ["detector", "parameters", "memory_values", "mflops", "image_ms", "auroc"]
REPEATS = 9


@torch.no_grad()
def edge_cost(study: OpenStudy) -> pd.DataFrame:
    """`COLUMNS` for the measured detectors of a study whose stages have been run, on its first class, one image at a time, one thread.

    ``parameters`` of all networks that run, the frozen backbone among them; ``memory_values``: numbers that are kept besides (PatchCore's
    memory, prototypes, centres); ``mflops``: millions of multiplications and additions in convolutions and matrix products (distances to
    a memory are not counted); ``image_ms``: from the input tensor to the map, median; ``auroc``: of any defect, mean over all classes.
    """
    model, class_name = model_of(study), study.classes()[0]
    image = as_image(image_paths(study, class_name)[0])
    detectors = {name: fitted_detectors(study, name, model, [class_name])[class_name] for name in measured(study)}
    threads, rows = torch.get_num_threads(), []
    torch.set_num_threads(1)
    try:
        for name, detector in detectors.items():
            batch = detector.preprocess(image)[None]
            networks, kept = _sizes(detector, model)
            with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
                detector.maps(batch.clone())
            times = [_milliseconds(detector, batch) for _ in range(REPEATS)]
            found = study.base_auroc.query("detector == @name")["auroc"].mean()
            rows.append((name, networks, kept, counter.get_total_flops() / 1e6, statistics.median(times), found))
    finally:
        torch.set_num_threads(threads)
    return pd.DataFrame(rows, columns=COLUMNS).round({"mflops": 1, "image_ms": 2})


def _milliseconds(detector: TorchDetector, batch: Tensor) -> float:
    fresh, start = batch.clone(), time.perf_counter()  # the tower remembers the tensor itself
    detector.maps(fresh)
    return 1000 * (time.perf_counter() - start)


def _sizes(detector: TorchDetector, model: VisionLanguageModel) -> tuple[int, int]:
    """Parameters that run, and other numbers that are kept."""
    tower = 0 if isinstance(detector, FaderStyle) else _count(model.tower)
    if isinstance(detector, AprilGan):
        assert isinstance(model, MiniModel)  # at embedded size
        return tower + _count(model.heads), 0
    if isinstance(detector, PatchCore):
        return tower, detector.memory.numel()
    assert isinstance(detector, FittedDetector)  # all that is measured
    networks = {id(part): part for part in _networks(detector)}
    own = sum(_count(part) for part in networks.values())
    return tower + own, sum(tensor.numel() for tensor in detector.tensors.values()) - sum(_stored(part) for part in networks.values())


def _networks(detector: FittedDetector[Any]) -> Iterator[nn.Module]:
    yield from (part for part in vars(detector).values() if isinstance(part, nn.Module))


def _count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _stored(network: nn.Module) -> int:
    return sum(tensor.numel() for tensor in network.state_dict().values())
