"""Similarities of patch tokens with texts: all that APRIL-GAN and NAND need of an image."""

from __future__ import annotations

import json
import random
import sys
import zlib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

import nandlib.data.manifest
import nandlib.method.detection
import nandlib.method.operators
import nandlib.models.base
import nandlib.models.clip
import nandlib.models.mini
import nandlib.study.store
from nandlib.method.detection import text_feature
from nandlib.method.operators import similarities
from nandlib.models import VisionLanguageModel
from nandlib.study.open_study import OpenStudy
from nandlib.study.store import batches, content, digest, image_paths, some_normals, sources, splits, update, weight_contents


def control_sentences(study: OpenStudy, class_name: str) -> dict[str, list[str]]:
    """Texts that must not help, as controls: ``~<control>``, or ``~<control>:<group>`` where each group has its own.

    Another class's text names the first type of the study's next class (by its name: phrases of one class bear on no other).
    Words are shuffled within every phrase.
    """
    prompts, groups, classes = study.prompts, study.test_groups(), study.classes()
    found = {"~empty text": prompts.fill([""]), "~any defect": prompts.fill(["defect", "damage", "flaw", "anomaly"])}
    following = classes[(classes.index(class_name) + 1) % len(classes)]
    if following != class_name:
        foreign = next(iter(groups[following].values()))[0]
        found["~another class's text"] = prompts.fill([f"{foreign} on {following}".replace("_", " ")])
    rng = random.Random(class_name)
    for group, types in groups[class_name].items():
        shuffled = [" ".join(rng.sample(words := phrase.split(), len(words))) for phrase in prompts.group_phrases(class_name, group, types)]
        found[f"~shuffled words:{group}"] = prompts.fill(shuffled)
    return found


def random_feature(class_name: str, width: int) -> Tensor:
    """A random unit vector ``(width,)`` in place of a text feature, always the same for a class."""
    generator = torch.Generator().manual_seed(zlib.crc32(class_name.encode()))
    return F.normalize(torch.randn(width, generator=generator), dim=0)


def compare(
    paths: Mapping[str, Sequence[Path]], model: VisionLanguageModel, texts: Tensor, bank: Tensor | None = None
) -> tuple[dict[str, Tensor], tuple[int, int]]:
    """One forward pass an image, and its similarities with texts.

    Args:
        paths: Split → images.
        model: The vision-language model.
        texts: ``(K, D)``, unit norm.
        bank: ``(B, D)``, more texts, for which the mean over layers is enough.

    Returns:
        Per split, ``<split>`` ``(N, K, L, P)`` of the patch tokens, ``<split>_bank`` ``(N, B, P)``, and ``<split>_image`` ``(N, K)`` of
        the whole images; and the grid ``(h, w)`` of the patches.
    """
    found: dict[str, Tensor] = {}
    grid = (0, 0)
    for split, images in paths.items():
        cos, generic, whole = [], [], []
        for batch in batches(images, model.preprocess):
            features = model.encode_image(batch)
            cos.append(similarities(features.tokens, texts))
            if bank is not None:
                generic.append(similarities(features.tokens, bank).mean(2))
            whole.append(features.image @ texts.T)
            grid = features.grid
        found |= {split: torch.cat(cos), f"{split}_image": torch.cat(whole)}
        if generic:
            found[f"{split}_bank"] = torch.cat(generic)
    return found, grid


def on_normals(paths: Sequence[Path], model: VisionLanguageModel, texts: Tensor) -> tuple[Tensor, Tensor]:
    """What the texts find where nothing is wrong.

    Args:
        paths: Training-normal images.
        model: The vision-language model.
        texts: ``(K, D)``, unit norm; the first two are f_nor and f_abn.

    Returns:
        ``(K,)`` mean similarity over images, layers and patches; ``(N, 2, L, P)`` similarities with f_nor and f_abn.
    """
    means, states = [], []
    for batch in batches(paths, model.preprocess):
        cos = similarities(model.encode_image(batch).tokens, texts)
        means.append(cos.mean((2, 3)))
        states.append(cos[:, :2])
    return torch.cat(means).mean(0), torch.cat(states)


def write_similarities(study: OpenStudy, progress: bool = True) -> None:
    """Cosine similarities of every image's patch tokens with f_nor, f_abn, every f_add of its class, the controls, and generic defects.

    One file a class: ``test`` (and ``train``) ``(N, K, L, P)`` and ``test_image`` ``(N, K)``, K texts in the order of the
    metadata's ``texts``; ``test_bank`` ``(N, B, P)`` (mean over layers), B texts of ``bank``; of at most `store.NORMALS` training-normal
    images ``normal_mean`` ``(K + B,)`` and ``normal_states`` ``(n, 2, L, P)`` with f_nor and f_abn; ``features`` ``(K + B, D)`` of the
    texts. Everything after this stage is a small function of these numbers.
    """
    code = sources(
        sys.modules[__name__],
        nandlib.study.store,
        nandlib.data.manifest,
        nandlib.models.base,
        nandlib.models.mini,
        nandlib.models.clip,
        nandlib.method.operators,
        nandlib.method.detection,
    )
    weights, config, bank = weight_contents(study, "model"), study.config, study.prompts.bank()

    def sentences_for(class_name: str) -> dict[str, list[str]]:
        own = study.prompts.of_class(class_name, study.test_groups()[class_name])
        return own | control_sentences(study, class_name)

    def normal_images(class_name: str) -> list[Path]:
        paths = image_paths(study, class_name, "train")
        return [paths[k] for k in some_normals(len(paths))]

    def fingerprint(class_name: str) -> str:
        images = [content(image_paths(study, class_name, split)) for split in splits(study)]
        normals = content(normal_images(class_name))
        return digest(code, weights, config.model.model_dump(), config.prompts.average, sentences_for(class_name), bank, images, normals)

    @cache
    def generic() -> Tensor:
        return torch.stack([text_feature(study.model, prompts, study.prompts) for prompts in bank.values()])

    def compute(class_name: str) -> tuple[dict[str, Tensor], dict[str, str]]:
        model, sentences = study.model, sentences_for(class_name)
        texts = torch.stack([text_feature(model, prompts, study.prompts) for prompts in sentences.values()])
        texts = torch.cat([texts, random_feature(class_name, texts.shape[1])[None]])
        tensors, grid = compare({split: image_paths(study, class_name, split) for split in splits(study)}, model, texts, generic())
        everything = torch.cat([texts, generic()])
        mean, states = on_normals(normal_images(class_name), model, everything)
        tensors |= {"features": everything, "normal_mean": mean, "normal_states": states}
        metadata = {"texts": json.dumps([*sentences, "~random vector"]), "bank": json.dumps(list(bank))}
        metadata |= {"grid": json.dumps(grid), "temperature": repr(model.temperature)}
        return tensors, metadata

    update(study.data / "similarities", study.classes(), fingerprint, compute, progress)
