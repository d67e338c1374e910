"""What the settings of a full-size image tower cost, against its bare float32 pass, and how far their anomaly maps are from its maps."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

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
IMAGES, REPEATS = 1, 2


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

    def maps(variant: ClipModel) -> Tensor:
        features = variant.encode_image(batch)
        cos = similarities(features.tokens, torch.stack([normal, abnormal]))
        return anomaly_map(cos[:, 1], cos[:, 0], grid=features.grid, temperature=nand.temperature or model.temperature, nand=nand)

    def seconds(name: str, run: Callable[[], object]) -> float:
        model.tower.to(memory_format=torch.channels_last if "channels last" in name else torch.contiguous_format)
        start = time.perf_counter()
        run()
        return time.perf_counter() - start

    half = Placement(precision="autocast")
    placements = {
        "float32": Placement(),
        "autocast": half,
        "autocast, channels last": half,
        "autocast, compiled": replace(half, compiled=True),
    }
    variants = {name: ClipModel(model.clip, model.projections, model.tokenizer, own) for name, own in placements.items()}  # one network
    found = {name: maps(variant) for name, variant in variants.items()}  # which warms them up
    differences = {name: float((own - found["float32"]).abs().max()) for name, own in found.items()}
    runs: dict[str, Callable[[], object]] = {"bare": lambda: model.tower(batch)}
    runs |= {name: partial(variant.encode_image, batch) for name, variant in variants.items()}
    times = {name: [seconds(name, run)] for name, run in runs.items()}
    for _ in range(repeats - 1):
        for name, run in runs.items():
            times[name].append(seconds(name, run))
    rows = [
        (name, statistics.median(own) / images, statistics.median(a / b for a, b in zip(own, times["bare"], strict=True)))
        for name, own in times.items()
    ]
    table = pd.DataFrame(rows, columns=COLUMNS[:3]).assign(difference=lambda t: t["setting"].map(differences))
    return table.assign(bfloat16_cost=bfloat16_cost("cpu")).round({"seconds": 2, "ratio": 2, "difference": 5, "bfloat16_cost": 2})
