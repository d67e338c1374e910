"""What the settings of a full-size image tower cost, against its bare float32 pass, and how far their anomaly maps are from its maps."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pandas as pd
import torch
from torch import Tensor

from nandlib.detectors.aprilgan import anomaly_map
from nandlib.errors import ModelError
from nandlib.method.detection import text_feature
from nandlib.method.operators import similarities
from nandlib.models import Placement
from nandlib.models.clip import ClipModel
from nandlib.models.precision import bfloat16_cost
from nandlib.study.model import model_of
from nandlib.study.open_study import OpenStudy

COLUMNS = ["setting", "seconds", "ratio", "difference", "bfloat16_cost"]
IMAGES, REPEATS = 2, 3
Setting = Callable[[], AbstractContextManager[None]]


@torch.no_grad()
def precision_cost(study: OpenStudy, images: int = IMAGES, repeats: int = REPEATS) -> pd.DataFrame:
    """`COLUMNS`, medians of passes in turn in one run, images of noise.

    ``seconds``: an image, from its tensor to its projected tokens; ``ratio``: to the bare pass of the tower in float32, as open_clip
    runs it; ``difference``: the largest of the anomaly maps (range 0 to 4, with the study's prompts for its first class) to float32's;
    ``bfloat16_cost``: what a matrix product in bfloat16 takes here, as a share of float32's time.

    Args:
        study: Of CLIP, as published or with random weights.
        images: In a batch.
        repeats: Passes of each kind.

    Raises:
        ModelError: If the study's model is not CLIP.
    """
    model, nand = model_of(study), study.config.nand
    if not isinstance(model, ClipModel):
        raise ModelError(f"the study '{study.name}' has the model '{study.config.model.name}': this measures CLIP; take mvtec_ad_random")
    prompts = study.prompts.of_class(study.classes()[0], {})
    normal, abnormal = (text_feature(model, sentences, study.prompts) for sentences in list(prompts.values())[:2])
    batch = torch.randn(images, 3, model.image_size, model.image_size, generator=torch.Generator().manual_seed(0))

    def maps() -> Tensor:
        features = model.encode_image(batch)
        cos = similarities(features.tokens, torch.stack([normal, abnormal]))
        return anomaly_map(cos[:, 1], cos[:, 0], grid=features.grid, temperature=nand.temperature or model.temperature, nand=nand)

    settings = {
        "float32": _placed(model, Placement()),
        "autocast": _placed(model, Placement(precision="autocast")),
        "autocast, channels last": _placed(model, Placement(precision="autocast"), channels_last=True),
        "autocast, compiled": _placed(model, Placement(precision="autocast"), compiled=True),
    }
    expected, differences, times = maps(), {}, dict[str, list[float]]()
    for name, setting in settings.items():
        with setting():
            differences[name] = float((maps() - expected).abs().max())  # and warms it up
    for _ in range(repeats):
        times.setdefault("bare", []).append(_seconds(lambda: model.tower(batch)))
        for name, setting in settings.items():
            with setting():
                times.setdefault(name, []).append(_seconds(lambda: model.encode_image(batch)))
    rows = [
        (name, statistics.median(own) / images, statistics.median(a / b for a, b in zip(own, times["bare"], strict=True)))
        for name, own in times.items()
    ]
    table = pd.DataFrame(rows, columns=COLUMNS[:3]).assign(difference=lambda t: t["setting"].map(differences))
    return table.assign(bfloat16_cost=bfloat16_cost("cpu")).round({"seconds": 2, "ratio": 2, "difference": 5, "bfloat16_cost": 2})


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _placed(model: ClipModel, placement: Placement, *, channels_last: bool = False, compiled: bool = False) -> Setting:
    """A context in which the model runs so; it is as before afterwards."""
    plain = model.placement
    run = torch.compile(model.tower.forward_intermediates) if compiled else None

    @contextmanager
    def setting() -> Iterator[None]:
        model.placement = placement
        model.tower.to(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
        if run is not None:
            model.tower.forward_intermediates = run
        try:
            yield
        finally:
            model.placement = plain
            if run is not None:
                del model.tower.forward_intermediates

    return setting
