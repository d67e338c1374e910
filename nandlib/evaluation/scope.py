"""What is measured beyond the protocol: which detectors, and inside which masks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from nandlib.data.images import load_mask
from nandlib.detectors.config import TRAINED_NAMES
from nandlib.errors import DataError
from nandlib.study.open_study import OpenStudy

MEASURED = ("aprilgan", "patchcore", *TRAINED_NAMES)  # the detector that reads text, and those that do not


def measured(study: OpenStudy) -> Sequence[str]:
    """The detectors of a study that are measured: `MEASURED`, or its first where it has none of them."""
    own = [name for name in MEASURED if name in study.config.detectors]
    return own or list(study.config.detectors[:1])


def refuse_other_scores(study: OpenStudy, what: str) -> None:
    """Measures that make maps of their own know the maximum of the raw map alone.

    Raises:
        DataError: If the study scores images otherwise.
    """
    nand = study.config.nand
    for key, value, usual in (("image_score", nand.image_score, "max"), ("base_normalisation", nand.base_normalisation, "none")):
        if value != usual:
            raise DataError(f"studies/{study.name}.yaml: nand.{key} is '{value}': {what} is measured with '{usual}'")


def known(rows: pd.DataFrame) -> np.ndarray:
    """Whether the ground truth of images is known ``(n,)``, bool: of good ones, and of those with a mask."""
    return ((rows["type"] == "good") | (rows["mask"] != "")).to_numpy(copy=True)


def masks_of(study: OpenStudy, rows: pd.DataFrame, side: int) -> Tensor:
    """Ground truth of images ``(n, side, side)``, bool; False everywhere for good images, and where it is not `known`.

    Of each cell one pixel counts, the one at its centre: a defect that is narrower than a cell may be lost.
    """
    empty = np.zeros((side, side), bool)
    return torch.from_numpy(np.stack([load_mask(study.images / name, (side, side)) if name else empty for name in rows["mask"]]))
