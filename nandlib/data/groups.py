"""Table 1: anomaly types that look alike form a group; a group is what is added as normal."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nandlib.errors import PresetError, nearest
from nandlib.settings import read_yaml, resource

GOOD, ALWAYS_ABNORMAL = "good", ""  # what stands for no anomaly, and for anomalies that are in no group
PLAIN_NAME = re.compile(r"\w[\w .,+()-]*")  # of classes, types and groups


def groups_of(groups: Iterable[str]) -> list[str]:
    """The groups that may be added, in the order in which they occur."""
    return [name for name in dict.fromkeys(groups) if name not in (GOOD, ALWAYS_ABNORMAL)]


@dataclass(frozen=True)
class Grouping:
    """Class → group → anomaly types; ``classes`` is None where every type is its own group."""

    source: str
    classes: dict[str, dict[str, list[str]]] | None

    def group_of(self, class_name: str, type_name: str) -> str:
        """The group of a type; ``""`` if it is in none."""
        if self.classes is None:
            return type_name
        for group, types in self.classes[class_name].items():
            if type_name in types:
                return group
        return ""

    def check_classes(self, names: Sequence[str]) -> None:
        """Raise PresetError for a class that the grouping does not have."""
        for name in names:
            if self.classes is not None and name not in self.classes:
                raise PresetError(
                    f"{self.source}: no groups for class '{name}': add them, or list the class in data.exclude_classes. "
                    + nearest(name, self.classes)
                )

    def check_types(self, class_name: str, present: Iterable[str], always_abnormal: Sequence[str], excluded: Sequence[str] = ()) -> None:
        """Raise PresetError if a group lists a type that is not there, or a type that is there is in no group."""
        if self.classes is None:
            return
        present = list(present)
        for group, types in self.classes[class_name].items():
            for name in types:
                if name in excluded:
                    raise PresetError(
                        f"data.exclude_types: '{name}' is in the group {class_name}/{group} ({self.source}): take it out of one of them, "
                        "of a copy of the grouping if that is the package's"
                    )
                if name not in present:
                    raise PresetError(
                        f"{self.source}: {class_name}/{group} lists type '{name}', which is not in the data: {nearest(name, present)}"
                    )
        for name in present:
            if self.group_of(class_name, name) and name in always_abnormal:
                raise PresetError(f"{self.source}: type '{name}' of class '{class_name}' is in a group and in data.abnormal_types")
            if not self.group_of(class_name, name) and name not in always_abnormal:
                raise PresetError(
                    f"{self.source}: type '{name}' of class '{class_name}' is in no group: add it to one, or list it in "
                    "data.exclude_types or data.abnormal_types"
                )


def load_grouping(name: str) -> Grouping:
    """The grouping ``"types"``, one of the package (``"mvtec_ad"``: Table 1 of the paper), or a YAML file.

    Raises:
        PresetError: If the file is missing, or is not a mapping class → group → list of types, each type once.
    """
    if name == "types":
        return Grouping("types", None)
    path = resource("groups", name)
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise PresetError(f"{path} must map class → group → list of types")
    for class_name, groups in content.items():
        if not isinstance(groups, dict):
            raise PresetError(f"{path}: class '{class_name}' must map each group to a list of types")
        seen: set[str] = set()
        for group, types in groups.items():
            if not isinstance(types, list) or not types:
                raise PresetError(f"{path}: {class_name}/{group} must be a list of at least one type")
            if odd := [name for name in types if not isinstance(name, str)]:
                raise PresetError(f"{path}: {class_name}/{group}: types are text: put what was read as {odd[0]!r} in quotes")
            if not isinstance(group, str) or not isinstance(class_name, str):
                raise PresetError(f"{path}: {class_name}/{group}: names are text: put '{group}' in quotes")
            if group in (GOOD, ALWAYS_ABNORMAL) or GOOD in types:
                raise PresetError(f"{path}: {class_name}/{group}: 'good' is no group of defects, nor one of its types")
            if not PLAIN_NAME.fullmatch(group):
                raise PresetError(f"{path}: {class_name}: group '{group}': names hold letters, digits, spaces and . , + - _ ( ) only")
            for name in types:
                if name in seen:
                    raise PresetError(f"{path}: {class_name} has type '{name}' twice")
                seen.add(name)
    return Grouping(str(path), content)
