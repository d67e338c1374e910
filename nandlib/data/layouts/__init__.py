"""How data sets with typed anomalies lie in a folder: one small reader each, behind the manifest's schema (`Layout`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nandlib.data.groups import GOOD
from nandlib.data.layouts.autovi import AutoVI
from nandlib.data.layouts.base import Item, Layout, folders
from nandlib.data.layouts.ds_mvtec import DSMVTec
from nandlib.data.layouts.mvtec_3d import MVTec3D
from nandlib.data.layouts.mvtec_ad import MVTecAD
from nandlib.data.layouts.mvtec_loco import MVTecLOCO
from nandlib.data.layouts.real_iad import RealIAD
from nandlib.data.layouts.table import Table
from nandlib.data.layouts.visa import VisA
from nandlib.errors import DataError, nearest

__all__ = ["LAYOUTS", "Item", "Layout", "find_layout", "layout_of"]

LAYOUTS: Mapping[str, Layout] = {  # the first that fits is taken
    own.name: own for own in (Table(), VisA(), RealIAD(), MVTecLOCO(), DSMVTec(), MVTec3D(), AutoVI(), MVTecAD())
}


def layout_of(root: Path, name: str) -> Layout:
    """The layout of that name; ``auto``: the one that the folder has.

    Raises:
        DataError: If it has none of them, or there is none of that name.
    """
    if name not in ("auto", *LAYOUTS):
        raise DataError(f"no layout '{name}': {nearest(name, ['auto', *LAYOUTS])}")
    return find_layout(root) if name == "auto" else LAYOUTS[name]


def find_layout(root: Path) -> Layout:
    """The layout that a folder has.

    Raises:
        DataError: If it has none of them.
    """
    for layout in LAYOUTS.values():
        if layout.fits(root):
            return layout
    if almost := [f"{layout.name}: {layout.lacking(root)[0]}" for layout in LAYOUTS.values() if layout.lacking(root)]:
        raise DataError(f"data.root: {root} would be {'; or '.join(almost)}")
    if (root / "train" / GOOD).is_dir():
        raise DataError(f"data.root: {root} is one class: give the folder that it lies in, {root.resolve().parent}")
    for below in folders(root):
        if any(layout.fits(below) for layout in LAYOUTS.values()):
            raise DataError(f"data.root: {root} holds a data set in its folder '{below.name}': give that one, {below}")
    known = "; ".join(f"{name}: {own.described}" for name, own in LAYOUTS.items())
    raise DataError(f"data.root: {root} looks like no data set that is known here ({known})")
