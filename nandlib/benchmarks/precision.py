"""What the settings of a full-size image tower cost, against its bare float32 pass, and how far their anomaly maps are from its maps."""

from __future__ import annotations

import platform
import re
import statistics
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from nandlib.benchmarks.images import timed
from nandlib.detectors.aprilgan import anomaly_map
from nandlib.errors import ModelError
from nandlib.method.detection import text_feature
from nandlib.method.operators import similarities
from nandlib.models import Placement
from nandlib.models.clip import ClipModel, tokens_first
from nandlib.models.precision import bfloat16_cost
from nandlib.study.frames import read_table
from nandlib.study.model import model_of
from nandlib.study.open_study import OpenStudy

PATH = "model/precision.csv"
COLUMNS = ["device", "images", "setting", "seconds", "ratio", "difference", "bfloat16_cost"]
BATCHES = {"cpu": (1,), "cuda": (1, 8, 32)}  # a GPU is not filled by one image
REPEATS = {"cpu": 2, "cuda": 9}


def precision_costs(study: OpenStudy) -> pd.DataFrame:
    """`precision_cost` on this machine's processor, and on its first GPU if it has one; rows that other devices have given stay."""
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    table = pd.concat([precision_cost(study, device, images) for device in devices for images in BATCHES[device]], ignore_index=True)
    path = study.figures / PATH
    others = read_table(path) if path.is_file() else table[:0]
    return pd.concat([others[~others["device"].isin(table["device"])][COLUMNS], table], ignore_index=True)


@torch.no_grad()
def precision_cost(study: OpenStudy, device: str = "cpu", images: int = 1) -> pd.DataFrame:
    """`COLUMNS`, medians of passes in turn in one run, images of noise.

    ``device``: its name, and the threads of a processor; ``seconds``: an image, from its tensor in main memory to its projected tokens;
    ``ratio``: to the bare pass of the tower in float32, as open_clip runs it, on a tensor that is on the device; ``difference``: the
    largest of the anomaly maps (range 0 to 4, with the study's prompts for its first class) to float32's; ``bfloat16_cost``: what a
    matrix product in bfloat16 takes there, as a share of float32's time.

    Args:
        study: Of CLIP, as published or with random weights.
        device: ``"cpu"`` or ``"cuda"``.
        images: In a batch.

    Raises:
        ModelError: If the study's model is not CLIP.
    """
    model, nand = model_of(study), study.config.nand
    if not isinstance(model, ClipModel):
        raise ModelError(f"the study '{study.name}' has the model '{study.config.model.name}': this measures CLIP; take mvtec_ad_random")
    prompts = study.prompts.of_class(study.classes()[0], {})
    texts = torch.stack([text_feature(model, sentences, study.prompts) for sentences in list(prompts.values())[:2]])
    batch = torch.randn(images, 3, model.image_size, model.image_size, generator=torch.Generator().manual_seed(0))
    half = Placement(device, "autocast")
    placements = {
        "float32": Placement(device),
        "autocast": half,
        "autocast, channels last": half,
        "autocast, compiled": replace(half, compiled=True),
    }
    variants = {name: ClipModel(model.clip, model.projections, model.tokenizer, own) for name, own in placements.items()}  # one network
    tower, there = variants["float32"].tower, batch.to(device)

    def placed(name: str) -> None:
        tokens_first(tower, name != "bare")
        tower.to(memory_format=torch.channels_last if "channels last" in name else torch.contiguous_format)

    def maps(name: str, variant: ClipModel) -> Tensor:
        placed(name)
        features = variant.encode_image(batch)
        normal, abnormal = similarities(features.tokens, texts).unbind(1)
        return anomaly_map(abnormal, normal, grid=features.grid, temperature=nand.temperature or model.temperature, nand=nand)

    def encoded(variant: ClipModel) -> object:
        return variant.encode_image(batch.clone())  # the model remembers the tensor itself

    def seconds(name: str, run: Callable[[], object]) -> float:
        placed(name)
        return timed(run)

    found = {name: maps(name, variant) for name, variant in variants.items()}  # which warms them up
    differences = {name: float((own - found["float32"]).abs().max()) for name, own in found.items()}
    runs: dict[str, Callable[[], object]] = {"bare": lambda: tower(there)}
    runs |= {name: partial(encoded, variant) for name, variant in variants.items()}
    turns = [{name: seconds(name, run) for name, run in runs.items()} for _ in range(REPEATS[device])]
    table = pd.DataFrame({"setting": list(runs)})
    table["seconds"] = [statistics.median(turn[name] for turn in turns) / images for name in runs]
    table["ratio"] = [statistics.median(turn[name] / turn["bare"] for turn in turns) for name in runs]
    table["difference"] = table["setting"].map(differences)
    table = table.assign(device=device_name(device), images=images, bfloat16_cost=bfloat16_cost(device))[COLUMNS]
    return table.round({"seconds": 4, "ratio": 2, "difference": 5, "bfloat16_cost": 2})


def device_name(device: str) -> str:
    """Of a GPU, or of the processor with the number of its threads."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    models = (
        re.findall(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE) if Path("/proc/cpuinfo").is_file() else []
    )
    return f"{models[0] if models else platform.processor()}, {torch.get_num_threads()} threads"
