"""Defects drawn from the word alone: training images whose defects share no drawing code with any study.

The honest control of the embedded model. Nothing here, nor what it imports, draws a product or a defect of the embedded data set or of
the validation products; every function was written from what its word says, by other means (distance fields, filtered noise,
displacement) than `nandlib.data.drawn.defects`. A defect takes an image ``(size, size, 3)`` in [0, 1], the pixels where it may lie
``(size, size)`` bool, a generator and the background ``(size, size, 3)``, and returns the changed image; it draws its own looks.
Lengths are in pixels of a 256-pixel image.
"""

from __future__ import annotations

from nandlib.data.drawn.disjoint.areas import (
    blister,
    burn,
    color,
    corrosion,
    dent,
    dust,
    fading,
    glue,
    grease,
    hole,
    liquid,
    rough,
    stain,
    uneven,
)
from nandlib.data.drawn.disjoint.brush import Draw
from nandlib.data.drawn.disjoint.shapes import (
    bent,
    broken,
    crack,
    cut,
    fold,
    imprint,
    metal,
    misplaced,
    missing,
    scratch,
    streak,
    tear,
    thread,
)

FAMILIES: dict[str, Draw] = {
    "scratch": scratch, "crack": crack, "hole": hole, "stain": stain, "color": color, "cut": cut, "thread": thread, "bent": bent,
    "broken": broken, "print": imprint, "glue": glue, "fold": fold, "rough": rough, "metal": metal, "uneven": uneven,
    "misplaced": misplaced, "missing": missing, "corrosion": corrosion, "burn": burn, "blister": blister, "dust": dust, "liquid": liquid,
    "streak": streak, "tear": tear, "dent": dent, "fading": fading, "grease": grease,
}  # fmt: skip
