"""MVTec AD, and all that follow it (MPDD, Magnetic Tile in that shape, ...)."""

from __future__ import annotations

from pathlib import Path

from nandlib.data.groups import GOOD
from nandlib.data.layouts.base import Item, Whole, folders, images, some_images, with_masks


class MVTecAD(Whole):
    """``<class>/train/good/*``, ``<class>/test/<type>/*``, ``<class>/ground_truth/<type>/<stem>_mask.*`` or ``<stem>.*``."""

    name = "mvtec_ad"
    described = "<class>/train/good, <class>/test/<type>, <class>/ground_truth/<type>"

    def fits(self, root: Path) -> bool:
        """Some class has images in a folder of a type."""
        return any(images(kind) for name in self.classes(root) for kind in folders(root / name / "test"))

    def classes(self, root: Path) -> list[str]:
        """Folders with a training or a test part."""
        return [own.name for own in folders(root) if (own / "test").is_dir() or (own / "train").is_dir()]

    def masks(self, folder: Path) -> list[Path]:
        """What marks the anomalies of one type."""
        return images(folder)

    def items(self, root: Path, class_name: str) -> list[Item]:
        """See `Layout.items`."""
        base = root / class_name
        found = with_masks(root, "train", GOOD, some_images(base / "train" / GOOD, class_name))
        for kind in (GOOD, *(own.name for own in folders(base / "test") if own.name != GOOD)):
            masks = self.masks(base / "ground_truth" / kind) if kind != GOOD else []
            found += with_masks(root, "test", kind, some_images(base / "test" / kind, class_name), masks)
        return found
