"""Real-IAD: images by class, state and sample; a JSON file a class says what is trained on, and what each shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from nandlib.data.groups import GOOD
from nandlib.data.layouts.base import Item, folders, in_order
from nandlib.errors import DataError

NORMAL = "OK"


class RealIAD:
    """``<class>/OK/S*/*.jpg``, ``<class>/NG/<TYPE>/S*/*.jpg`` and ``*.png``, and ``realiad_jsons/<class>.json``."""

    name = "real_iad"
    described = "<class>/{OK,NG/<TYPE>}/S*, realiad_jsons/<class>.json"

    def fits(self, root: Path) -> bool:
        """Some class has its JSON file."""
        return bool(self.classes(root))

    def classes(self, root: Path) -> list[str]:
        """Folders whose JSON file is there."""
        return [own.name for own in folders(root) if _file(root, own.name).is_file() and (own / NORMAL).is_dir()]

    def items(self, root: Path, class_name: str) -> list[Item]:
        """See `Layout.items`."""
        path, found = _file(root, class_name), list[Item]()
        splits: tuple[Literal["train", "test"], ...] = ("train", "test")
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            for split in splits:
                for entry in content[split]:
                    kind, image, mask = entry["anomaly_class"], entry["image_path"], entry.get("mask_path")
                    files = f"{class_name}/{image}", f"{class_name}/{mask}" if mask else ""
                    found.append(Item(split, GOOD if kind == NORMAL else str(kind), *files))
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{path} is not what Real-IAD's JSON files are: train and test, each with image_path, anomaly_class ({error!r})"
            ) from error
        return in_order(found)


def _file(root: Path, class_name: str) -> Path:
    return root / "realiad_jsons" / f"{class_name}.json"
