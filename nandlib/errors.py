"""The errors a user can meet: each names the file, the key and the fix."""

from __future__ import annotations

import difflib
import re
import reprlib
import sys
from collections.abc import Iterable

_ADDRESS = re.compile(r"\b[\w+.-]+://[^\s'\"<>]+")


def without_secrets(text: str) -> str:
    """A text in whose addresses three dots stand for what is before an ``@`` (user and password), and for the values of a query (keys,
    signatures)."""

    def strip(match: re.Match[str]) -> str:
        address = re.sub(r"(?<=://)[^/?#]*@", "...@", match[0])
        return re.sub(r"(?<=[?&])([^=&#]*)=[^&#]*", r"\1=...", address)

    return _ADDRESS.sub(strip, text)


class NandError(Exception):
    """Something is wrong with what the user gave; the message says what, where and how to mend it, and no password of an address."""

    def __str__(self) -> str:
        return without_secrets(super().__str__())


class DataError(NandError):
    """A data set, image, mask or anomaly map is not as it must be."""


class PresetError(NandError):
    """A study preset, prompt file or grouping names something that does not exist."""


class EngineError(NandError):
    """A cluster that does the work cannot be reached, or is lost."""


class ModelError(NandError):
    """A model's weights are missing or do not fit."""


class UnheardWarning(UserWarning):
    """No word of a text is among those that trained the embedded model."""


def outside() -> int:
    """How far above whoever calls this the first line lies that is not of this package, nor of what wraps its functions: what
    `warnings.warn` calls ``stacklevel``."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in ("nandlib", "torch", "contextlib"):
        frame, level = frame.f_back, level + 1
    return level


_SHORT = reprlib.Repr()
_SHORT.maxother = _SHORT.maxstring = 80


def short(value: object) -> str:
    """What a user gave as a message shows it: on one line, and of a long one (an array, a list of images) its ends."""
    return " ".join(_SHORT.repr(value).split())


def nearest(name: object, valid: Iterable[object]) -> str:
    """``"did you mean 'x'? "`` for the closest valid name, then the list of all valid names."""
    names = [str(v) for v in valid]
    close = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return f"{hint}Valid: {', '.join(names)}."
