"""What the figures show: example images with their maps. Always the first images in manifest order, never picked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch

from nandlib.data.images import load_image, load_mask
from nandlib.method.config import NandConfig
from nandlib.method.operators import resize_map
from nandlib.show.style import LABELS, MAP_COLOURS, SUPPRESSION_COLOURS, pretty, signed
from nandlib.study.class_maps import ClassMaps
from nandlib.study.open_study import OpenStudy

MASK_SIDE = 256  # masks are outlined at this resolution


def first_image(study: OpenStudy, class_name: str, group: str, k: int = 0) -> int:
    """Position in the class's test rows of image number `k` of a group."""
    rows = study.rows(class_name)
    return int(np.flatnonzero(rows["group"] == group)[k])


def picture(study: OpenStudy, row: pd.Series, title: str = "") -> dict[str, Any]:
    """A manifest row as a panel: ``image``, ``mask`` (or None), ``title``."""
    mask = load_mask(study.images / row["mask"], (MASK_SIDE, MASK_SIDE)) if row["mask"] else None
    return {"image": np.asarray(load_image(study.images / row["image"])), "mask": mask, "title": title}


def adaptation(
    study: OpenStudy, maps: ClassMaps, detector: str, added: str, index: int, label: str | None = None, nand: NandConfig | None = None
) -> dict[str, Any]:
    """One image before and after adding a group, by the study's method or that of `nand`: a row of `nandlib.show.pictures.before_after`."""
    row, at = study.rows(maps.class_name).iloc[index], slice(index, index + 1)
    batch = maps.batch(at)
    return {
        **picture(study, row),
        "label": label or pretty(row["group"]),
        "before": batch.base(detector)[0].numpy(),
        "suppression": batch.suppression(f"+{added}", detector, nand)[0].numpy(),
        "after": batch.final(f"+{added}", detector, nand)[0].numpy(),
    }


def at_mask(one: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Mask and suppression map of an adapted image with a mask, at the same resolution, ``(MASK_SIDE, MASK_SIDE)`` each."""
    return one["mask"], resize_map(torch.from_numpy(one["suppression"])[None], one["mask"].shape)[0].numpy()


def gallery(study: OpenStudy, class_name: str, detector: str, added: str) -> list[dict[str, Any]]:
    """The first image of the added group, of every other group, and of the good ones, before and after."""
    maps = ClassMaps.of(study, class_name)
    others = [group for group in study.test_groups()[class_name] if group != added]
    labels = {added: f"{pretty(added)}\n(added)", "good": "good"}
    return [
        adaptation(study, maps, detector, added, first_image(study, class_name, group), labels.get(group))
        for group in (added, *others, "good")
    ]


def pair(study: OpenStudy, class_name: str, detector: str) -> dict[str, Any]:
    """A block of Figure 5: the class's first group added; one image of it and one of the next group."""
    maps, (added, other, *_) = ClassMaps.of(study, class_name), study.test_groups()[class_name]
    rows = [
        adaptation(study, maps, detector, added, first_image(study, class_name, added), f"{pretty(added)}\n(added)"),
        adaptation(study, maps, detector, added, first_image(study, class_name, other)),
    ]
    return {"title": f"{pretty(class_name)}: add “{pretty(added)}” ({LABELS[detector]})", "rows": rows}


def look_alikes(study: OpenStudy, width: int = 5) -> list[list[dict[str, Any] | None]]:
    """Figure 4: the first image of every type of the groups that have several types; a gap parts the groups of a row."""
    grid: list[list[dict[str, Any] | None]] = [[]]
    for class_name, groups in study.test_groups().items():
        rows = study.rows(class_name)
        for group, types in groups.items():
            if len(types) < 2:
                continue
            head = f"{pretty(class_name)}, {pretty(group)}\n"
            cells = [picture(study, rows[rows["type"] == t].iloc[0], f"{head}{pretty(t)}") for t in types]
            if grid[-1] and len(grid[-1]) + 1 + len(cells) > width:
                grid.append([])
            grid[-1] += [None, *cells] if grid[-1] else cells
    return grid if grid[0] else []


def one_of_each(study: OpenStudy, class_name: str) -> list[list[dict[str, Any] | None]]:
    """The first image of every group of a class, in one row."""
    rows = study.rows(class_name)
    return [
        [picture(study, rows[rows["group"] == g].iloc[0], f"{pretty(class_name)}\n{pretty(g)}") for g in study.test_groups()[class_name]]
    ]


def layer_panels(study: OpenStudy, maps: ClassMaps, index: int, added: str | None) -> list[dict[str, Any]]:
    """Figures 2 and 3: Eq. 4 layer by layer for one image; for f_abn, or for f_add of the group `added`."""
    at, row = slice(index, index + 1), study.rows(maps.class_name).iloc[index]
    layers = maps.layers(added, at)[0].numpy()
    colours = MAP_COLOURS if added is None else SUPPRESSION_COLOURS
    name = "$A$" if added is None else "$A_{sup}$"
    panels = [picture(study, row, f"{pretty(maps.class_name)}: {pretty(row['type'])}")]
    return panels + [{"map": layer, "vmax": 1, "colours": colours, "title": f"{name}, layer {k + 1}"} for k, layer in enumerate(layers)]


def failures(study: OpenStudy, worst: pd.DataFrame) -> list[dict[str, Any]]:
    """Blocks of `nandlib.show.pictures.pairs` for rows of `nandlib.evaluation.failures.failure_table`: an image of the added group, one of
    the group that its text damps most."""
    blocks = []
    for row in worst.to_dict("records"):
        maps, detector, added = ClassMaps.of(study, row["class"]), row["detector"], row["group"]
        shown = [(added, f"{pretty(added)}\n(added)"), (row["most_damped"], None)]
        rows = [adaptation(study, maps, detector, added, first_image(study, row["class"], g), label) for g, label in shown]
        blocks.append(
            {"title": f"{pretty(row['class'])}: add “{pretty(added)}” ({LABELS[detector]}, Δ {signed(row['delta'])})", "rows": rows}
        )
    return blocks
