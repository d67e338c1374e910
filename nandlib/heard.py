"""Phrases of the defect families that trained the embedded model, and texts of which it heard no word."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from functools import cache

from nandlib.errors import UnheardWarning, outside
from nandlib.settings import RESOURCES, read_yaml

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


def unheard(texts: Iterable[str]) -> list[str]:
    """Those of some phrases of which no word is in a phrase that trains the embedded model: what they do, it has never been told."""
    heard = {word for family in phrases().values() for phrase in family["train"] for word in core(phrase)}
    return [text for text in texts if heard.isdisjoint(form for word in re.findall(r"[a-z]+", text.lower()) for form in _forms(word))]


def warning(phrase: str) -> str:
    """What is said of a phrase that is `unheard`."""
    return f"“{phrase}”: no word of it is among those that trained the embedded model, so that what falls may be anything: look, or check"


def warn_of_unheard(model: object, texts: Iterable[str]) -> None:
    """Warn (`nandlib.errors.UnheardWarning`) of every `unheard` phrase, where the `model` is the one that comes with the package."""
    for phrase in unheard(texts) if getattr(model, "embedded", False) else ():
        warnings.warn(warning(phrase), UnheardWarning, stacklevel=outside())


def _forms(word: str) -> tuple[str, ...]:
    """A word, also as one of many, and in American spelling."""
    return word, word.removesuffix("s"), word.removesuffix("es"), word.replace("our", "or")
