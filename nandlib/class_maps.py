"""Base and suppression maps of one class, from the files that the stages have written."""

from __future__ import annotations

import json
from functools import cache

import numpy as np
from torch import Tensor

from nandlib.detection import image_probability, suppression_map
from nandlib.detectors.aprilgan import anomaly_map
from nandlib.operators import detect, image_score
from nandlib.store import load
from nandlib.study import OpenStudy


class ClassMaps:
    """Base and suppression maps of one class, from the files of the stages before.

    Args:
        study: The study.
        class_name: One of its classes.
    """

    def __init__(self, study: OpenStudy, class_name: str) -> None:
        self.study, self.class_name, self.nand = study, class_name, study.config.nand
        self.cos, metadata = load(study.data / "similarities" / f"{class_name}.safetensors")
        self.texts: list[str] = json.loads(metadata["texts"])
        self.grid: tuple[int, int] = tuple(json.loads(metadata["grid"]))
        self.temperature = self.nand.temperature or float(metadata["temperature"])
        self.groups = [name[1:] for name in self.texts if name.startswith("+")]
        self._stored: dict[str, dict[str, Tensor]] = {}

    def _cos(self, text: str, rows: slice, split: str) -> Tensor:
        return self.cos[split][rows, self.texts.index(text)]

    def base(self, detector: str, rows: slice = slice(None), split: str = "test") -> Tensor:
        """A ``(n, S, S)`` of images `rows`; less the training-normal floor if the study normalises."""
        maps = self._raw(detector, rows, split)
        if self.nand.base_normalisation == "train_normal":
            maps = (maps - self._floor(detector)).clamp_min(0)
        return maps

    def _raw(self, detector: str, rows: slice, split: str) -> Tensor:
        family = detector.split("_")[0]
        maps = self._zero_shot(rows, split) if family == "aprilgan" else 0
        if detector == "aprilgan":
            return maps
        if family not in self._stored:
            self._stored[family], _ = load(self.study.data / "maps" / family / f"{self.class_name}.safetensors")
        return maps + self._stored[family][f"{detector}/{split}"][rows]

    def _zero_shot(self, rows: slice, split: str) -> Tensor:
        abnormal, normal = self._cos("abnormal", rows, split), self._cos("normal", rows, split)
        return anomaly_map(abnormal, normal, grid=self.grid, temperature=self.temperature, nand=self.nand)

    @cache  # noqa: B019 (one object a class, short-lived)
    def _floor(self, detector: str) -> float:
        return float(np.quantile(self._raw(detector, slice(None), "train").numpy(), 0.99))

    def layers(self, group: str | None, rows: slice = slice(None)) -> Tensor:
        """Eq. 4 against f_nor before the layers are aggregated, ``(n, L, S, S)``: of f_abn, or of the f_add of `group`."""
        text, size = "abnormal" if group is None else f"+{group}", (self.nand.map_size, self.nand.map_size)
        cos = self._cos(text, rows, "test"), [self._cos("normal", rows, "test")]
        return detect(
            *cos, grid=self.grid, size=size, temperature=self.temperature, resize=self.nand.resize, align_corners=self.nand.align_corners
        )

    def suppression(self, group: str, rows: slice = slice(None)) -> Tensor:
        """A_sup ``(n, S, S)`` of images `rows` for the text of `group`."""
        cos = [self._cos(text, rows, "test") for text in (f"+{group}", "normal", "abnormal")]
        return suppression_map(*cos, grid=self.grid, temperature=self.temperature, nand=self.nand)

    def score(self, maps: Tensor, rows: slice, group: str | None = None) -> Tensor:
        """Image scores ``(n,)`` of maps; `group` is the added normality, None before adding."""
        if self.nand.image_score != "max_plus_image":
            return image_score(maps, self.nand.image_score, self.nand.top_fraction)
        whole = self.cos["test_image"][rows].unbind(1)
        normal = whole[self.texts.index("normal")]
        abnormal = image_probability(whole[self.texts.index("abnormal")], normal, self.temperature)
        if group is not None:
            abnormal = abnormal * (1 - image_probability(whole[self.texts.index(f"+{group}")], normal, self.temperature))
        return image_score(maps) + abnormal
