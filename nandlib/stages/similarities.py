"""Similarities of patch tokens with texts: all that APRIL-GAN and NAND need of an image."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor
from tqdm.auto import tqdm

from nandlib.evaluation.control_texts import control_sentences, random_feature
from nandlib.method.detection import text_features
from nandlib.models import VisionLanguageModel
from nandlib.study.encoding import encode, on_normals
from nandlib.study.fingerprint import content, digest, source_code, weight_contents
from nandlib.study.images import image_paths, some_normals, splits
from nandlib.study.model import model_of
from nandlib.study.open_study import OpenStudy
from nandlib.study.store import is_current, keep_only, save

CODE = ("nandlib.evaluation.control_texts", "nandlib.method.detection", "nandlib.study.encoding")  # that compute


def write_similarities(study: OpenStudy, progress: bool = True) -> None:
    """Cosine similarities of every image's patch tokens with f_nor, f_abn, every f_add of its class, the controls, and generic defects.

    One file a class: ``test`` (and ``train``) ``(N, K, L, P)`` and ``test_image`` ``(N, K)``, K texts in the order of the
    metadata's ``texts``; ``test_bank`` ``(N, B, P)`` (mean over layers), B texts of ``bank``; of at most `NORMALS` training-normal
    images ``normal_mean`` ``(K + B,)`` and ``normal_states`` ``(n, 2, L, P)`` with f_nor and f_abn; ``features`` ``(K + B, D)`` of the
    texts. Everything after this stage is a small function of these numbers.
    """
    work = Similarities(study)
    keep_only(study.data / "similarities", study.classes())
    for class_name in tqdm(study.classes(), desc="similarities", disable=not progress):
        work.bring_up_to_date(class_name)


class Similarities:
    """Writes one class's file, unless it is there as it must be."""

    def __init__(self, study: OpenStudy) -> None:
        self.study, self.bank = study, study.prompts.bank()
        self.fixed = (
            source_code(__name__, *CODE),
            weight_contents(study, "model"),
            study.config.model.model_dump(),
            study.config.prompts.average,
        )

    def bring_up_to_date(self, class_name: str) -> None:
        """The file of that class."""
        path, key = self.study.data / "similarities" / f"{class_name}.safetensors", self._fingerprint(class_name)
        if not is_current(path, key):
            save(path, *self._compute(class_name), key)

    def _fingerprint(self, class_name: str) -> str:
        images = [content(image_paths(self.study, class_name, split)) for split in splits(self.study)]
        return digest(*self.fixed, self._sentences(class_name), self.bank, images, content(self._normals(class_name)))

    @torch.no_grad()
    def _compute(self, class_name: str) -> tuple[dict[str, Tensor], dict[str, str]]:
        model, sentences = self._model, self._sentences(class_name)
        texts = self._features(list(sentences.values()))
        texts = torch.cat([texts, random_feature(class_name, texts.shape[1])[None]])
        paths = {split: image_paths(self.study, class_name, split) for split in splits(self.study)}
        tensors, grid = encode(paths, model, texts, self._generic)
        everything = torch.cat([texts, self._generic])
        mean, states = on_normals(self._normals(class_name), model, everything)
        tensors |= {"features": everything, "normal_mean": mean, "normal_states": states}
        metadata = {"texts": json.dumps([*sentences, "~random vector"]), "bank": json.dumps(list(self.bank))}
        metadata |= {"grid": json.dumps(grid), "temperature": repr(model.temperature)}
        return tensors, metadata

    def _sentences(self, class_name: str) -> dict[str, list[str]]:
        own = self.study.prompts.of_class(class_name, self.study.test_groups()[class_name])
        return own | control_sentences(self.study, class_name)

    def _normals(self, class_name: str) -> list[Path]:
        paths = image_paths(self.study, class_name, "train")
        return [paths[k] for k in some_normals(len(paths))]

    def _features(self, sets: Sequence[list[str]]) -> Tensor:
        return text_features(self._model, sets, self.study.prompts)

    @cached_property
    def _model(self) -> VisionLanguageModel:
        return model_of(self.study)

    @cached_property
    def _generic(self) -> Tensor:
        return self._features(list(self.bank.values()))
