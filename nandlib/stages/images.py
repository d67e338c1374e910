"""Draw the embedded images."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from nandlib.children import end_with_parent
from nandlib.data.config import DrawnConfig
from nandlib.data.drawn.catalogue import CATALOGUE, draw
from nandlib.data.drawn.validation import VALIDATION
from nandlib.errors import PresetError, nearest
from nandlib.study.open_study import OpenStudy
from nandlib.study.store import keep_only

CATALOGUES = {"mvtec_ad": CATALOGUE, "validation": VALIDATION}


def draw_images(study: OpenStudy, progress: bool = True) -> None:
    """Write the embedded data set in MVTec AD layout under ``data.root``.

    Raises:
        PresetError: If the preset does not draw its images, or names a class that cannot be drawn.
    """
    drawn = study.config.data.drawn
    if drawn is None:
        raise PresetError(f"studies/{study.name}.yaml has no data.drawn: its images are not drawn")
    products = CATALOGUES[drawn.catalogue]
    for name in drawn.classes or ():
        if name not in products:
            raise PresetError(f"studies/{study.name}.yaml: data.drawn.classes: unknown class '{name}': {nearest(name, products)}")
    jobs = list(_drawing_jobs(drawn))
    keep_only(study.images, [])  # those of an earlier preset would count as this one's
    with ProcessPoolExecutor(2, initializer=end_with_parent) as pool:
        runs = pool.map(_draw_one, [study.images] * len(jobs), [drawn] * len(jobs), jobs, chunksize=16)
        for _ in tqdm(runs, total=len(jobs), desc="images", disable=not progress):
            pass


def _drawing_jobs(drawn: DrawnConfig) -> Iterator[tuple[str, str, int]]:
    products = CATALOGUES[drawn.catalogue]
    for class_name in drawn.classes or products:
        counts = {"train": drawn.n_train, "good": drawn.n_good}
        for type_name in ("train", "good", *products[class_name].types):
            for index in range(counts.get(type_name, drawn.n_defect)):
                yield class_name, type_name, index


def _draw_one(root: Path, drawn: DrawnConfig, job: tuple[str, str, int]) -> None:
    class_name, type_name, index = job
    image, mask = draw(class_name, type_name, drawn.seed, index, drawn.size, CATALOGUES[drawn.catalogue])
    folder = root / class_name / ("train/good" if type_name == "train" else f"test/{type_name}")
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.round(image * 255).astype(np.uint8)).save(folder / f"{index:03d}.png")
    if mask is not None:
        folder = root / class_name / "ground_truth" / type_name
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray((mask * 255).astype(np.uint8)).save(folder / f"{index:03d}_mask.png")
