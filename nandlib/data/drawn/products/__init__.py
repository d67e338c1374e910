"""The 15 products: one renderer each, `(rng, size, **fault) -> Scene`.

A renderer draws a good product unless a fault is named; it makes the same random choices either way, so that the
good and the faulty image of one generator state differ in the fault alone. Lengths are those of a 256-pixel image.
"""

from nandlib.data.drawn.products.goods import bottle, capsule, hazelnut, pill, toothbrush
from nandlib.data.drawn.products.hardware import cable, metal_nut, screw, transistor, zipper
from nandlib.data.drawn.products.textures import carpet, grid, leather, tile, wood

__all__ = [
    "bottle",
    "cable",
    "capsule",
    "carpet",
    "grid",
    "hazelnut",
    "leather",
    "metal_nut",
    "pill",
    "screw",
    "tile",
    "toothbrush",
    "transistor",
    "wood",
    "zipper",
]
