"""AutoVI: as MVTec AD, but every anomalous image has a folder of masks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from nandlib.data.layouts.base import Item, folders, images
from nandlib.data.layouts.mvtec_ad import MVTecAD
from nandlib.data.layouts.mvtec_loco import KINDS

SEVERAL = "multiple"


class AutoVI(MVTecAD):
    """``<class>/train/good/*``, ``<class>/test/<type>/*``, ``<class>/ground_truth/<type>/<stem>/*``.

    What lies in ``multiple`` shows several types, and is always abnormal.
    """

    name = "autovi"
    described = "<class>/train/good, <class>/test/<type>, <class>/ground_truth/<type>/<stem>"

    def fits(self, root: Path) -> bool:
        """Some type has folders of masks, and none is a kind of MVTec LOCO's."""
        if any((own / "test" / kind).is_dir() for own in folders(root) for kind in KINDS):
            return False
        return any(images(place) for own in folders(root) for kind in folders(own / "ground_truth") for place in folders(kind))

    def items(self, root: Path, class_name: str) -> list[Item]:
        """See `Layout.items`."""
        return [replace(item, several=item.type == SEVERAL) for item in super().items(root, class_name)]

    def masks(self, folder: Path) -> list[Path]:
        """A folder an image."""
        return folders(folder)
