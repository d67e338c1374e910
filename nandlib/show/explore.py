"""What the explorer computes: a gallery of images whose features are computed once, and the answer to any texts."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score
from torch import Tensor

from nandlib.config import NandConfig, PromptConfig
from nandlib.data.manifest import load_mask
from nandlib.detectors.base import ImageLike, as_image
from nandlib.detectors.fit import fit_detector
from nandlib.errors import DataError
from nandlib.method.adapt import AdaptedDetector, mean_token
from nandlib.method.operators import image_score, resize_map, suppress
from nandlib.method.plus import Regions, find_regions
from nandlib.method.prompts import PromptSet, load_prompts
from nandlib.models import ImageFeatures, VisionLanguageModel
from nandlib.study.class_maps import SCORE_BATCH, ClassMaps
from nandlib.study.open_study import OpenStudy
from nandlib.study.store import image_paths, some_normals

SIDE = 256  # of the pictures that are shown
STAYS = "always abnormal"  # in place of a group, for types that are in none
MOST_TEXTS = 8  # normalities at once
MOST_WORDS = 40  # of a phrase: no text model here reads more than about 48 tokens
Progress = Callable[[int, int], None]  # images done, images in all


@dataclass(frozen=True)
class Gallery:
    """Images of one kind, with everything that does not depend on the texts.

    Attributes:
        noun: What the images show.
        names: Of the N images.
        groups: ``good``, an anomaly group, `STAYS`, or empty where nobody knows.
        pictures: RGB uint8 ``(SIDE, SIDE, 3)`` each.
        masks: bool ``(SIDE, SIDE)``, or None.
        features: Of all images, on every layer.
        base: Detector → anomaly maps ``(N, S, S)``.
        thresholds: Detector → a threshold from normal images: the 95 % quantile of their scores; the largest score of all images
            where there are none.
        model, prompts, nand: Of the study.
        normal_token: With which `nand_plus` is calibrated; None without normal images.
        phrases: Group → the study's phrases for it.
        encoded: Text features by their sentences, so that none is encoded twice.
    """

    noun: str
    names: list[str]
    groups: list[str]
    pictures: list[np.ndarray]
    masks: list[np.ndarray | None]
    features: ImageFeatures
    base: dict[str, Tensor]
    thresholds: dict[str, float]
    model: VisionLanguageModel
    prompts: PromptSet
    nand: NandConfig
    normal_token: Tensor | None
    phrases: Mapping[str, tuple[str, ...]]
    encoded: dict[tuple[str, ...], Tensor] = field(default_factory=dict, repr=False)

    @classmethod
    def of_study(cls, study: OpenStudy, class_name: str, progress: Progress = lambda done, total: None) -> Gallery:
        """The test images of one class, with the maps that the study has stored.

        Raises:
            DataError: If the study has not been run.
        """
        maps, rows, model = ClassMaps.of(study, class_name), study.rows(class_name), study.model
        pictures, features = _encode(model, image_paths(study, class_name), progress)
        train = image_paths(study, class_name, "train")
        normals = [train[k] for k in some_normals(len(train))]
        base = {name: maps.base(name) for name in study.config.detectors}
        scores = {name: maps.normal_scores(name) for name in base}
        return cls(
            noun=class_name,
            names=[name.removeprefix(f"{class_name}/test/") for name in rows["image"]],
            groups=[group or STAYS for group in rows["group"]],
            pictures=pictures,
            masks=[load_mask(study.images / mask, (SIDE, SIDE)) if mask else None for mask in rows["mask"]],
            features=features,
            base=base,
            thresholds={name: _threshold(scores[name], maps_of) for name, maps_of in base.items()},
            model=model,
            prompts=study.prompts,
            nand=study.config.nand,
            normal_token=mean_token(model, normals) if normals else None,
            phrases={g: tuple(study.prompts.group_phrases(class_name, g, t)) for g, t in study.test_groups()[class_name].items()},
        )

    @classmethod
    def of_images(
        cls,
        images: Mapping[str, ImageLike],
        model: VisionLanguageModel,
        *,
        noun: str = "object",
        normals: Sequence[ImageLike] = (),
        nand: NandConfig = NandConfig(),
        progress: Progress = lambda done, total: None,
    ) -> Gallery:
        """One's own images: name → image. With some normal images PatchCore, few-shot WinCLIP and `nand_plus` can be chosen too.

        Raises:
            DataError: If there is no image, or one cannot be read.
        """
        if not images:
            raise DataError("no image was given")
        pictures, features = _encode(model, list(images.values()), progress)
        names = ["aprilgan", "winclip_0", *(("winclip_1", "patchcore") if normals else ())]
        detectors = {name: fit_detector(name, model, noun=noun, normals=normals, nand=nand) for name in names}
        side = (nand.map_size, nand.map_size)
        base = {n: resize_map(torch.from_numpy(d(list(images.values()))), side) for n, d in detectors.items()}
        known = {n: image_score(torch.from_numpy(d(normals))).numpy() for n, d in detectors.items() if normals and n != "patchcore"}
        if len(normals) > 1:
            known["patchcore"] = image_score(detectors["patchcore"].normal_maps(range(len(normals)))).numpy()
        return cls(
            noun=noun,
            names=list(images),
            groups=[""] * len(images),
            pictures=pictures,
            masks=[None] * len(images),
            features=features,
            base=base,
            thresholds={name: _threshold(known.get(name), maps) for name, maps in base.items()},
            model=model,
            prompts=load_prompts(PromptConfig(file="aprilgan")),
            nand=nand,
            normal_token=mean_token(model, normals) if normals else None,
            phrases={},
        )

    @property
    def methods(self) -> tuple[str, ...]:
        """Rules that can be chosen: `nand_plus` needs normal images."""
        return ("nand", "nand_plus") if self.normal_token is not None or not self.nand.plus.calibrate else ("nand",)

    @cached_property
    def layer_mean(self) -> ImageFeatures:
        """The features with their layers averaged: all that `nand_plus` asks of them."""
        return ImageFeatures(self.features.tokens.mean(1, keepdim=True), self.features.image, self.features.grid)


def _encode(model: VisionLanguageModel, images: Sequence[ImageLike], progress: Progress) -> tuple[list[np.ndarray], ImageFeatures]:
    pictures, tokens, whole = [], [], []
    for k, image in enumerate(map(as_image, images)):
        features = model.encode_image(model.preprocess(image)[None])
        pictures.append(np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR)))
        tokens.append(features.tokens)
        whole.append(features.image)
        progress(k + 1, len(images))
    return pictures, ImageFeatures(torch.cat(tokens), torch.cat(whole), features.grid)


def _threshold(normal_scores: np.ndarray | None, maps: Tensor) -> float:
    return float(maps.max()) if normal_scores is None else float(np.quantile(normal_scores, 0.95))


def read_texts(lines: Sequence[str]) -> list[tuple[str, ...]]:
    """What a user typed as normalities: one a line, its phrases parted by ``;``. Empty lines and repetitions are dropped.

    Raises:
        DataError: If a phrase is too long, or there are too many.
    """
    found = [tuple(p for part in line.split(";") if (p := " ".join(part.split()))) for line in lines]
    texts = list(dict.fromkeys(phrases for phrases in found if phrases))
    if len(texts) > MOST_TEXTS:
        raise DataError(f"{len(texts)} texts at once are too many: at most {MOST_TEXTS}, since every one damps the maps further")
    for phrase in (p for phrases in texts for p in phrases):
        if len(phrase.split()) > MOST_WORDS or len(phrase) > 400:
            raise DataError(f"“{phrase[:40]}…” is too long: the text model would not read its end; use at most {MOST_WORDS} words")
    return texts


@dataclass(frozen=True)
class Answer:
    """What some texts do to all images of a gallery.

    Attributes:
        suppression: 1 - Π_k (1 - A_sup_k), ``(N, S, S)``.
        final: A_final, ``(N, S, S)``.
        before, after: Image scores ``(N,)``, of the map alone (``max_plus_image`` is shown as ``max``).
        seconds: That the answer took.
    """

    suppression: Tensor
    final: Tensor
    before: np.ndarray
    after: np.ndarray
    seconds: float

    def auroc(self, groups: Sequence[str], accepted: Sequence[str]) -> tuple[float, float, float] | None:
        """AUROC in percent before, after, and its ceiling, with good images and those of `accepted` groups counted as normal.

        The ceiling leaves out the accepted groups, with the unchanged detector. None where nobody knows what the images show, and
        where no image or every image counts as normal.
        """
        good, abnormal = np.asarray(groups) == "good", ~np.isin(groups, ["good", *accepted])
        if "" in groups or not abnormal.any() or not good.any():
            return None
        rest = good | abnormal
        ceiling = roc_auc_score(abnormal[rest], self.before[rest])
        return 100 * roc_auc_score(abnormal, self.before), 100 * roc_auc_score(abnormal, self.after), 100 * ceiling


@dataclass
class Exploration:
    """A gallery seen with one detector and one method. Every text is computed once for all images.

    Attributes:
        gallery: The images.
        detector: One of ``gallery.base``.
        method: One of ``gallery.methods``.
    """

    gallery: Gallery
    detector: str
    method: str
    _kept: dict[tuple[str, ...], Tensor] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.method not in self.gallery.methods:
            raise DataError("nand_plus is calibrated on normal images: give some")
        gallery, nand = self.gallery, self.gallery.nand.model_copy(update={"method": self.method})
        fixed = (gallery.model, gallery.prompts, gallery.noun, nand, {}, (), gallery.normal_token, gallery.encoded)
        self._bare = AdaptedDetector(_no_detector, *fixed)

    @cached_property
    def base(self) -> Tensor:
        return self.gallery.base[self.detector]

    @cached_property
    def _regions(self) -> Regions | None:
        uses = self.method == "nand_plus" and self.gallery.nand.plus.regions
        return find_regions(self.base, self.gallery.features.grid, self.gallery.nand.plus) if uses else None

    @torch.no_grad()
    def _suppression(self, phrases: tuple[str, ...]) -> Tensor:
        if phrases not in self._kept:
            while len(self._kept) >= MOST_TEXTS:
                del self._kept[next(iter(self._kept))]
            self._kept[phrases] = self._compute(self._bare.add(phrases))
        return self._kept[phrases]

    def _compute(self, adapted: AdaptedDetector) -> Tensor:
        if self.method == "nand_plus":
            (found,) = adapted.suppression(self.gallery.layer_mean, self.base, self._regions).values()
            return found
        features, parts = self.gallery.features, []
        for start in range(0, len(self.base), SCORE_BATCH):
            rows = slice(start, start + SCORE_BATCH)
            part = ImageFeatures(features.tokens[rows], features.image[rows], features.grid)
            parts += adapted.suppression(part, self.base[rows]).values()
        return torch.cat(parts)

    def answer(self, texts: Sequence[tuple[str, ...]]) -> Answer:
        """Maps and scores of all images with the texts added, each a tuple of phrases; no text: the unchanged detector."""
        start = time.perf_counter()
        final, kept = self.base, torch.ones_like(self.base)
        for phrases in texts:
            sup = self._suppression(phrases)
            final, kept = suppress(final, sup), suppress(kept, sup)
        score = self.gallery.nand.image_score
        how = "max" if score == "max_plus_image" else score
        before, after = (image_score(maps, how, self.gallery.nand.top_fraction).numpy() for maps in (self.base, final))
        return Answer(1 - kept, final, before, after, time.perf_counter() - start)

    def nearest(self, phrases: tuple[str, ...], count: int = 3) -> list[tuple[str, float]]:
        """What the model takes a text for: the most similar generic defects, by cosine about the mean of the generic texts."""
        names, features = self._bank
        own, centre = self._bare.text_feature(tuple(self.gallery.prompts.fill(phrases))), features.mean(0)
        cosines = torch.cosine_similarity(features - centre, (own - centre)[None])
        best = cosines.topk(min(count, len(names)))
        return [(names[k], float(v)) for v, k in zip(best.values, best.indices.tolist(), strict=True)]

    @cached_property
    def _bank(self) -> tuple[list[str], Tensor]:
        """Names and features ``(B, D)`` of the generic defects."""
        bank = self.gallery.prompts.bank()
        features = [self._bare.text_feature(tuple(sentences)) for sentences in bank.values()]
        return [name.removeprefix("^") for name in bank], torch.stack(features)


def _no_detector(images: Sequence[ImageLike]) -> list[np.ndarray]:
    raise DataError("the gallery's maps are computed already")
