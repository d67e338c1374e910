"""The words that train the embedded model: phrases of the defect families, nouns, and how a phrase is mentioned."""

from __future__ import annotations

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


@cache
def phrases() -> dict[str, dict[str, list[str]]]:
    """Family → ``train`` and ``held_out`` → phrases."""
    return read_yaml(RESOURCES / "auxiliary_phrases.yaml")
