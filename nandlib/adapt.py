"""`add_normality`: Eq. 5, a trained detector and a text in, an adapted detector out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from nandlib.config import NandConfig, PromptConfig
from nandlib.detection import suppression_map, text_feature
from nandlib.detectors.base import Detector, ImageLike, MapFolder, as_image, check_maps
from nandlib.errors import DataError, nearest
from nandlib.models import ImageFeatures, VisionLanguageModel, load_model
from nandlib.operators import image_score, similarities, suppress
from nandlib.prompts import PromptSet, load_prompts
from nandlib.study import project_root

EMBEDDED_WEIGHTS = "data/models/mini/heads.safetensors"


@dataclass(frozen=True)
class AdaptedDetector:
    """A detector whose anomaly maps are damped where the image shows an added normality. Immutable.

    Attributes:
        detector: The base detector, unchanged.
        model: The vision-language model that detects the normalities.
        prompts: Templates and normal states.
        noun: What the images show, for the normal state ("flawless carpet").
        nand: Parameters of Eq. 4 and 6.
        normalities: Name → phrases of every added normality.
    """

    detector: Detector
    model: VisionLanguageModel
    prompts: PromptSet
    noun: str
    nand: NandConfig
    normalities: Mapping[str, tuple[str, ...]]

    def add(self, text: str | Sequence[str], name: str | None = None) -> AdaptedDetector:
        """With one more normality: a phrase, or several phrases for the same thing.

        Raises:
            DataError: If the text is empty, or the name is taken.
        """
        phrases = (text,) if isinstance(text, str) else tuple(text)
        if not phrases or not all(phrase.strip() for phrase in phrases):
            raise DataError("a normality needs at least one phrase that is not empty")
        name = name or phrases[0]
        if name in self.normalities:
            raise DataError(f"normality '{name}' is added already: give another name, or remove it first")
        return replace(self, normalities={**self.normalities, name: phrases})

    def remove(self, name: str) -> AdaptedDetector:
        """Without the normality of that name (its first phrase, unless named otherwise).

        Raises:
            DataError: If there is none of that name.
        """
        if name not in self.normalities:
            raise DataError(f"no normality '{name}' to take back: {nearest(name, self.normalities)}")
        return replace(self, normalities={k: v for k, v in self.normalities.items() if k != name})

    @torch.no_grad()
    def suppression_maps(self, images: Sequence[ImageLike], sizes: Sequence[tuple[int, int]] | None = None) -> dict[str, list[np.ndarray]]:
        """A_sup of every normality: name → one float32 ``(H, W)`` map an image, in [0, 1] (the raw sum of layers excepted).

        Args:
            images: Paths, PIL images or uint8 arrays.
            sizes: ``(H, W)`` of the maps, one an image; None: ``nand.map_size`` squared.
        """
        states = [self.prompts.normal(self.noun), self.prompts.abnormal(self.noun)]
        added = [self.prompts.fill(phrases) for phrases in self.normalities.values()]
        texts = torch.stack([text_feature(self.model, sentences, self.prompts) for sentences in states + added])
        maps: dict[str, list[np.ndarray]] = {name: [] for name in self.normalities}
        for k, image in enumerate(images):
            features: ImageFeatures = self.model.encode_image(self.model.preprocess(as_image(image))[None])
            cos = similarities(features.tokens, texts)
            for n, name in enumerate(self.normalities):
                single = suppression_map(
                    cos[:, 2 + n],
                    cos[:, 0],
                    cos[:, 1],
                    grid=features.grid,
                    temperature=self.nand.temperature or self.model.temperature,
                    nand=self.nand,
                    size=None if sizes is None else sizes[k],
                )
                maps[name].append(single[0].float().numpy())
        return maps

    def __call__(self, images: Sequence[ImageLike]) -> list[np.ndarray]:
        """A_final = A ⊙ Π_k (1 - A_sup_k) (Eq. 6): one float32 ``(H, W)`` map an image, of the base map's size.

        Raises:
            DataError: If the detector returns a wrong number of maps, a wrong shape, NaN or infinity.
        """
        base = check_maps(self.detector(images), len(images), type(self.detector).__name__)
        if not self.normalities:
            return base
        final = [torch.from_numpy(single) for single in base]
        for maps in self.suppression_maps(images, [single.shape for single in base]).values():
            final = [suppress(anomaly, torch.from_numpy(sup)) for anomaly, sup in zip(final, maps, strict=True)]
        return [anomaly.numpy() for anomaly in final]

    def scores(self, images: Sequence[ImageLike]) -> np.ndarray:
        """Image scores ``(N,)``: the maximum of each adapted map, or what ``nand.image_score`` says."""
        how: Literal["max", "topk_mean"] = "topk_mean" if self.nand.image_score == "topk_mean" else "max"
        maps = (torch.from_numpy(single)[None] for single in self(images))
        return np.array([image_score(single, how, self.nand.top_fraction).item() for single in maps])


def add_normality(
    detector: Detector | str | Path,
    text: str | Sequence[str],
    *,
    model: VisionLanguageModel | None = None,
    noun: str = "object",
    name: str | None = None,
    prompts: PromptSet | None = None,
    nand: NandConfig = NandConfig(),
) -> AdaptedDetector:
    """Eq. 5: make what `text` says normal for a trained detector, without training.

    Args:
        detector: Anything that maps a sequence of images to anomaly maps ``(N, H, W)`` (larger is more anomalous), a
            folder of such maps as .npy or .tiff, or a detector that was adapted before.
        text: A phrase ("thread on carpet"), or several phrases for the same thing.
        model: Finds where an image shows what the text says: ``load_model(...)``; default: the embedded model of the
            checkout that the working directory belongs to.
        noun: What the images show, for the normal state ("carpet").
        name: Under which the normality can be removed again; default: its first phrase.
        prompts: Templates and states; default: APRIL-GAN's.
        nand: Parameters of Eq. 4 and 6.

    Returns:
        A detector: call it on images; `add` and `remove` give detectors with more or fewer normalities.

    Raises:
        DataError: If the text is empty, the folder of maps does not exist, or a parameter has no meaning here.
        ModelError: If no model is given and the embedded one has not been trained ('make model').

    Example:
        >>> adapted = add_normality(detector, "loose thread", noun="carpet")  # doctest: +SKIP
        >>> maps = adapted(["carpet/000.png"])  # doctest: +SKIP
    """
    if isinstance(detector, AdaptedDetector):
        if model is not None or prompts is not None or noun != "object" or nand != NandConfig():
            raise DataError("the detector is adapted already and keeps its model, noun, prompts and parameters: give the text alone")
        return detector.add(text, name)
    if nand.image_score == "max_plus_image" or nand.base_normalisation != "none":
        raise DataError("add_normality sees maps only: image_score 'max_plus_image' and base_normalisation belong to a study")
    if isinstance(detector, (str, Path)):
        detector = MapFolder(detector)
    if model is None:
        model = load_model("mini", project_root() / EMBEDDED_WEIGHTS)
    prompts = prompts or load_prompts(PromptConfig(file="aprilgan"))
    return AdaptedDetector(detector, model, prompts, noun, nand, {}).add(text, name)
