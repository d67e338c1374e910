"""Which of a study's words the embedded model was trained with."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from nandlib.heard import core
from nandlib.settings import RESOURCES, read_yaml
from nandlib.training.vocabulary import training_phrases

STUDIES = {"mini": "mvtec_ad", "magnetic_tile": "magnetic_tile", "pcb": "pcb_ad", "validation": "validation"}  # → prompt file
COLUMNS = ["study", "model", "phrases", "equal", "contain", "types", "types_equal", "bank", "bank_equal"]


def overlap_table() -> pd.DataFrame:
    """Per study and model, `COLUMNS`: how many phrases, names of types and names of the defect bank there are, and how many of them equal
    a training phrase (``equal``) or contain one (``contain``, the equal ones among them), once the class's name and empty words are
    taken off both (`nandlib.heard.core`)."""
    bank = read_yaml(RESOURCES / "defect_bank.yaml")["names"]
    rows = []
    for study, file in STUDIES.items():
        classes = read_yaml(RESOURCES / "prompts" / f"{file}.yaml")["classes"]
        phrases = [core(phrase, name) for name, types in classes.items() for texts in types.values() for phrase in texts]
        names = sorted({core(name.replace("_", " ")) for types in classes.values() for name in types})
        for model in ("shared", "disjoint"):
            known = {core(phrase) for words in training_phrases(model == "disjoint").values() for phrase in words}
            equal = sum(phrase in known for phrase in phrases)
            contain = sum(any(_holds(phrase, other) for other in known) for phrase in phrases)
            counted = _among(names, known), _among((core(name) for name in bank), known)
            rows.append((study, model, len(phrases), equal, contain, len(names), counted[0], len(bank), counted[1]))
    return pd.DataFrame(rows, columns=COLUMNS)


def _holds(phrase: tuple[str, ...], other: tuple[str, ...]) -> bool:
    n = len(other)
    return any(phrase[k : k + n] == other for k in range(len(phrase) - n + 1))


def _among(words: Iterable[tuple[str, ...]], known: set[tuple[str, ...]]) -> int:
    return sum(word in known for word in words)
