"""The words that train the embedded model: phrases of the defect families, nouns, and how a phrase is mentioned."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache

from nandlib.settings import RESOURCES, read_yaml

NOUNS = (
    "surface", "panel", "plastic part", "textile", "casing", "sheet", "disc", "bracket", "cloth", "stone slab",
    "machine part", "product", "object", "workpiece", "component", "gasket", "spring", "bolt", "tube", "connector",
    "spoon", "pipe", "lens", "rubber ring", "belt", "bearing", "lamp", "paper", "door",
    "ceramic plate", "brick wall", "battery", "sponge", "fruit", "bread", "concrete floor", "curtain", "fence",
    "wheel", "lid", "socket", "valve", "button", "ring", "tray", "toy", "shoe sole", "foam", "mirror", "clip",
)  # fmt: skip
MENTIONS = ("{}", "{} on {noun}", "{noun} with {}", "{} in {noun}", "{noun} with a {} defect", "defect of type {}")
# words that name nothing
EMPTY = {"a", "an", "and", "at", "from", "has", "in", "inside", "into", "its", "of", "on", "onto", "the", "to", "with"}


@cache
def phrases() -> dict[str, dict[str, list[str]]]:
    """Family → ``train`` and ``held_out`` → phrases."""
    return read_yaml(RESOURCES / "auxiliary_phrases.yaml")


def core(phrase: str, noun: str = "") -> tuple[str, ...]:
    """The words of a phrase without those of `noun` (the class's name, words parted by ``_``) and without `EMPTY` ones."""
    without = EMPTY | set(noun.lower().split("_"))
    return tuple(word for word in phrase.lower().split() if word not in without)


@cache
def _study_cores() -> frozenset[tuple[str, ...]]:
    """The cores of all phrases in the prompt files that come with the package."""
    files = [read_yaml(path) for path in sorted((RESOURCES / "prompts").glob("*.yaml"))]
    return frozenset(
        core(phrase, class_name)
        for content in files
        for class_name, types in (content.get("classes") or {}).items()
        for texts in types.values()
        for phrase in texts
    )


def unheard(texts: Iterable[str]) -> list[str]:
    """Those of some phrases of which no word is in a phrase that trains the embedded model: what they do, it has never been told."""
    heard = {word for family in training_phrases().values() for phrase in family for word in core(phrase)}
    return [text for text in texts if heard.isdisjoint(form for word in re.findall(r"[a-z]+", text.lower()) for form in _forms(word))]


def _forms(word: str) -> tuple[str, ...]:
    """A word, also as one of many, and in American spelling."""
    return word, word.removesuffix("s"), word.removesuffix("es"), word.replace("our", "or")


def training_phrases(disjoint: bool = False) -> dict[str, list[str]]:
    """Family → phrases that train; if `disjoint`, without those whose `core` equals that of a phrase of a study's prompt file."""
    return {family: [p for p in words["train"] if not (disjoint and core(p) in _study_cores())] for family, words in phrases().items()}
