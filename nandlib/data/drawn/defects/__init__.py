"""Defect primitives: each draws one kind of defect on an image, inside a region (what is warped or bent: about a point of it).

Every primitive has the signature ``(image, region, rng, *, look…) -> image`` and changes nothing but the pixels of
the defect, so that the difference of the two images is the exact mask. Keyword arguments are the look of the defect:
lengths in pixels of a 256-pixel image, colours in RGB [0, 1], strengths in [0, 1]. A pair ``(low, high)`` is a range
to draw from.
"""

from nandlib.data.drawn.defects.lines import crack, cut, fold, scratch, thread
from nandlib.data.drawn.defects.shapes import absent, chip, displace, uneven, warp
from nandlib.data.drawn.defects.spots import glue, hole, imprint, metal, rough, stain, tint

__all__ = [
    "absent",
    "chip",
    "crack",
    "cut",
    "displace",
    "fold",
    "glue",
    "hole",
    "imprint",
    "metal",
    "rough",
    "scratch",
    "stain",
    "thread",
    "tint",
    "uneven",
    "warp",
]
