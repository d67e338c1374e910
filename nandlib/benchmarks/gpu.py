"""How well images fill a GPU: rates of `nand apply` with CLIP at full size, against the bare tower and against reading."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pandas as pd
import torch

from nandlib.benchmarks.images import timed
from nandlib.benchmarks.precision import device_name
from nandlib.benchmarks.rates import TEXTS, copies, streamed
from nandlib.data.ahead import ahead, cores
from nandlib.data.batch import in_batches
from nandlib.data.images import load_image
from nandlib.detectors.aprilgan import AprilGan
from nandlib.errors import ModelError
from nandlib.method.normality import add_normality
from nandlib.models import Placement
from nandlib.models.clip import ClipModel
from nandlib.streaming.here import Here
from nandlib.streaming.listing import Listing
from nandlib.streaming.work import How
from nandlib.study.images import image_paths
from nandlib.study.model import model_of
from nandlib.study.open_study import OpenStudy

COLUMNS = ["device", "cores", "images", "batch", "what", "images_s", "ratio"]
IMAGES, FEW, REPEATS, PASSES = 256, 32, 2, 5
BARE = "bare tower"


def gpu_rates(study: OpenStudy, device: str = "cuda", images: int = IMAGES, batches: tuple[int, ...] = (8, 32)) -> pd.DataFrame:
    """`COLUMNS`: images a second, medians of runs in turn, in one run; ``ratio``: to the bare tower, the median within a turn.

    Rows of every size of batch: the bare tower in half precision on images that are on the device; reading, decoding and preprocessing
    alone, by one thread and by all readers; and `nand apply --store shards` with zero-shot APRIL-GAN and no normality, one text, five.

    Args:
        study: Of CLIP, as published or with random weights; its images must be there, those of its first class are taken.
        device: A torch device.
        images: Links to those images, as many as are needed.
        batches: Images that go through the tower at once.

    Raises:
        ModelError: If the study's model is not CLIP.
    """
    found, class_name = model_of(study), study.classes()[0]
    if not isinstance(found, ClipModel):
        raise ModelError(f"the study '{study.name}' has the model '{study.config.model.name}': this measures CLIP; take mvtec_ad_random")
    model = ClipModel(found.clip, found.projections, found.tokenizer, Placement(device, "autocast"))
    noun = class_name.replace("_", " ")
    detector = AprilGan(model, study.prompts, noun, study.config.nand)
    one = five = add_normality(detector, TEXTS[0], model=model, noun=noun)
    for text in TEXTS[1:]:
        five = five.add(text)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        listing = copies(image_paths(study, class_name), images, Path(folder) / "images")
        for size in batches:
            how = How(store="shards", overlays=False, batch=size)
            runs: dict[str, Callable[[], float]] = {
                BARE: _bare(model, listing, size),
                "reading, one thread": _reading(model, listing, False),
                "reading, all readers": _reading(model, listing, True),
                "apply, no normality": streamed(one.remove(TEXTS[0]), listing, Here(1), how),
                "apply, one text": streamed(one, listing, Here(1), how),
                "apply, five texts": streamed(five, listing, Here(1), how),
            }
            turns = [{name: run() for name, run in runs.items()} for _ in range(REPEATS + 1)][1:]  # the first warms up
            for name in runs:
                rate, ratio = (statistics.median(turn[name] / turn[to] if to else turn[name] for turn in turns) for to in ("", BARE))
                rows.append((device_name(device), cores(), images, size, name, rate, ratio))
    return pd.DataFrame(rows, columns=COLUMNS).round({"images_s": 1, "ratio": 2})


def _bare(model: ClipModel, listing: Listing, size: int) -> Callable[[], float]:
    (batch,) = in_batches([listing.path(name) for name in islice(listing, size)], model.preprocess, size)
    there = batch.inputs(model.preprocess).to(model.placement.device)

    def passes() -> None:
        for _ in range(PASSES):
            model.encode_image(there.clone())  # the model remembers the tensor itself

    return lambda: size * PASSES / timed(passes)


def _reading(model: ClipModel, listing: Listing, readers: bool) -> Callable[[], float]:
    """By readers, or by this thread, which sees fewer."""

    def read(name: str) -> torch.Tensor:
        return model.preprocess(load_image(listing.path(name)))

    def run() -> float:
        names = list(islice(listing, None if readers else FEW))
        start = time.perf_counter()
        for _ in ahead(read, names, 2 * FEW) if readers else map(read, names):
            pass
        return len(names) / (time.perf_counter() - start)

    return run
