"""The errors a user can meet: each names the file, the key and the fix."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class NandError(Exception):
    """Something is wrong with what the user gave; the message says what, where and how to mend it."""


class DataError(NandError):
    """A data set, image, mask or anomaly map is not as it must be."""


class PresetError(NandError):
    """A study preset, prompt file or grouping names something that does not exist."""


class EngineError(NandError):
    """A cluster that does the work cannot be reached, or is lost."""


class ModelError(NandError):
    """A model's weights are missing or do not fit."""


def nearest(name: object, valid: Iterable[object]) -> str:
    """``"did you mean 'x'? "`` for the closest valid name, then the list of all valid names."""
    names = [str(v) for v in valid]
    close = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return f"{hint}Valid: {', '.join(names)}."
