"""Base and suppression maps of one class: small functions of its similarities, and of stored maps."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache

import numpy as np
from torch import Tensor

from nandlib.config import NandConfig
from nandlib.detection import image_probability, suppression_map
from nandlib.detectors.aprilgan import anomaly_map
from nandlib.operators import detect, image_score
from nandlib.store import load
from nandlib.study import OpenStudy

ALL = slice(None)


class ClassMaps:
    """Base and suppression maps of the images of one class.

    Args:
        class_name: The class.
        nand: Parameters of Eq. 4 and 6.
        cos: ``test`` (and ``train``) ``(N, K, L, P)`` cosine similarities of the patch tokens with K texts, and those of whole
            images, ``test_image`` ``(N, K)``.
        texts: Names of the K texts: ``normal``, ``abnormal``, ``+<group>``, and controls, ``~<control>`` or ``~<control>:<group>``.
        grid: ``(h, w)`` of the patch tokens.
        temperature: The model's own.
        stored: Family of detectors → its stored maps, by ``<detector>/<split>``; needed for all but zero-shot APRIL-GAN.
    """

    def __init__(
        self,
        class_name: str,
        nand: NandConfig,
        cos: Mapping[str, Tensor],
        texts: list[str],
        grid: tuple[int, int],
        temperature: float,
        stored: Callable[[str], Mapping[str, Tensor]] | None = None,
    ) -> None:
        self.class_name, self.nand, self.cos, self.texts, self.grid = class_name, nand, cos, texts, grid
        self.temperature = nand.temperature or temperature
        self.groups = [name[1:] for name in texts if name.startswith("+")]
        self._stored = stored

    @classmethod
    def of(cls, study: OpenStudy, class_name: str) -> ClassMaps:
        """From the files that the stages of a study have written."""
        cos, metadata = load(study.data / "similarities" / f"{class_name}.safetensors")

        @cache
        def stored(family: str) -> Mapping[str, Tensor]:
            return load(study.data / "maps" / family / f"{class_name}.safetensors")[0]

        texts, grid = json.loads(metadata["texts"]), tuple(json.loads(metadata["grid"]))
        return cls(class_name, study.config.nand, cos, texts, grid, float(metadata["temperature"]), stored)

    def _cos(self, text: str, rows: slice, split: str = "test") -> Tensor:
        return self.cos[split][rows, self.texts.index(text)]

    def base(self, detector: str, rows: slice = ALL, split: str = "test") -> Tensor:
        """A ``(n, S, S)`` of images `rows`; less the training-normal floor if the study normalises."""
        maps = self._raw(detector, rows, split)
        if self.nand.base_normalisation == "train_normal":
            maps = (maps - self._floor(detector)).clamp_min(0)
        return maps

    def _raw(self, detector: str, rows: slice, split: str) -> Tensor:
        family = detector.split("_")[0]
        zero_shot = self._zero_shot(rows, split) if family == "aprilgan" else 0
        return zero_shot if detector == "aprilgan" else zero_shot + self._stored(family)[f"{detector}/{split}"][rows]

    def _zero_shot(self, rows: slice, split: str) -> Tensor:
        abnormal, normal = self._cos("abnormal", rows, split), self._cos("normal", rows, split)
        return anomaly_map(abnormal, normal, grid=self.grid, temperature=self.temperature, nand=self.nand)

    @cache  # noqa: B019 (one short-lived object a class)
    def _floor(self, detector: str) -> float:
        return float(np.quantile(self._raw(detector, ALL, "train").numpy(), 0.99))

    def layers(self, group: str | None, rows: slice = ALL) -> Tensor:
        """Eq. 4 against f_nor before the layers are aggregated, ``(n, L, S, S)``: of f_abn, or of the f_add of `group`."""
        text, size = "abnormal" if group is None else f"+{group}", (self.nand.map_size, self.nand.map_size)
        cos = self._cos(text, rows), [self._cos("normal", rows)]
        return detect(
            *cos, grid=self.grid, size=size, temperature=self.temperature, resize=self.nand.resize, align_corners=self.nand.align_corners
        )

    def suppression(self, group: str, rows: slice = ALL) -> Tensor:
        """A_sup ``(n, S, S)`` of images `rows` for the text of `group`."""
        return self.suppression_by(f"+{group}", rows)

    def suppression_by(self, text: str, rows: slice = ALL) -> Tensor:
        """A_sup ``(n, S, S)`` of images `rows` for any of `texts`."""
        cos = [self._cos(name, rows) for name in (text, "normal", "abnormal")]
        return suppression_map(*cos, grid=self.grid, temperature=self.temperature, nand=self.nand)

    def score(self, maps: Tensor, rows: slice, text: str | None = None) -> Tensor:
        """Image scores ``(n,)`` of maps; `text` names what was added, None before adding."""
        if self.nand.image_score != "max_plus_image":
            return image_score(maps, self.nand.image_score, self.nand.top_fraction)
        whole = self.cos["test_image"][rows].unbind(1)
        normal = whole[self.texts.index("normal")]
        abnormal = image_probability(whole[self.texts.index("abnormal")], normal, self.temperature)
        if text is not None:
            abnormal = abnormal * (1 - image_probability(whole[self.texts.index(text)], normal, self.temperature))
        return image_score(maps) + abnormal
