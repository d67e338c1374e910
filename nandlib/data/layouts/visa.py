"""VisA as it is published: types stand in each class's ``image_anno.csv`` alone, several of one image parted by commas."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from nandlib.data.groups import GOOD
from nandlib.data.layouts.base import Item, folders, in_order, table_of
from nandlib.errors import DataError

ANNOTATIONS, SPLIT = "image_anno.csv", "split_csv/1cls.csv"
NORMAL = "normal"


class VisA:
    """``<class>/Data/Images``, ``<class>/image_anno.csv`` (image, label, mask), ``split_csv/1cls.csv`` (object, split, label, image, mask).

    Names of types are the labels with underscores for blanks. What shows several is always abnormal.
    """

    name = "visa"
    described = "<class>/{Data/Images,image_anno.csv}, split_csv/1cls.csv"

    def fits(self, root: Path) -> bool:
        """Some class has a table of its anomalies."""
        return bool(self.classes(root))

    def classes(self, root: Path) -> list[str]:
        """Folders with a table of anomalies."""
        return [own.name for own in folders(root) if (own / ANNOTATIONS).is_file()]

    def lacking(self, root: Path) -> list[str]:
        """See `Layout.lacking`."""
        seeming = [own for own in folders(root) if (own / "Data/Images").is_dir() and not (own / ANNOTATIONS).is_file()]
        return [f"left out: class '{own.name}', of which {own / ANNOTATIONS} is missing" for own in seeming]

    def items(self, root: Path, class_name: str) -> list[Item]:
        """See `Layout.items`."""
        split = _table(root / SPLIT, ("object", "split", "image"))
        trained = set(split.loc[(split["object"] == class_name) & (split["split"] == "train"), "image"])
        if not trained:
            raise DataError(f"class '{class_name}': {root / SPLIT} names none of its images as 'train': which are trained on is not known")
        table = _table(root / class_name / ANNOTATIONS, ("image", "label", "mask"))
        found = []
        for image, label, mask in table[["image", "label", "mask"]].itertuples(index=False):
            names = sorted({part.strip().replace(" ", "_") for part in label.split(",") if part.strip()})
            if not names:
                raise DataError(f"{root / class_name / ANNOTATIONS}: no label for {image}")
            if wrong := [name for name in names if name.lower() in (NORMAL, GOOD) and names != [NORMAL]]:
                place = root / class_name / ANNOTATIONS
                raise DataError(f"{place}: '{wrong[0]}' of {image} is no defect: normal images have '{NORMAL}' alone")
            if names == [NORMAL]:
                found.append(Item("train" if image in trained else "test", GOOD, image))
            else:
                found.append(Item("test", "+".join(names), image, mask, len(names) > 1))
        return in_order(found)


def _table(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    if not path.is_file():
        raise DataError(f"{path} is missing: VisA's own folder has it; unpack the archive anew")
    return table_of(path, columns)
