"""Defect Spectrum's DS-MVTec: MVTec AD's defective images with masks whose values tell types apart, so that ``combined`` is resolved."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

from nandlib.data.groups import GOOD
from nandlib.data.layouts.base import Item, Whole, folders, images, in_order, mask_values, some_images, with_masks
from nandlib.errors import DataError

COMBINED = "combined"


class DSMVTec(Whole):
    """``<class>/image/<type>/*``, ``<class>/mask/<type>/<stem>_mask.*``; normal training images from MVTec AD in ``<class>/train/good``.

    A value stands for the type in whose folder most of its images lie, unless it is the most frequent one of several types, as in masks of
    black and white: then it stands for none. A ``combined`` image with the value of one type is of that type; one with a value that stands
    for none is always abnormal, and so is any image with the values of several types.
    """

    name = "ds_mvtec"
    described = "<class>/{image,mask}/<type>, and MVTec AD's <class>/train/good"

    def fits(self, root: Path) -> bool:
        """Some class has images by type and masks beside them."""
        return bool(self.classes(root))

    def classes(self, root: Path) -> list[str]:
        """Folders with images by type and masks beside them."""
        return [own.name for own in folders(root) if (own / "image").is_dir() and (own / "mask").is_dir()]

    def items(self, root: Path, class_name: str) -> list[Item]:
        """See `Layout.items`."""
        base = root / class_name
        normal = images(base / "train" / GOOD)
        if not normal:
            raise DataError(f"class '{class_name}': no image in {base / 'train' / GOOD}: copy MVTec AD's own {class_name}/train/good there")
        found = with_masks(root, "train", GOOD, normal)
        found += with_masks(root, "test", GOOD, some_images(base / "image" / GOOD, class_name))
        anomalous: list[Item] = []
        for kind in (own.name for own in folders(base / "image") if own.name != GOOD):
            anomalous += with_masks(root, "test", kind, some_images(base / "image" / kind, class_name), images(base / "mask" / kind))
        values = {item.image: mask_values(root / item.mask) if item.mask else [] for item in anomalous}
        counted: dict[int, Counter[str]] = defaultdict(Counter)
        for item in anomalous:
            if item.type != COMBINED:
                for value in values[item.image]:
                    counted[value][item.type] += 1
        kinds = {kind for count in counted.values() for kind in count}
        usual = Counter(max((count[kind], value) for value, count in counted.items())[1] for kind in kinds)
        names = {value: count.most_common(1)[0][0] for value, count in counted.items() if usual[value] <= 1}
        return in_order(found + [_resolved(item, values[item.image], names) for item in anomalous])


def _resolved(item: Item, values: list[int], names: dict[int, str]) -> Item:
    types = {names.get(value, COMBINED) for value in values}
    if item.type == COMBINED and len(types) == 1 and COMBINED not in types:
        return replace(item, type=types.pop())
    return replace(item, several=item.type == COMBINED or len(types) > 1)
