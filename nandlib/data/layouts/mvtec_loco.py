"""MVTec LOCO AD: every image has a folder of masks, one a defect, whose value says of what type it is."""

from __future__ import annotations

import json
from pathlib import Path

from nandlib.data.groups import GOOD
from nandlib.data.layouts.base import Item, folders, images, in_order, mask_values, some_images, with_masks
from nandlib.errors import DataError

CONFIG = "defects_config.json"
KINDS = ("logical_anomalies", "structural_anomalies")


class MVTecLOCO:
    """``<class>/train/good``, ``<class>/test/{good,logical_anomalies,structural_anomalies}``, ``<class>/ground_truth/<kind>/<stem>/*``.

    Types are those that ``<class>/defects_config.json`` gives the masks' values; what shows several is always abnormal. Its validation
    images are not used.
    """

    name = "mvtec_loco"
    described = "<class>/{train/good,test/logical_anomalies,ground_truth/logical_anomalies/<stem>}, <class>/defects_config.json"

    def fits(self, root: Path) -> bool:
        """Some class has one of the two kinds of anomalies, and a table of values, or folders of masks."""
        masks = (own / "ground_truth" / kind for own in _seeming(root) for kind in KINDS)
        return bool(self.classes(root)) or any(map(folders, masks))

    def classes(self, root: Path) -> list[str]:
        """Folders with a kind of anomalies and a table of values."""
        return [own.name for own in _seeming(root) if (own / CONFIG).is_file()]

    def lacking(self, root: Path) -> list[str]:
        """See `Layout.lacking`."""
        return [
            f"left out: class '{own.name}', of which {own / CONFIG} is missing" for own in _seeming(root) if not (own / CONFIG).is_file()
        ]

    def items(self, root: Path, class_name: str) -> list[Item]:
        """See `Layout.items`."""
        base, names = root / class_name, _names(root / class_name / CONFIG)
        found = with_masks(root, "train", GOOD, some_images(base / "train" / GOOD, class_name))
        found += with_masks(root, "test", GOOD, some_images(base / "test" / GOOD, class_name))
        anomalous = []
        for kind in (own.name for own in folders(base / "test") if own.name != GOOD):
            for image in some_images(base / "test" / kind, class_name):
                place = base / "ground_truth" / kind / image.stem
                types = sorted({names[value] for path in images(place) for value in _values(path, names)})
                if not types:
                    raise DataError(f"{place} holds no mask with a marked pixel: it alone says what {image.name} shows")
                files = image.relative_to(root).as_posix(), place.relative_to(root).as_posix()
                anomalous.append(Item("test", "+".join(types), *files, len(types) > 1))
        return in_order(found + anomalous)


def _seeming(root: Path) -> list[Path]:
    return [own for own in folders(root) if any((own / "test" / kind).is_dir() for kind in KINDS)]


def _names(path: Path) -> dict[int, str]:
    """Value of a mask's pixels → type."""
    try:
        found = {int(entry["pixel_value"]): str(entry["defect_name"]) for entry in json.loads(path.read_text(encoding="utf-8-sig"))}
        if any(name.strip().lower() == GOOD for name in found.values()):
            raise ValueError(f"'{GOOD}' is no defect")
        return found
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is no list of defects with pixel_value and defect_name ({error!r})") from error


def _values(path: Path, names: dict[int, str]) -> list[int]:
    values = mask_values(path)
    for value in values:
        if value not in names:
            raise DataError(f"{path} has pixels of value {value}, which {CONFIG} does not name: it names {sorted(names)}")
    return values
