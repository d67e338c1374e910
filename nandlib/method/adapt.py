"""A detector whose anomaly maps are damped where an image shows an added normality (Eq. 5 and 6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nandlib.data.batch import Batch, in_batches, in_pieces
from nandlib.data.images import ImageLike, refuse_single
from nandlib.data.maps import Detector, check_maps
from nandlib.errors import DataError, nearest
from nandlib.heard import warn_of_unheard
from nandlib.method import saved
from nandlib.method.batches import BATCH, encoded
from nandlib.method.check import Check, Scores, as_kinds, check, refuse_contradictions
from nandlib.method.config import NandConfig
from nandlib.method.descriptors import Descriptors
from nandlib.method.detection import text_feature
from nandlib.method.examples import Example, both
from nandlib.method.operators import image_score, similarities, suppress
from nandlib.method.plus import Regions, find_regions
from nandlib.method.prompts import PromptSet, checked_name, checked_phrases, refuse_repeated, still_abnormal
from nandlib.method.shown import Shown, as_example
from nandlib.method.suppression import Similarities, Texts, suppression
from nandlib.method.threshold import Threshold, certain_threshold, lasting, promised_threshold
from nandlib.models import ImageFeatures, VisionLanguageModel, load_model, whole_float32


@dataclass(frozen=True, eq=False)
class AdaptedDetector:
    """A detector whose anomaly maps are damped where the image shows an added normality. Immutable.

    Attributes:
        detector: The base detector, unchanged.
        model: The vision-language model that detects the normalities.
        prompts: Templates and normal states.
        noun: What the images show, for the normal state ("flawless carpet").
        nand: Parameters of Eq. 4 and 6.
        normalities: Name → phrases of every normality that was said.
        shown: Those that were shown, by examples.
        others: Phrases of defects that stay abnormal, one tuple a defect, for ``plus.competitors: types``.
        normal_token: ``(D,)`` mean patch token of normal images, with which `nand_plus` is calibrated.
        threshold: When `predict` rejects; `calibrate` sets it.
        encoded: Text features by average and sentences, shared with all that `add` and `remove` give: no text is encoded twice.
    """

    detector: Detector
    model: VisionLanguageModel = field(repr=False)
    prompts: PromptSet = field(repr=False)
    noun: str
    nand: NandConfig = field(repr=False)
    normalities: Mapping[str, tuple[str, ...]]
    shown: Shown
    others: tuple[tuple[str, ...], ...] = ()
    normal_token: Tensor | None = field(default=None, repr=False)
    threshold: Threshold | None = None
    encoded: dict[tuple[str, ...], Tensor] = field(default_factory=dict, repr=False, compare=False)

    def add(
        self, text: str | Sequence[str] = (), name: str | None = None, *, examples: Sequence[ImageLike | Example] = ()
    ) -> AdaptedDetector:
        """With one more normality: a phrase or several for the same thing, examples of it, or both; or with more examples of one.

        Args:
            text: A phrase, or phrases.
            name: Under which it can be removed; default: the first phrase, or ``example``. Of one that is there: examples show more of it.
            examples: Images that show it; `nandlib.method.examples.Example` for those with a mask, box or point.

        Raises:
            DataError: If there is neither text nor example, a phrase is empty or not read, the name is taken or no printable text, none of
                `others` stays, or an example is none: its score is not above normal, its mask does not fit, it was given before.
        """
        phrases = checked_phrases(text)
        refuse_single(examples, "examples")
        if not (phrases or len(examples)):
            raise DataError("a normality needs at least one phrase that is not empty, or an example")
        name, more = checked_name(name or (phrases or ("example",))[0]), not phrases and name in self.names
        if name in self.names and not more:
            how = f"name={name!r} to show more of it" if not phrases else "remove it first"
            raise DataError(f"normality '{name}' is added already: give another name, or {how}")
        refuse_repeated(phrases, self.normalities)
        if phrases:
            self.text_feature(tuple(self.prompts.fill(phrases)))  # what cannot be read is refused here
            warn_of_unheard(self.model, phrases)
        still_abnormal(self.others, said := {**self.normalities, **({name: phrases} if phrases else {})})
        shown, kept = self._show(name, examples) if len(examples) else self.shown, lasting(self.threshold) if more else self.threshold
        return replace(self, normalities=said, shown=shown, threshold=kept)

    def _show(self, name: str, examples: Sequence[ImageLike | Example]) -> Shown:
        return self.shown.add(name, given := list(map(as_example, examples)), self._base([example.image for example in given]))

    def remove(self, name: str) -> AdaptedDetector:
        """Without the normality of that name. A threshold that `recalibrate` set goes with it: it holds for what was added then.

        Raises:
            DataError: If there is none of that name.
        """
        if name not in self.names and (name := " ".join(str(name).split())) not in self.names:  # as `checked_phrases` leaves what was said
            raise DataError(f"no normality '{name}' to take back: {nearest(name, self.names)}")
        rest = {key: own for key, own in self.normalities.items() if key != name}
        return replace(self, normalities=rest, shown=self.shown.remove(name), threshold=lasting(self.threshold))

    @property
    def names(self) -> list[str]:
        """Of all normalities."""
        return list(dict.fromkeys((*self.normalities, *self.shown.examples)))

    @torch.no_grad()
    def suppression_maps(self, images: Sequence[ImageLike], base: Sequence[np.ndarray] | None = None) -> dict[str, list[np.ndarray]]:
        """A_sup of every normality: name → one float32 ``(H, W)`` map an image, in [0, 1] (the raw sum of layers excepted).

        Args:
            images: Paths, PIL images or uint8 arrays.
            base: Anomaly maps, whose sizes the maps take and in which `nand_plus` finds its regions; None: ``nand.map_size`` squared
                for the paper's rule, and the detector is called for `nand_plus`.
        """
        if base is not None:
            base = check_maps(base, len(images), "base")
        elif self.nand.method != "nand" or self.shown.examples:
            base = self._base(images)
        maps: dict[str, list[np.ndarray]] = {name: [] for name in self.normalities}
        for features, sizes in encoded(self.model, images, base) if self.normalities else ():
            for name, found in self.suppression(features, sizes).items():
                maps[name] += list(found.float().numpy())
        for name, own in self.shown.maps(images, () if base is None else base).items():
            if name in maps:
                pairs = zip(maps[name], own, strict=True)
                weight = self.nand.examples.text_weight
                own = [both(torch.from_numpy(said), torch.from_numpy(single), weight).numpy() for said, single in pairs]
            maps[name] = own
        return maps

    @whole_float32()
    def suppression(self, features: ImageFeatures, base: Tensor | None = None, regions: Regions | None = None) -> dict[str, Tensor]:
        """A_sup of every normality that was said, from image features that are at hand: name → ``(N, H, W)``.

        Args:
            features: Of N images.
            base: Their anomaly maps ``(N, H, W)``; `nand_plus` needs them, the paper's rule takes only their size.
            regions: Of `base`, where they are at hand already; `nand_plus` finds them otherwise.
        """
        size = (self.nand.map_size, self.nand.map_size) if base is None else (base.shape[-2], base.shape[-1])
        if self.nand.by_regions and regions is None:
            if base is None:
                raise DataError("nand_plus finds regions in anomaly maps: give them as base, or set plus.regions: false")
            regions = find_regions(base, features.grid, self.nand.plus)
        similar = Similarities(
            similarities(features.tokens, self.texts),
            self.which,
            features.grid,
            self.nand.temperature or self.model.temperature,
            normal_mean=None if self.normal_token is None else self.texts @ self.normal_token,
        )
        return {name: suppression(similar, 2 + n, self.nand, size, regions) for n, name in enumerate(self.normalities)}

    @cached_property
    def texts(self) -> Tensor:
        """Text features ``(K, D)``: f_nor, f_abn, every normality's, and for `nand_plus` those of its rivals."""
        states = [self.prompts.normal(self.noun), self.prompts.abnormal(self.noun)]
        added = [self.prompts.fill(phrases) for phrases in self.normalities.values()]
        stay = still_abnormal(self.others, self.normalities)
        rivals = self.prompts.rivals(self.nand.competitors, stay) if self.nand.competitors else []
        return torch.stack([self.text_feature(tuple(sentences)) for sentences in states + added + rivals])

    @cached_property
    def which(self) -> Texts:
        """Which of `texts` is which."""
        further = range(2 + len(self.normalities), len(self.texts))  # the bank, or the other types
        return Texts(self.texts, normal=0, abnormal=1, types=further, generic=further)

    def text_feature(self, sentences: tuple[str, ...]) -> Tensor:
        """Eq. 3: the feature ``(D,)`` of prompts; every set of prompts is encoded once."""
        key = (self.prompts.config.average, *sentences)
        if key not in self.encoded:
            self.encoded[key] = text_feature(self.model, sentences, self.prompts)
        return self.encoded[key]

    def _base(self, images: Sequence[ImageLike]) -> list[np.ndarray]:
        refuse_single(images, "images")  # no image is not what every detector can take
        return check_maps(self.detector(images), len(images), type(self.detector).__name__) if len(images) else []

    def __call__(self, images: Sequence[ImageLike]) -> list[np.ndarray]:
        """A_final = A ⊙ Π_k (1 - A_sup_k) (Eq. 6): one float32 ``(H, W)`` map an image, of the base map's size.

        Raises:
            DataError: If the detector returns a wrong number of maps, a wrong shape, NaN or infinity.
        """
        shared = getattr(self.detector, "preprocess", None) == self.model.preprocess and not isinstance(images, Batch)
        pieces = in_batches(images, self.model.preprocess, BATCH) if shared else [images]  # one pass of the tower serves detector and text
        return [final for piece in pieces for final in self.damp(piece, self._base(piece))]

    def damp(self, images: Sequence[ImageLike], base: Sequence[np.ndarray]) -> list[np.ndarray]:
        """A_final of maps that are at hand already: `base` has one ``(H, W)`` map an image, such as a detector must give (or DataError)."""
        refuse_single(images, "images")
        base = check_maps(base, len(images), "base")
        final = [torch.from_numpy(single) for single in base]  # a copy of the detector's own
        for maps in self.suppression_maps(images, base).values() if self.names else ():
            final = [suppress(anomaly, torch.from_numpy(sup)) for anomaly, sup in zip(final, maps, strict=True)]
        return [anomaly.numpy() for anomaly in final]

    def scores(self, images: Sequence[ImageLike]) -> np.ndarray:
        """Image scores ``(N,)``: the maximum of each adapted map, or what ``nand.image_score`` says."""
        return np.concatenate(in_pieces(lambda piece: self._scores(self(piece)), images))

    def calibrate(self, normals: Sequence[ImageLike] | None = None, level: float = 0.05) -> AdaptedDetector:
        """With a threshold that rejects at most a share `level` of normal images.

        It is that of the detector before anything was added, and stays where it is: a text may make images pass, never others fail.

        Args:
            normals: Normal images that the detector was not trained on; None: those that it was trained on, by its own leave-own-out maps
                (``detector.normal_maps``, which this study's PatchCore has).
            level: Share of false alarms. With n images no level below 1 / (n + 1) can be had: `Threshold.level` says what is.

        Raises:
            DataError: If there is no image, the detector was fitted on one or has no such maps, or `level` is not between 0 and 1.
        """
        self.shown.descriptors.refuse_fitted(() if normals is None else normals)
        own = getattr(self.detector, "normal_maps", None)
        if normals is None and own is None:
            raise DataError(f"{type(self.detector).__name__} has no normal_maps of its own: give normal images that it was not trained on")
        maps = list(own()) if normals is None and own is not None else self._base([] if normals is None else normals)
        scores = self._scores([np.asarray(single, np.float32) for single in maps])
        return replace(self, threshold=promised_threshold(scores, level))

    def recalibrate(self, passing: Sequence[ImageLike], level: float = 0.05, confidence: float = 0.95) -> AdaptedDetector:
        """With a fresh threshold: set on images that should pass now, normal and accepted ones, as they score after what was added.

        With that confidence at most a share `level` of such images will be rejected (`certain_threshold`; needs the extra 'check').

        Raises:
            DataError: If so few images vouch for no threshold, the detector was fitted on one, or one is an example.
        """
        self.shown.refuse_used(passing)
        scores = self.scores(passing)
        return replace(self, threshold=Threshold(certain_threshold(scores, level, confidence), level, len(scores), confidence))

    def predict(self, images: Sequence[ImageLike]) -> np.ndarray:
        """``(N,)`` bool: which images are rejected, their score above `threshold`.

        Raises:
            DataError: If no threshold has been set.
        """
        if self.threshold is None:
            raise DataError("no threshold has been set: adapted = adapted.calibrate(normals, level=0.05)")
        return np.asarray(self.scores(images) > self.threshold.value)

    def check(
        self,
        normals: Sequence[ImageLike],
        rejects: Sequence[ImageLike] = (),
        *,
        accepted: Sequence[ImageLike] = (),
        rejected: Sequence[ImageLike] = (),
        level: float = 0.05,
    ) -> Check:
        """Will what was added do harm? A verdict from a few images (`nandlib.method.check`, where its limits are).

        Args:
            normals: Normal images that the detector was not trained on.
            rejects: Images that were rejected; whether rightly is not known.
            accepted, rejected: Images that should pass from now on, and such as should still be rejected; not those given as examples.
            level: Share of false alarms of the threshold, where `calibrate` has set none (that of `recalibrate` is of what was added).

        Raises:
            DataError: If nothing was added, there are no normal images, one image is given for a list, an image as two kinds, or one that
                is an example, or that the detector is known to have been trained on.
        """
        kinds = as_kinds(normals=normals, rejects=rejects, accepted=accepted, rejected=rejected)
        if not self.names or not kinds["normals"]:
            raise DataError("a check needs an added normality and some normal images: give normals=[...]")
        refuse_contradictions(kinds, {"the examples": self.shown.every_key()})
        self.shown.descriptors.refuse_known(kinds["normals"])
        scores = {kind: self._before_and_after(images) for kind, images in kinds.items()}
        normal = scores["normals"].before
        own = None if self.threshold is None or self.threshold.fresh else self.threshold
        return check(**scores, threshold=own or promised_threshold(normal, level), said=bool(self.normalities))

    def save(self, folder: str | Path) -> Path:
        """Write all but model and base detector (`nandlib.method.saved`), whose map of a drawn image is asked for with a threshold."""
        folder = Path(folder)
        own = bool(self.shown.examples) and not self.shown.descriptors.lent  # what is normal is no part of the detector
        content = saved.Saved(
            **saved.detector_words(self.detector, folder, self.threshold),
            noun=self.noun,
            normalities=dict(self.normalities),
            others=self.others,
            nand=self.nand,
            prompts=saved.Words.of(self.prompts),
            shown=tuple(self.shown.examples),
            keys={name: tuple(key.hex() for key in own) for name, own in self.shown.keys.items()},
            **({name: getattr(self.shown.descriptors, name) for name in ("level", "highest")} if own else {}),
        )
        tensors = {"texts": self.texts} | {f"{saved.SHOWN}{name}": examples for name, examples in self.shown.examples.items()}
        tensors |= {"normal_patches": self.shown.descriptors.normal} if own else {}
        tensors |= {} if self.normal_token is None else {"normal_token": self.normal_token}
        saved.write(folder, content, tensors)
        return folder

    @classmethod
    def load(
        cls,
        folder: str | Path,
        detector: Detector | str | Path | None = None,
        model: VisionLanguageModel | None = None,
        *,
        normals: Sequence[ImageLike] = (),
    ) -> AdaptedDetector:
        """What `save` wrote, on the base detector that is given.

        Args:
            folder: The folder.
            detector: The one that was adapted, or a folder of its maps; None: the folder that was saved. On one whose map of a drawn image
                is another, as of most that are fitted anew, the threshold is left out, with a warning.
            model: The vision-language model; None: the embedded one. Its texts must be those that were saved.
            normals: Normal images, by which examples are told that are added later; not needed where examples were saved.

        Raises:
            DataError: If a file is missing or damaged, no detector is given where one is needed, it is of another class, or the model
                is not the one whose text features were saved.
        """
        folder = Path(folder)
        refuse_single(normals, "normals")
        found, tensors = saved.read(folder)
        detector, model = saved.base_detector(found, folder, detector), model or load_model("mini")
        descriptors = Descriptors(detector, model, normals, tensors.get("normal_patches"), found.level, found.highest)
        keys = {name: tuple(map(bytes.fromhex, own)) for name, own in found.keys.items()}
        shown = Shown(descriptors, found.nand, saved.shown(folder, tensors, found.shown, descriptors), keys)
        threshold = saved.kept_threshold(found, folder, detector)
        said = found.prompts.prompt_set(folder), found.noun, found.nand, found.normalities
        adapted = cls(detector, model, *said, shown, found.others, tensors.get("normal_token"), threshold)
        saved.refuse_other_texts(folder, tensors, adapted.texts)
        return adapted

    def _before_and_after(self, images: Sequence[ImageLike]) -> Scores:
        final = self.damp(images, base := self._base(images))
        return Scores(self._scores(base), self._scores(final), tuple(zip(base, final, strict=True)))

    def image_scores(self, maps: Tensor) -> Tensor:
        """Of maps ``(N, H, W)``: their maxima, or what ``nand.image_score`` says, ``(N,)``."""
        return image_score(maps, "topk_mean" if self.nand.image_score == "topk_mean" else "max", self.nand.top_fraction)

    def _scores(self, maps: Sequence[np.ndarray]) -> np.ndarray:
        return np.array([self.image_scores(torch.from_numpy(single)[None]).item() for single in maps])
