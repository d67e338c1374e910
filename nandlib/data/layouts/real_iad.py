"""Real-IAD: images by class, state and sample; a JSON file a class says what is trained on, and what each shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from nandlib.data.groups import GOOD
from nandlib.data.layouts.base import Item, folders, in_order
from nandlib.errors import DataError

NORMAL, JSONS = "OK", "realiad_jsons"


class RealIAD:
    """``realiad_<size>/<class>/OK/S*/*.jpg``, ``…/NG/<TYPE>/S*/*.jpg`` and ``*.png``, and ``realiad_jsons/<class>.json``.

    Of several sizes the first by name is read. The folder of a size is read too, or classes right beside ``realiad_jsons``.
    """

    name = "real_iad"
    described = "realiad_<size>/<class>/{OK,NG/<TYPE>}/S*, realiad_jsons/<class>.json"

    def fits(self, root: Path) -> bool:
        """Some class has its JSON file."""
        return bool(self.classes(root))

    def classes(self, root: Path) -> list[str]:
        """Folders whose JSON file is there."""
        return [own.name for own in _seeming(root) if _file(root, own.name).is_file()]

    def lacking(self, root: Path) -> list[str]:
        """See `Layout.lacking`."""
        files = {own.name: _file(root, own.name) for own in _seeming(root)}
        found = [f"left out: class '{name}', of which {path} is missing" for name, path in files.items() if not path.is_file()]
        sizes = [own.name for own in _sizes(root)]
        return [*found, *([f"of {', '.join(sizes)} the first is read"] if len(sizes) > 1 else [])]

    def items(self, root: Path, class_name: str) -> list[Item]:
        """See `Layout.items`."""
        path, found, place = _file(root, class_name), list[Item](), (_images(root) / class_name).relative_to(root).as_posix()
        splits: tuple[Literal["train", "test"], ...] = ("train", "test")
        try:
            content = json.loads(path.read_text(encoding="utf-8-sig"))
            for split in splits:
                for entry in content[split]:
                    kind, image, mask = entry["anomaly_class"], entry["image_path"], entry.get("mask_path")
                    files = f"{place}/{image}", f"{place}/{mask}" if mask else ""
                    found.append(Item(split, GOOD if kind == NORMAL else str(kind), *files))
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{path} is not what Real-IAD's JSON files are: train and test, each with image_path, anomaly_class ({error!r})"
            ) from error
        return in_order(found)


def _images(root: Path) -> Path:
    """Where the classes lie."""
    sizes = _sizes(root)
    return sizes[0] if sizes else root


def _sizes(root: Path) -> list[Path]:
    return [own for own in folders(root) if own.name.startswith("realiad_") and any((part / NORMAL).is_dir() for part in folders(own))]


def _seeming(root: Path) -> list[Path]:
    return [own for own in folders(_images(root)) if (own / NORMAL).is_dir()]


def _file(root: Path, class_name: str) -> Path:
    """Its JSON file, or where it should be: archives nest their folder, and a size's folder lies beside it."""
    beside = (root / JSONS, root / JSONS / JSONS, root.parent / JSONS, root.parent / JSONS / JSONS)
    return next((path for folder in beside if (path := folder / f"{class_name}.json").is_file()), root / JSONS / f"{class_name}.json")
