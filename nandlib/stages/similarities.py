"""Similarities of patch tokens with texts: all that APRIL-GAN and NAND need of an image."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path

import torch
from torch import Tensor
from tqdm.auto import tqdm

from nandlib.evaluation.control_texts import control_sentences, random_feature
from nandlib.method.detection import text_features
from nandlib.models import VisionLanguageModel
from nandlib.study.encoding import encode, on_normals
from nandlib.study.fingerprint import content, digest, source_code, weight_contents
from nandlib.study.images import image_paths, some_normals
from nandlib.study.model import model_of
from nandlib.study.open_study import OpenStudy
from nandlib.study.store import WHOLE, Made, bring_up_to_date, keep_only, shards_of

CODE = ("nandlib.evaluation.control_texts", "nandlib.method.detection", "nandlib.study.encoding")  # that compute


def write_similarities(study: OpenStudy, progress: bool = True) -> None:
    """Cosine similarities of every image's patch tokens with f_nor, f_abn, every f_add of its class, the controls, and generic defects.

    A folder a class. Shards of its images hold ``test`` (and ``train``) ``(n, K, L, P)`` and ``test_image`` ``(n, K)``, K texts in the
    order of the metadata's ``texts``, and ``test_bank`` ``(n, B, P)`` (mean over layers), B texts of ``bank``. One file holds, of at most
    `NORMALS` training-normal images, ``normal_mean`` ``(K + B,)`` and ``normal_states`` ``(n, 2, L, P)`` with f_nor and f_abn; and
    ``features`` ``(K + B, D)`` of the texts. Everything after this stage is a small function of these numbers.
    """
    clear_similarities(study)
    work = Similarities(study)
    for class_name in tqdm(study.classes(), desc="similarities", disable=not progress):
        work.bring_up_to_date(class_name)


def clear_similarities(study: OpenStudy) -> None:
    """Delete what is of no class or shard of the study."""
    keep_only(study.data / "similarities", study.classes())
    for class_name in study.classes():
        keep_only(study.data / "similarities" / class_name, [WHOLE, *(name for name, *_ in shards_of(study, class_name))])


class Similarities:
    """Writes one class's files, unless they are there as they must be."""

    def __init__(self, study: OpenStudy) -> None:
        self.study, self.bank, self.folder = study, study.prompts.bank(), study.data / "similarities"
        self.fixed = (
            source_code(__name__, *CODE),
            weight_contents(study, "model"),
            study.config.model.model_dump(),
            study.config.prompts.average,
        )
        self._last: tuple[str, Tensor] | None = None

    def bring_up_to_date(self, class_name: str, some: slice = slice(None)) -> None:
        """The files of that class: of `some` of its shards, and that of the whole class with the first one."""
        own, folder = (*self.fixed, self._sentences(class_name), self.bank), self.folder / class_name
        for name, split, paths in shards_of(self.study, class_name)[some]:
            make = partial(self._of_images, class_name, {split: paths})
            bring_up_to_date(folder / name, digest(*own, split, content(paths)), make)
        if not some.start:
            normals = self._normals(class_name)
            bring_up_to_date(folder / WHOLE, digest(*own, content(normals)), partial(self._of_class, class_name, normals))

    @torch.no_grad()
    def _of_images(self, class_name: str, paths: Mapping[str, Sequence[Path]]) -> Made:
        tensors, grid = encode(paths, self._model, self._texts(class_name), self._generic)
        metadata = {"texts": json.dumps([*self._sentences(class_name), "~random vector"]), "bank": json.dumps(list(self.bank))}
        return tensors, metadata | {"grid": json.dumps(grid), "temperature": repr(self._model.temperature)}

    @torch.no_grad()
    def _of_class(self, class_name: str, normals: Sequence[Path]) -> Made:
        everything = torch.cat([self._texts(class_name), self._generic])
        mean, states = on_normals(normals, self._model, everything)
        return {"features": everything, "normal_mean": mean, "normal_states": states}, {}

    def _texts(self, class_name: str) -> Tensor:
        """``(K, D)``; those of the last class are held."""
        if self._last is None or self._last[0] != class_name:
            texts = self._features(list(self._sentences(class_name).values()))
            self._last = class_name, torch.cat([texts, random_feature(class_name, texts.shape[1])[None]])
        return self._last[1]

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
        model = model_of(self.study)
        self.study.config.nand.layers_of(model.n_layers)  # refused before all images have passed, not after
        return model

    @cached_property
    def _generic(self) -> Tensor:
        return self._features(list(self.bank.values()))
