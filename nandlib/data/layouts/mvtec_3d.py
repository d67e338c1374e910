"""The photographs of MVTec 3D-AD; its clouds are read by `nandlib.surfaces.samples`."""

from __future__ import annotations

from pathlib import Path

from nandlib.data.groups import GOOD
from nandlib.data.layouts.base import Item, Whole, folders, images, some_images, with_masks

COMBINED = "combined"  # images that show several types


class MVTec3D(Whole):
    """``<class>/train/good/rgb/*``, ``<class>/test/<type>/rgb/*`` and ``gt/*``; its validation images are not used."""

    name = "mvtec_3d"
    described = "<class>/train/good/rgb, <class>/test/<type>/{rgb,gt}"

    def fits(self, root: Path) -> bool:
        """Some class has photographs."""
        return any(images(own / "train" / GOOD / "rgb") for own in folders(root))

    def classes(self, root: Path) -> list[str]:
        """Folders with a training part."""
        return [own.name for own in folders(root) if (own / "train" / GOOD / "rgb").is_dir()]

    def items(self, root: Path, class_name: str) -> list[Item]:
        """See `Layout.items`."""
        base = root / class_name
        found = with_masks(root, "train", GOOD, some_images(base / "train" / GOOD / "rgb", class_name))
        for kind in (GOOD, *(own.name for own in folders(base / "test") if own.name != GOOD)):
            place = base / "test" / kind
            masks = images(place / "gt") if kind != GOOD else []
            found += with_masks(root, "test", kind, some_images(place / "rgb", class_name), masks, kind == COMBINED)
        return found
