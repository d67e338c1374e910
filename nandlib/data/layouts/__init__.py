"""How data sets with typed anomalies lie in a folder: one small reader each, behind the manifest's schema (`Layout`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nandlib.data.layouts.base import Item, Layout
from nandlib.data.layouts.mvtec_3d import MVTec3D
from nandlib.data.layouts.mvtec_ad import MVTecAD
from nandlib.errors import DataError

__all__ = ["LAYOUTS", "Item", "Layout", "find_layout"]

LAYOUTS: Mapping[str, Layout] = {own.name: own for own in (MVTec3D(), MVTecAD())}  # the first that fits is taken


def find_layout(root: Path) -> Layout:
    """The layout that a folder has.

    Raises:
        DataError: If it has none of them.
    """
    for layout in LAYOUTS.values():
        if layout.fits(root):
            return layout
    known = "; ".join(f"{name}: {own.described}" for name, own in LAYOUTS.items())
    raise DataError(f"data.root: {root} looks like no data set that is known here ({known})")
