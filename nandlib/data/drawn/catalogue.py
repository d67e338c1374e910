"""The embedded data set as a table: 15 products, and for each anomaly type the fault that shows it.

A fault is either `mark(...)`, a primitive of `nandlib.data.drawn.defects` laid over the good image, or `change(...)`, the
product drawn again with a fault of its own. Class and type names are those of MVTec AD.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from nandlib.data.drawn import defects, products
from nandlib.data.drawn.canvas import Array, Mask, Rng, coordinates, noise, shade
from nandlib.data.drawn.products.scene import Scene

Renderer = Callable[..., Scene]


@dataclass(frozen=True)
class Fault:
    """How an anomaly type is drawn.

    Attributes:
        draw: From a renderer, a seed and a size: the good product, and the image with its fault.
        primitives: The functions of `nandlib.data.drawn.defects` that it lays over the product; none where the product is drawn otherwise.
    """

    draw: Callable[[Renderer, np.random.SeedSequence, int], tuple[Scene, Array]]
    primitives: tuple[Callable[..., Array], ...] = ()


MASK_THRESHOLD = 0.03  # a pixel belongs to the defect if any channel changed by more than this
MIN_AREA = 0.0008  # fraction of the image that a defect must change, or it is drawn again


def _stream(seed: np.random.SeedSequence, name: str) -> Rng:
    keys = tuple(seed.spawn_key) + tuple(name.encode())
    return np.random.default_rng(np.random.SeedSequence(seed.entropy, spawn_key=keys))


def ring(low: float, high: float) -> Callable[[int], Mask]:
    """Only between two distances from the centre of the image."""

    def where(size: int) -> Mask:
        x, y = coordinates(size)
        distance = np.hypot(x - 128, y - 128)
        return (distance >= low) & (distance <= high)

    return where


def columns(low: float, high: float) -> Callable[[int], Mask]:
    """Only between two distances from the upright middle line of the image."""

    def where(size: int) -> Mask:
        x, _ = coordinates(size)
        return (np.abs(x - 128) >= low) & (np.abs(x - 128) <= high)

    return where


def mark(primitive: Callable[..., Array], where: Callable[[int], Mask] | None = None, **look: object) -> Fault:
    """A defect primitive laid over the good product (its background showing through breaks)."""

    def draw(render: Renderer, seed: np.random.SeedSequence, size: int) -> tuple[Scene, Array]:
        scene = render(_stream(seed, "scene"), size)
        region = scene.region & where(size) if where else scene.region
        given = dict(look)
        if primitive in (defects.chip, defects.absent):
            given.setdefault("background", scene.background)
        return scene, primitive(scene.image, region, _stream(seed, "fault"), **given)

    return Fault(draw, (primitive,))


def change(**fault: object) -> Fault:
    """The product drawn again with a fault of its own, all else equal."""

    def draw(render: Renderer, seed: np.random.SeedSequence, size: int) -> tuple[Scene, Array]:
        scene = render(_stream(seed, "scene"), size)
        return scene, render(_stream(seed, "scene"), size, **fault).image

    return Fault(draw)


def both(first: Fault, second: Fault) -> Fault:
    """Two faults on one product (the type `combined`): what either changes is changed."""

    def draw(render: Renderer, seed: np.random.SeedSequence, size: int) -> tuple[Scene, Array]:
        scene, one = first.draw(render, seed, size)
        _, two = second.draw(render, seed, size)
        return scene, one + two - scene.image

    return Fault(draw, first.primitives + second.primitives)


@dataclass(frozen=True)
class Product:
    """One class: its renderer and its anomaly types."""

    render: Renderer
    types: dict[str, Fault]


DARK_RED, TEAL, NAVY, CREAM = (0.66, 0.10, 0.10), (0.10, 0.48, 0.46), (0.16, 0.20, 0.50), (0.93, 0.90, 0.80)
STEEL, AMBER, OIL = (0.70, 0.72, 0.75), (0.88, 0.70, 0.34), (0.16, 0.13, 0.08)

CATALOGUE: dict[str, Product] = {
    "bottle": Product(
        products.bottle,
        {
            "broken_large": mark(defects.chip, ring(84, 100), radius=(26, 40)),
            "broken_small": mark(defects.chip, ring(86, 100), radius=(10, 16)),
            "contamination": mark(defects.stain, ring(0, 56), colour=(0.30, 0.24, 0.16), radius=(12, 26)),
        },
    ),
    "cable": Product(
        products.cable,
        {
            "bent_wire": change(bent_wire=True),
            "cable_swap": change(swap=True),
            "combined": both(change(bent_wire=True), mark(defects.cut, ring(106, 117), length=(30, 50))),
            "cut_inner_insulation": mark(defects.cut, ring(30, 98), length=(28, 44), width=(6, 10)),
            "cut_outer_insulation": mark(defects.cut, ring(106, 117), length=(40, 70), width=(8, 14)),
            "missing_cable": change(missing_cable=True),
            "missing_wire": change(missing_wire=True),
            "poke_insulation": mark(defects.hole, ring(86, 117), radius=(5, 9)),
        },
    ),
    "capsule": Product(
        products.capsule,
        {
            "crack": mark(defects.crack, length=(45, 80), colour=(0.95, 0.90, 0.82), width=(1.6, 2.4)),
            "faulty_imprint": change(imprint="5O "),
            "poke": mark(defects.hole, radius=(5, 8), colour=(0.30, 0.24, 0.2), rim=0.4),
            "scratch": mark(defects.scratch, length=(40, 80), colour=(0.92, 0.88, 0.84)),
            "squeeze": change(squeeze=True),
        },
    ),
    "carpet": Product(
        products.carpet,
        {
            "color": mark(defects.tint, colour=DARK_RED),
            "cut": mark(defects.cut, length=(45, 80), width=(7, 11)),
            "hole": mark(defects.hole, radius=(9, 16), ragged=0.2),
            "metal_contamination": mark(defects.metal, colour=STEEL),
            "thread": mark(defects.thread, colour=CREAM),
        },
    ),
    "grid": Product(
        products.grid,
        {
            "bent": change(bent=True),
            "broken": change(broken=True),
            "glue": mark(defects.glue, colour=CREAM, radius=(14, 24)),
            "metal_contamination": mark(defects.metal, colour=(0.80, 0.82, 0.86), radius=(9, 15)),
            "thread": mark(defects.thread, colour=(0.86, 0.80, 0.62), width=(2.0, 3.0)),
        },
    ),
    "hazelnut": Product(
        products.hazelnut,
        {
            "crack": mark(defects.crack, length=(70, 120), width=(2.2, 3.6)),
            "cut": mark(defects.cut, length=(30, 55), colour=(0.88, 0.74, 0.54), width=(6, 10), lip=0.1),
            "hole": mark(defects.hole, radius=(6, 11)),
            "print": mark(defects.imprint, texts=("L4", "HN", "22"), scale=(1.0, 1.6)),
        },
    ),
    "leather": Product(
        products.leather,
        {
            "color": mark(defects.tint, colour=(0.80, 0.30, 0.14)),
            "cut": mark(defects.cut, length=(40, 75)),
            "fold": mark(defects.fold),
            "glue": mark(defects.glue, colour=(0.78, 0.72, 0.58), radius=(12, 24)),
            "poke": mark(defects.hole, radius=(3.5, 6), rim=0.5),
        },
    ),
    "metal_nut": Product(
        products.metal_nut,
        {
            "bent": change(bent=True),
            "color": mark(defects.tint, colour=NAVY, radius=(14, 24)),
            "flip": change(flip=True),
            "scratch": mark(defects.scratch, count=(2, 5), colour=(0.96, 0.96, 0.96)),
        },
    ),
    "pill": Product(
        products.pill,
        {
            "color": mark(defects.tint, colour=(0.92, 0.72, 0.30), radius=(12, 22)),
            "combined": both(
                mark(defects.scratch, colour=(0.50, 0.47, 0.45)), mark(defects.stain, colour=(0.2, 0.16, 0.14), radius=(6, 12))
            ),
            "contamination": mark(defects.stain, colour=(0.20, 0.16, 0.14), radius=(5, 10), droplets=(1, 4)),
            "crack": mark(defects.crack, length=(50, 90), colour=(0.36, 0.32, 0.3)),
            "faulty_imprint": change(imprint_slip=9),
            "pill_type": change(other_type=True),
            "scratch": mark(defects.scratch, colour=(0.50, 0.47, 0.45), length=(40, 80)),
        },
    ),
    "screw": Product(
        products.screw,
        {
            "manipulated_front": change(front=True),
            "scratch_head": change(head=True),
            "scratch_neck": change(neck=True),
            "thread_side": change(thread_side=True),
            "thread_top": change(thread_top=True),
        },
    ),
    "tile": Product(
        products.tile,
        {
            "crack": mark(defects.crack, length=(110, 180), width=(2, 3.4)),
            "glue_strip": mark(defects.glue, colour=AMBER, radius=(18, 28), aspect=(4, 7)),
            "gray_stroke": mark(defects.thread, colour=(0.40, 0.40, 0.42), width=(9, 14), length=(70, 130), bend=0.5),
            "oil": mark(defects.stain, colour=OIL, radius=(20, 36), strength=(0.5, 0.65), rim=0.1),
            "rough": mark(defects.rough),
        },
    ),
    "toothbrush": Product(products.toothbrush, {"defective": change(damaged=True)}),
    "transistor": Product(
        products.transistor,
        {
            "bent_lead": change(bent_lead=True),
            "cut_lead": change(cut_lead=True),
            "damaged_case": change(damaged_case=True),
            "misplaced": change(misplaced=True),
        },
    ),
    "wood": Product(
        products.wood,
        {
            "color": mark(defects.tint, colour=TEAL, radius=(10, 22)),
            "combined": both(mark(defects.hole), mark(defects.scratch, colour=(0.34, 0.2, 0.1), width=(1.6, 2.6))),
            "hole": mark(defects.hole, radius=(5, 10)),
            "liquid": mark(defects.stain, colour=(0.26, 0.14, 0.07), radius=(20, 34), strength=(0.45, 0.6), rim=0.25),
            "scratch": mark(defects.scratch, colour=(0.34, 0.20, 0.10), width=(1.6, 2.6), length=(60, 140)),
        },
    ),
    "zipper": Product(
        products.zipper,
        {
            "broken_teeth": change(broken_teeth=True),
            "combined": both(change(squeezed_teeth=True), mark(defects.rough, columns(32, 70), radius=(12, 20))),
            "fabric_border": mark(defects.rough, columns(70, 86), radius=(10, 20), whiten=0.4),
            "fabric_interior": mark(defects.rough, columns(30, 66), radius=(10, 20), whiten=0.4),
            "rough": change(rough=True),
            "split_teeth": change(split_teeth=True),
            "squeezed_teeth": change(squeezed_teeth=True),
        },
    ),
}


def lit(image: Array, rng: Rng) -> Array:
    """`image` under this photograph's light, exposure, focus and sensor noise: variation that good images have too."""
    size = image.shape[0]
    x, y = coordinates(size)
    heading = rng.uniform(0, 2 * np.pi)
    slope = ((x - 128) * np.cos(heading) + (y - 128) * np.sin(heading)) / 128
    light = rng.normal(1, 0.035) + rng.uniform(0, 0.06) * slope + 0.05 * (noise(rng, size, 90, 1) - 0.5)
    image = shade(image, light) * rng.normal(1, 0.006, 3)
    return np.clip(image + rng.normal(0, 0.008, image.shape), 0, 1).astype(np.float32)


def draw(
    class_name: str, type_name: str, seed: int, index: int, size: int = 256, catalogue: Mapping[str, Product] = CATALOGUE
) -> tuple[Array, Mask | None]:
    """Image number `index` of one anomaly type (or ``"good"``) and its exact mask (``None`` if good).

    Args:
        class_name: A key of the catalogue.
        type_name: One of the class's types, ``"good"`` (test) or ``"train"``.
        seed: Seed of the whole data set; each image has a stream of its own, independent of all other images.
        index: Number of the image within its type.
        size: Side of the square image in pixels.
        catalogue: The products: those of the embedded data set, or `nandlib.data.drawn.validation.VALIDATION`.

    Returns:
        float32 ``(size, size, 3)`` RGB in [0, 1] and bool ``(size, size)``.
    """
    product = catalogue[class_name]
    for attempt in range(20):
        keys = (*f"{class_name}/{type_name}".encode(), index, attempt)
        sequence = np.random.SeedSequence(seed, spawn_key=keys)
        if type_name in ("good", "train"):
            image = product.render(_stream(sequence, "scene"), size).image
            return lit(image, _stream(sequence, "light")), None
        scene, image = product.types[type_name].draw(product.render, sequence, size)
        mask = np.abs(image - scene.image).max(-1) > MASK_THRESHOLD
        if mask.mean() >= MIN_AREA:
            return lit(np.clip(image, 0, 1), _stream(sequence, "light")), mask
    raise RuntimeError(f"{class_name}/{type_name}: 20 attempts drew no visible defect")
