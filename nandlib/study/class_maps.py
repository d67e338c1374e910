"""Base and suppression maps of one class: small functions of its similarities, and of stored maps."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from nandlib.detectors.aprilgan import anomaly_map
from nandlib.detectors.config import family_of
from nandlib.errors import DataError
from nandlib.method.config import NandConfig, PlusConfig
from nandlib.method.detection import image_probability
from nandlib.method.operators import detect, image_score, suppress
from nandlib.method.plus import Regions, find_regions
from nandlib.method.suppression import Similarities, Texts, suppression
from nandlib.study.open_study import OpenStudy
from nandlib.study.store import Rows, load

ALL = slice(None)
SCORE_BATCH = 16  # images per batch of full-size maps


def _nothing_stored(family: str) -> Mapping[str, Rows]:
    raise DataError(f"no maps of {family} are stored here: only zero-shot APRIL-GAN follows from similarities")


class ClassMaps:
    """Base and suppression maps of the images of one class.

    Args:
        class_name: The class.
        nand: Parameters of Eq. 4 and 6.
        cos: What the similarities stage stores (`nandlib.stages.similarities.write_similarities`), of which slices of images are taken:
            at least ``test`` ``(N, K, L, P)``; `nand_plus` needs ``test_bank``, ``normal_mean`` and ``features`` too.
        texts: Names of the K texts: ``normal``, ``abnormal``, ``+<group>``, and controls, ``~<control>`` or ``~<control>:<group>``.
        grid: ``(h, w)`` of the patch tokens.
        temperature: The model's own.
        stored: Family of detectors → its stored maps, by ``<detector>/<split>``; needed for all but zero-shot APRIL-GAN.
        bank: Names of the B generic texts.
    """

    def __init__(
        self,
        class_name: str,
        nand: NandConfig,
        cos: Mapping[str, Rows],
        texts: list[str],
        grid: tuple[int, int],
        temperature: float,
        stored: Callable[[str], Mapping[str, Rows]] = _nothing_stored,
        bank: Sequence[str] = (),
    ) -> None:
        self.class_name, self.nand, self.cos, self.texts, self.grid, self.bank = class_name, nand, cos, texts, grid, list(bank)
        self.temperature = nand.temperature or temperature
        self.groups = [name[1:] for name in texts if name.startswith("+")]
        self._stored, self._floors = stored, dict[str, float]()

    @classmethod
    def of(cls, study: OpenStudy, class_name: str) -> ClassMaps:
        """From the files that the stages of a study have written; of what they keep of images, a shard is held at a time."""
        cos, metadata = load(study.data / "similarities" / class_name)

        @cache
        def stored(family: str) -> Mapping[str, Rows]:
            return load(study.data / "maps" / family / class_name)[0]

        texts, grid, bank = (json.loads(metadata[key]) for key in ("texts", "grid", "bank"))
        return cls(class_name, study.config.nand, cos, texts, tuple(grid), float(metadata["temperature"]), stored, bank)

    def __len__(self) -> int:
        return len(self.cos["test"])

    def _cos(self, text: str, rows: slice, split: str = "test") -> Tensor:
        return self.cos[split][rows, self.texts.index(text)]

    def base(self, detector: str, rows: slice = ALL, split: str = "test") -> Tensor:
        """A ``(n, S, S)`` of images `rows`; less the training-normal floor if the study normalises."""
        maps = self._raw(detector, rows, split)
        if self.nand.base_normalisation == "train_normal":
            maps = (maps - self._floor(detector)).clamp_min(0)
        return maps

    def _raw(self, detector: str, rows: slice, split: str) -> Tensor:
        family = family_of(detector)
        zero_shot = self._zero_shot(rows, split) if family == "aprilgan" else torch.zeros(())
        return zero_shot if detector == "aprilgan" else zero_shot + self._stored(family)[f"{detector}/{split}"][rows]

    def _zero_shot(self, rows: slice, split: str) -> Tensor:
        abnormal, normal = self._cos("abnormal", rows, split), self._cos("normal", rows, split)
        return anomaly_map(abnormal, normal, grid=self.grid, temperature=self.temperature, nand=self.nand)

    def _floor(self, detector: str) -> float:
        if detector not in self._floors:
            family = {} if detector == "aprilgan" else self._stored(family_of(detector))
            normal = family.get(f"{detector}/normals")  # without what a detector's memory holds of each image itself
            maps = self._raw(detector, ALL, "train") if normal is None else normal[ALL]
            self._floors[detector] = float(np.quantile(maps.numpy(), 0.99))
        return self._floors[detector]

    def normal_scores(self, detector: str) -> np.ndarray | None:
        """Image scores ``(n,)`` of training-normal images with the unchanged detector, each without its own part of the detector's memory.

        None for a detector whose training-normal maps are not stored, and where the image score needs more than the map.
        """
        if self.nand.image_score == "max_plus_image":
            return None
        if detector == "aprilgan":
            normal, abnormal = self.cos["normal_states"][ALL].unbind(1)
            maps = anomaly_map(abnormal, normal, grid=self.grid, temperature=self.temperature, nand=self.nand)
        else:
            found = self._stored(family_of(detector)).get(f"{detector}/normals")
            if found is None:
                return None
            maps = found[ALL]
        if self.nand.base_normalisation == "train_normal":
            maps = (maps - self._floor(detector)).clamp_min(0)
        return image_score(maps, self.nand.image_score, self.nand.top_fraction).numpy()

    def layers(self, group: str | None, rows: slice = ALL) -> Tensor:
        """Eq. 4 against f_nor before the layers are aggregated, ``(n, L, S, S)``: of f_abn, or of the f_add of `group`."""
        text, size = "abnormal" if group is None else f"+{group}", (self.nand.map_size, self.nand.map_size)
        cos = self._cos(text, rows), [self._cos("normal", rows)]
        return detect(
            *cos, grid=self.grid, size=size, temperature=self.temperature, resize=self.nand.resize, align_corners=self.nand.align_corners
        )

    def similar(self, rows: slice = ALL) -> Similarities:
        """Similarities of images `rows` with all texts, for `nandlib.method.suppression.suppression`."""
        generic, names = self.cos.get("test_bank"), self.texts
        texts = Texts(
            self.cos["features"][ALL] if "features" in self.cos else torch.empty(0),
            normal=names.index("normal"),
            abnormal=names.index("abnormal"),
            types=[k for k, name in enumerate(names) if name.startswith("+")],
            generic=range(len(names), len(names) + len(self.bank)),
        )
        mean = self.cos["normal_mean"][ALL] if "normal_mean" in self.cos else None
        return Similarities(self.cos["test"][rows], texts, self.grid, self.temperature, None if generic is None else generic[rows], mean)

    def paper_suppression(self, text: str, rows: slice = ALL) -> Tensor:
        """A_sup ``(n, S, S)`` of Eq. 4 for any of `texts`: the same for every detector."""
        paper = self.nand.model_copy(update={"method": "nand"})
        return suppression(self.similar(rows), self.texts.index(text), paper, (self.nand.map_size, self.nand.map_size))

    def batch(self, rows: slice = ALL) -> Batch:
        """Images `rows`, with all maps that are asked for kept."""
        return Batch(self, rows)

    def batches(self) -> Iterator[Batch]:
        """All images, `SCORE_BATCH` at a time, so that only one batch's maps are held."""
        for start in range(0, len(self), SCORE_BATCH):
            yield self.batch(slice(start, start + SCORE_BATCH))

    def score(self, maps: Tensor, rows: slice, *added: str) -> list[float]:
        """Image scores of n maps; `added` names the texts that were added, none before adding.

        Plain numbers: a small tensor that outlives a large one keeps glibc from reusing the large one's room.
        """
        if self.nand.image_score != "max_plus_image":
            return image_score(maps, self.nand.image_score, self.nand.top_fraction).tolist()
        whole = self.cos["test_image"][rows].unbind(1)
        normal = whole[self.texts.index("normal")]
        abnormal = image_probability(whole[self.texts.index("abnormal")], normal, self.temperature)
        for text in added:
            abnormal = abnormal * (1 - image_probability(whole[self.texts.index(text)], normal, self.temperature))
        return (image_score(maps) + abnormal).tolist()


class Batch:
    """Some images of a class: base maps, suppression maps and adapted maps, each computed once.

    Args:
        maps: The class.
        rows: Which of its test images.
    """

    def __init__(self, maps: ClassMaps, rows: slice = ALL) -> None:
        self.maps, self.rows = maps, rows
        self._similar = maps.similar(rows)
        self._base: dict[str, Tensor] = {}
        self._paper: dict[tuple[str, NandConfig], Tensor] = {}
        self._regions: dict[tuple[str, float, float], Regions] = {}

    def base(self, detector: str) -> Tensor:
        """A ``(n, S, S)``."""
        if detector not in self._base:
            self._base[detector] = self.maps.base(detector, self.rows)
        return self._base[detector]

    @property
    def texts(self) -> Texts:
        """Which text is which."""
        return self._similar.texts

    def suppression(self, text: str, detector: str, nand: NandConfig | None = None, types: Sequence[int] | None = None) -> Tensor:
        """A_sup ``(n, S, S)`` of a text for a detector, by the study's method or that of `nand`; `types` stand for the class's types."""
        nand, own = nand or self.maps.nand, self.maps.texts.index(text)
        size = (nand.map_size, nand.map_size)
        if nand.method == "nand":  # the same for every detector
            if (text, nand) not in self._paper:
                self._paper[text, nand] = suppression(self._similar, own, nand, size)
            return self._paper[text, nand]
        similar = self._similar if types is None else self._similar.naming(types)
        return suppression(similar, own, nand, size, self._regions_of(detector, nand.plus) if nand.by_regions else None)

    def final(self, text: str, detector: str, nand: NandConfig | None = None, types: Sequence[int] | None = None) -> Tensor:
        """A_final ``(n, S, S)`` with a text added; arguments as of `suppression`."""
        return suppress(self.base(detector), self.suppression(text, detector, nand, types))

    def score_before(self, detector: str) -> list[float]:
        """Image scores of the unchanged detector."""
        return self.maps.score(self.base(detector), self.rows)

    def score_after(self, text: str, detector: str, nand: NandConfig | None = None) -> list[float]:
        """Image scores with a text added."""
        return self.maps.score(self.final(text, detector, nand), self.rows, text)

    def _regions_of(self, detector: str, plus: PlusConfig) -> Regions:
        key = (detector, plus.peak_distance, plus.focus)
        if key not in self._regions:
            self._regions[key] = find_regions(self.base(detector), self.maps.grid, plus)
        return self._regions[key]


def score_class(maps: ClassMaps, test: pd.DataFrame, detectors: Sequence[str], nand: NandConfig | None = None) -> pd.DataFrame:
    """Scores of one class, schema `nandlib.study.frames.SCORES`; `test` are the manifest rows of the maps' images."""
    before: dict[str, list[float]] = {detector: [] for detector in detectors}
    after: dict[tuple[str, str], list[float]] = {(detector, group): [] for detector in detectors for group in maps.groups}
    for batch in maps.batches():
        for detector in detectors:
            before[detector] += batch.score_before(detector)
            for group in maps.groups:
                after[detector, group] += batch.score_after(f"+{group}", detector, nand)
    return pd.concat(
        [score_frame(maps.class_name, test, detector, group, before[detector], scores) for (detector, group), scores in after.items()],
        ignore_index=True,
    )


def score_frame(
    class_name: str, test: pd.DataFrame, detector: str, added: str, before: Sequence[float], after: Sequence[float]
) -> pd.DataFrame:
    """Scores of one detector and added group, schema `nandlib.study.frames.SCORES`."""
    values = {"detector": detector, "class": class_name, "image": test["image"], "group": test["group"], "added": added}
    scores = {"before": np.array(before, float), "after": np.array(after, float)}
    return pd.DataFrame(values | scores)
