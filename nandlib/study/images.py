"""The images of a study, class by class, as the networks take them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from nandlib.data.batch import Preprocess, inputs
from nandlib.data.images import evenly

if TYPE_CHECKING:
    from nandlib.study.open_study import OpenStudy

BATCH = 8  # images per forward pass
NORMALS = 32  # training-normal images of a class, at most, that calibrate and set thresholds


def image_paths(study: OpenStudy, class_name: str, split: str = "test") -> list[Path]:
    """The images of one class and split in manifest order."""
    return [study.images / name for name in study.rows(class_name, split)["image"]]


def some_normals(count: int) -> list[int]:
    """Positions of at most `NORMALS` of `count` training-normal images, evenly over their order."""
    return evenly(count, NORMALS)


def splits(study: OpenStudy) -> tuple[str, ...]:
    """Splits whose maps are needed: train too if base maps are normalised by training-normal statistics."""
    return ("test", "train") if study.config.nand.base_normalisation == "train_normal" else ("test",)


def batches(paths: Sequence[Path], preprocess: Preprocess) -> Iterator[Tensor]:
    """Preprocessed images ``(n, 3, S, S)``, `BATCH` at a time."""
    return inputs(paths, preprocess, BATCH)
