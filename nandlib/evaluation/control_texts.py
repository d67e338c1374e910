"""Texts that must not help: what takes the place of a normality's text in the controls."""

from __future__ import annotations

import random
import zlib
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from nandlib.study.open_study import OpenStudy


def control_sentences(study: OpenStudy, class_name: str) -> dict[str, list[str]]:
    """Texts that must not help, as controls: ``~<control>``, or ``~<control>:<group>`` where each group has its own.

    Another class's text names the first type, of the study's next classes, that this class has not (by its name: phrases of one class
    bear on no other).
    Words are shuffled within every phrase, into another order where there is one.
    """
    prompts, groups, classes = study.prompts, study.test_groups(), study.classes()
    found = {"~empty text": prompts.fill([""]), "~any defect": prompts.fill(["defect", "damage", "flaw", "anomaly"])}
    place = classes.index(class_name)
    known = {name: [kind for types in groups[name].values() for kind in types] for name in classes}
    foreign = ((kind, name) for name in classes[place + 1 :] + classes[:place] for kind in known[name] if kind not in known[class_name])
    if (first := next(foreign, None)) is not None:
        found["~another class's text"] = prompts.fill(["{} on {}".format(*first).replace("_", " ")])
    rng = random.Random(class_name)
    for group, types in groups[class_name].items():
        shuffled = [_shuffled(phrase, rng) for phrase in prompts.group_phrases(class_name, group, types)]
        found[f"~shuffled words:{group}"] = prompts.fill(shuffled)
    return found


def _shuffled(phrase: str, rng: random.Random) -> str:
    """The words of a phrase in another order; a phrase of one word stays as it is."""
    words = phrase.split()
    while len(set(words)) > 1:
        found = rng.sample(words, len(words))
        if found != words:
            return " ".join(found)
    return phrase


def random_feature(class_name: str, width: int) -> Tensor:
    """A random unit vector ``(width,)`` in place of a text feature, always the same for a class."""
    generator = torch.Generator().manual_seed(zlib.crc32(class_name.encode()))
    return F.normalize(torch.randn(width, generator=generator), dim=0)
