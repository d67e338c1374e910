"""How the embedded model is told its phrases: nouns, mentions, and which phrases train where a study's are left out."""

from __future__ import annotations

from functools import cache

from nandlib.heard import core, phrases
from nandlib.settings import RESOURCES, read_yaml

NOUNS = (
    "surface", "panel", "plastic part", "textile", "casing", "sheet", "disc", "bracket", "cloth", "stone slab",
    "machine part", "product", "object", "workpiece", "component", "gasket", "spring", "bolt", "tube", "connector",
    "spoon", "pipe", "lens", "rubber ring", "belt", "bearing", "lamp", "paper", "door",
    "ceramic plate", "brick wall", "battery", "sponge", "fruit", "bread", "concrete floor", "curtain", "fence",
    "wheel", "lid", "socket", "valve", "button", "ring", "tray", "toy", "shoe sole", "foam", "mirror", "clip",
)  # fmt: skip
MENTIONS = ("{}", "{} on {noun}", "{noun} with {}", "{} in {noun}", "{noun} with a {} defect", "defect of type {}")


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


def training_phrases(disjoint: bool = False) -> dict[str, list[str]]:
    """Family → phrases that train; if `disjoint`, without those whose `core` equals that of a phrase of a study's prompt file."""
    return {family: [p for p in words["train"] if not (disjoint and core(p) in _study_cores())] for family, words in phrases().items()}
