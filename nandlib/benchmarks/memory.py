"""What many images cost in memory: `nand apply`, and a study's stages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from nandlib.memory import peak_gigabytes
from nandlib.method.normality import add_normality
from nandlib.models import load_model
from nandlib.stages.manifest import write_manifest
from nandlib.stages.maps import write_maps
from nandlib.stages.protocol import write_protocol
from nandlib.stages.scores import write_scores
from nandlib.stages.similarities import write_similarities
from nandlib.streaming.apply import apply
from nandlib.streaming.here import Here
from nandlib.streaming.listing import Listing
from nandlib.streaming.work import How
from nandlib.study.open_study import OpenStudy
from nandlib.study.preset import Study

COLUMNS = ["what", "images", "peak_mb", "seconds"]
COUNTS: Mapping[str, tuple[int, int]] = {"nand apply": (1_000, 100_000), "stages": (1_000, 5_000)}  # stages have networks to run
SIDE = 16  # pixels
NORMALS = 32  # training images, however many are tested


def memory(counts: Mapping[str, Iterable[int]] = COUNTS) -> pd.DataFrame:
    """`COLUMNS`: the largest memory of one process (10⁶ bytes) that takes so many small images of a generator, a process each.

    ``nand apply`` with a detector that costs nothing, the darkness of an image, and nothing added: reading, writing and keeping books.
    ``stages``: those of a study of one class, from the manifest to the protocol, with APRIL-GAN and PatchCore on the embedded model.
    """
    rows = []
    for what, own in counts.items():
        for count in own:
            with tempfile.TemporaryDirectory() as folder:
                command = [sys.executable, "-m", __name__, what, folder, str(count)]
                found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ).stdout)
            rows.append((what, count, round(found["peak_mb"]), round(found["seconds"])))
    return pd.DataFrame(rows, columns=COLUMNS)


def _darkness(images: Any) -> np.ndarray:
    return np.stack([1 - np.asarray(picture.convert("L"), np.float32) / 255 for picture in images])


def _images(folder: Path, count: int, rng: np.random.Generator) -> None:
    for k in range(count):
        path = folder / f"{k:06d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (SIDE, SIDE), dtype=np.uint8)).save(path)


def _apply(folder: Path, count: int) -> Callable[[], None]:
    rng = np.random.default_rng(0)
    for first in range(0, count, 1000):
        _images(folder / f"images/{first:06d}", min(1000, count - first), rng)
    adapted = add_normality(_darkness, "thread", model=load_model("mini")).remove("thread")
    how = How(store="shards", overlays=False)
    return lambda: apply(lambda: adapted, Listing.of([folder / "images"]), folder / "out", {}, how, engine=Here(1))


def _stages(folder: Path, count: int) -> Callable[[], None]:
    rng = np.random.default_rng(0)
    _images(folder / "images/sheet/train/good", NORMALS, rng)
    for part, share in {"good": 0.5, "dent": 0.25, "stain": 0.25}.items():
        _images(folder / "images/sheet/test" / part, round(share * count), rng)
    preset = {
        "name": "many",
        "title": "Many images of a generator",
        "data": {"root": "images", "groups": "types"},
        "model": {"name": "mini"},
        "prompts": {"file": "type_name"},
        "nand": {"map_size": 64},
        "detectors": ["aprilgan", "patchcore"],
        **{section: {} for section in ("winclip", "patchcore", "trained", "figures")},
    }
    study = OpenStudy(folder, Study.model_validate(preset))

    def run() -> None:
        write_manifest(study, progress=False)
        for stage in (write_similarities, write_maps, write_scores):
            stage(study, progress=False)
        write_protocol(study)

    return run


if __name__ == "__main__":
    run = {"nand apply": _apply, "stages": _stages}[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))
    start = time.perf_counter()
    run()
    peak = max(peak_gigabytes(), peak_gigabytes(children=True))
    print(json.dumps({"peak_mb": 1000 * peak, "seconds": time.perf_counter() - start}))
