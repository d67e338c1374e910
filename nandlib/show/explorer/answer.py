"""What texts do to a gallery: maps and scores of all images, every text computed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from nandlib.errors import DataError
from nandlib.method.adapt import AdaptedDetector
from nandlib.method.descriptors import Descriptors
from nandlib.method.examples import (
    Example,
    example_suppression,
    marked_weights,
    region_directions,
    shown_directions,
)
from nandlib.method.operators import image_score, suppress
from nandlib.method.plus import Regions, find_regions
from nandlib.method.prompts import MOST_TEXTS
from nandlib.method.shown import Shown, check_new, check_shows
from nandlib.models import ImageFeatures
from nandlib.show.explorer.gallery import SIDE, Gallery, no_detector
from nandlib.study.class_maps import SCORE_BATCH


@dataclass(frozen=True)
class Pick:
    """An image of a gallery that is accepted: its region of highest anomaly, or what lies in a box.

    Attributes:
        index: Of the image.
        box: ``(left, top, right, bottom)`` in pixels of the picture, which is `SIDE` wide and high.
    """

    index: int
    box: tuple[float, float, float, float] | None = None


@dataclass(frozen=True)
class Answer:
    """What some texts and examples do to all images of a gallery.

    Attributes:
        suppression: 1 - Π_k (1 - A_sup_k), ``(N, S, S)``.
        final: A_final, ``(N, S, S)``.
        before, after: Image scores ``(N,)``, of the map alone (``max_plus_image`` is shown as ``max``).
    """

    suppression: Tensor
    final: Tensor
    before: np.ndarray
    after: np.ndarray

    def auroc(self, groups: Sequence[str], accepted: Sequence[str]) -> tuple[float, float, float] | None:
        """AUROC in percent before, after, and of the others alone, with good images and those of `accepted` groups counted as normal.

        The last leaves out the accepted groups, with the unchanged detector. None where nobody knows what the images show, and
        where no image or every image counts as normal.
        """
        good, abnormal = np.asarray(groups) == "good", ~np.isin(groups, ["good", *accepted])
        if "" in groups or not abnormal.any() or not good.any():
            return None
        rest = good | abnormal
        others = roc_auc_score(abnormal[rest], self.before[rest])
        return 100 * roc_auc_score(abnormal, self.before), 100 * roc_auc_score(abnormal, self.after), 100 * others


@dataclass
class Exploration:
    """A gallery seen with one detector and one method. Every text is computed once for all images.

    Examples are compared by the model's descriptors, whatever the detector.

    Attributes:
        gallery: The images.
        detector: One of ``gallery.base``.
        method: One of ``gallery.methods``.
    """

    gallery: Gallery
    detector: str
    method: str
    _kept: dict[tuple[str, ...], Tensor] = field(default_factory=dict, repr=False)
    _picked: dict[Pick, Tensor] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.method not in self.gallery.methods:
            raise DataError("nand_plus is calibrated on normal images: give some")
        gallery, nand = self.gallery, self.gallery.nand.model_copy(update={"method": self.method})
        shown = Shown(Descriptors(no_detector, gallery.model), nand)
        self._bare = AdaptedDetector(
            no_detector, gallery.model, gallery.prompts, gallery.noun, nand, {}, shown, (), gallery.normal_token, encoded=gallery.encoded
        )

    @cached_property
    def base(self) -> Tensor:
        return self.gallery.base[self.detector]

    @cached_property
    def _regions(self) -> Regions | None:
        nand = self._bare.nand
        return find_regions(self.base, self.gallery.features.grid, nand.plus) if nand.by_regions else None

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
        features, parts = self.gallery.features, list[Tensor]()
        for start in range(0, len(self.base), SCORE_BATCH):
            rows = slice(start, start + SCORE_BATCH)
            part = ImageFeatures(features.tokens[rows], features.image[rows], features.grid)
            parts += adapted.suppression(part, self.base[rows]).values()
        return torch.cat(parts)

    @cached_property
    def peaks(self) -> tuple[Regions, list[Tensor]]:
        """Regions of all anomaly maps, and where their residuals point, n times ``(R, C)``.

        Raises:
            DataError: If the gallery cannot tell examples.
        """
        if self.gallery.residuals is None:
            raise DataError("what is accepted is told from what is normal: give some normal images, and a model with patch descriptors")
        differences = self.gallery.residuals
        regions = find_regions(self.base, (differences.shape[-2], differences.shape[-1]), self.gallery.nand.plus)
        return regions, region_directions(list(differences.flatten(2).transpose(1, 2)), regions)

    def top_region(self, index: int) -> np.ndarray:
        """Where one image's map is highest: its region there, above half of the peak, ``(S, S)`` bool."""
        labels, single = self.peaks[0].labels[index], self.base[index].numpy()
        return (labels == labels.flat[single.argmax()]) & (single >= single.max() / 2)

    def check_pick(self, pick: Pick, others: Sequence[Pick] = ()) -> None:
        """Raise DataError if an image shows nothing that could be accepted, or shows what another pick does already."""
        scores, name = self.gallery.normal_scores[self.detector], self.gallery.names[pick.index]
        if pick.box is None:
            check_shows(name, float(self.base[pick.index].max()), None if scores is None else float(np.median(scores)))
        check_new(name, self.example(pick)[0], [self.example(other)[0] for other in others])

    @torch.no_grad()
    def example(self, pick: Pick) -> Tensor:
        """What a pick shows ``(T, C)``, in each position of an example; computed once."""
        if pick not in self._picked:
            regions, describe = self.peaks[0], self.gallery.describe
            assert describe is not None  # or there would be no peaks
            where = Example(self.gallery.pictures[pick.index], box=pick.box).where((SIDE, SIDE))
            top = regions.labels[pick.index].flat[int(self.base[pick.index].argmax())]
            weigh = regions.weights[pick.index][top].view if where is None else partial(marked_weights, where)
            image, config = self.gallery.images[pick.index], self.gallery.nand.examples
            self._picked[pick] = shown_directions(image, describe, weigh, describe.normal, config)
        return self._picked[pick]

    @torch.no_grad()
    def answer(self, texts: Sequence[tuple[str, ...]], picks: Sequence[Pick] = ()) -> Answer:
        """Maps and scores of all images with the texts added, each a tuple of phrases, and the picks as examples of one more normality.

        Nothing added: the unchanged detector.

        Raises:
            DataError: If there are picks and the gallery cannot tell examples.
        """
        final, kept = self.base, torch.ones_like(self.base)
        for phrases in texts:
            sup = self._suppression(phrases)
            final, kept = suppress(final, sup), suppress(kept, sup)
        if picks:
            regions, found = self.peaks
            examples = torch.cat([self.example(pick) for pick in picks])
            sup = example_suppression(found, examples, regions, self.gallery.nand.examples)
            final, kept = suppress(final, sup), suppress(kept, sup)
        score = self.gallery.nand.image_score
        how = "max" if score == "max_plus_image" else score
        before, after = (image_score(maps, how, self.gallery.nand.top_fraction).numpy() for maps in (self.base, final))
        return Answer(1 - kept, final, before, after)

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
