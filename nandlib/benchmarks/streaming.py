"""What many images cost: rates of streaming, here and on a cluster, against anomalib's own engine."""

from __future__ import annotations

import contextlib
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import anomalib.models
import numpy as np
import pandas as pd
import torch
from anomalib.data import PredictDataset
from anomalib.engine import Engine
from anomalib.pre_processing import PreProcessor
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import Resize

from nandlib.benchmarks.rates import TEXTS, copies, streamed
from nandlib.detectors.patchcore import PatchCore
from nandlib.method.normality import add_normality
from nandlib.models import VisionLanguageModel
from nandlib.streaming.cluster import Cluster
from nandlib.streaming.here import Here
from nandlib.streaming.listing import Listing
from nandlib.streaming.work import How
from nandlib.study.images import image_paths
from nandlib.study.model import model_of, placement
from nandlib.study.open_study import OpenStudy

COLUMNS = ["what", "images_s", "ratio", "to"]
IMAGES, REPEATS = 96, 3
HOW = How(store="shards", overlays=False)


def streaming_rates(study: OpenStudy, images: int = IMAGES, repeats: int = REPEATS) -> pd.DataFrame:
    """`COLUMNS`: images a second of a fitted PatchCore on the study's first class, medians of runs in turn, in one run.

    A rate is that from when every worker has done its first shard to the last: starting workers is left out. ``ratio``: to the row that
    ``to`` names, the median of ratios within a turn. Rows: one worker of one thread without any normality; with one text, five, four
    examples; two workers; one worker of a Ray cluster; two threads of one worker; anomalib's `Engine.predict` around the very network,
    images and batch, with one thread and with all.

    Args:
        study: Its images must be there.
        images: Test images, repeated where there are fewer.
        repeats: Turns.
    """
    class_name = study.classes()[0]
    model, normals = model_of(study), image_paths(study, class_name, "train")
    detector = PatchCore(model, normals, study.resolved(study.config.patchcore), placement(study))
    with tempfile.TemporaryDirectory() as folder:
        listing = copies(image_paths(study, class_name), images, Path(folder) / "images")
        nothing = add_normality(detector, "thread", model=model).remove("thread")
        noun = class_name.replace("_", " ")
        one = add_normality(detector, TEXTS[0], model=model, noun=noun)
        five = one
        for text in TEXTS[1:]:
            five = five.add(text)
        four = add_normality(detector, examples=_four(detector, study, class_name), model=model, noun=noun, normals=normals[:16])
        runs: dict[str, tuple[Callable[[], float], str]] = {
            "PatchCore": (streamed(nothing, listing, Here(1), HOW), "anomalib's Engine.predict, one thread"),
            "one text": (streamed(one, listing, Here(1), HOW), "PatchCore"),
            "five texts": (streamed(five, listing, Here(1), HOW), "PatchCore"),
            "four examples": (streamed(four, listing, Here(1), HOW), "PatchCore"),
            "two workers": (streamed(nothing, listing, Here(2), HOW, workers=2), "PatchCore"),
            "one worker of two threads": (streamed(nothing, listing, Here(1, 2), HOW), "PatchCore"),
            "one worker of a Ray cluster": (streamed(nothing, listing, Cluster(None, 1), HOW), "PatchCore"),
            "anomalib's Engine.predict, one thread": (_anomalib(detector, listing, 1, model), "PatchCore"),
            "anomalib's Engine.predict, all threads": (_anomalib(detector, listing, torch.get_num_threads(), model), "two workers"),
        }
        turns = [{name: run() for name, (run, _) in runs.items()} for _ in range(repeats)]
    rows = [
        (name, statistics.median(turn[name] for turn in turns), statistics.median(turn[name] / turn[to] for turn in turns), to)
        for name, (_, to) in runs.items()
    ]
    return pd.DataFrame(rows, columns=COLUMNS).round({"images_s": 1, "ratio": 2})


def _four(detector: PatchCore, study: OpenStudy, class_name: str) -> list[Path]:
    """The four test images with the highest scores: they show something."""
    paths = image_paths(study, class_name)
    order = np.argsort([-float(single.max()) for single in detector(paths)], kind="stable")
    return [paths[k] for k in order[:4]]


def _anomalib(detector: PatchCore, listing: Listing, threads: int, model: VisionLanguageModel) -> Callable[[], float]:
    """The same network inside anomalib's module, predicted by its engine."""
    module = anomalib.models.Patchcore(
        backbone="resnet18", layers=["layer2"], pre_trained=False, pre_processor=PreProcessor(Resize((model.image_size, model.image_size)))
    )
    module.model = detector.network

    def run() -> float:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        with tempfile.TemporaryDirectory() as out, warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
            warnings.simplefilter("ignore")
            data = PredictDataset(listing.root)
            loader = DataLoader(data, batch_size=HOW.batch, collate_fn=data.collate_fn)
            engine = Engine(default_root_dir=out, enable_progress_bar=False, enable_model_summary=False, logger=False, accelerator="cpu")
            times: list[float] = []
            hook = module.model.register_forward_hook(lambda *_: times.append(time.perf_counter()))
            try:
                engine.predict(module, dataloaders=loader)
            finally:
                hook.remove()
                torch.set_num_threads(before)
        return HOW.batch * (len(times) - 1) / (times[-1] - times[0])

    return run
