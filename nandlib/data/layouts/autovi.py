"""AutoVI: as MVTec AD, but every anomalous image has a folder of masks."""

from __future__ import annotations

from pathlib import Path

from nandlib.data.layouts.base import GOOD, Item, folders, images, some_images, with_masks


class AutoVI:
    """``<class>/train/good/*``, ``<class>/test/<type>/*``, ``<class>/ground_truth/<type>/<stem>/*``."""

    name = "autovi"
    described = "<class>/train/good, <class>/test/<type>, <class>/ground_truth/<type>/<stem>"

    def fits(self, root: Path) -> bool:
        """Some type has folders of masks."""
        return any(images(place) for own in folders(root) for kind in folders(own / "ground_truth") for place in folders(kind)[:1])

    def classes(self, root: Path) -> list[str]:
        """Folders with a training part."""
        return [own.name for own in folders(root) if (own / "train" / GOOD).is_dir()]

    def items(self, root: Path, class_name: str) -> list[Item]:
        """See `Layout.items`."""
        base = root / class_name
        found = with_masks(root, "train", GOOD, some_images(base / "train" / GOOD, class_name))
        for kind in (GOOD, *(own.name for own in folders(base / "test") if own.name != GOOD)):
            masks = folders(base / "ground_truth" / kind) if kind != GOOD else []
            found += with_masks(root, "test", kind, some_images(base / "test" / kind, class_name), masks)
        return found
