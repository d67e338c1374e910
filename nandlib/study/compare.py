"""Two studies side by side: their tables with differences, and the settings in which they differ."""

from __future__ import annotations

from typing import Any, Literal

import pandas as pd

from nandlib.study.open_study import OpenStudy

VALUES = {
    "detectors": ("auroc_before", "auroc_after", "delta", "auroc_others", "gap_closed"),
    "groups": ("auroc_before", "auroc_after", "delta"),
}
KEYS = {"detectors": ["detector"], "groups": ["detector", "class", "group"]}


def compare(first: OpenStudy, second: OpenStudy, table: Literal["detectors", "groups"] = "detectors") -> pd.DataFrame:
    """A table of two studies, and what the second has more.

    Args:
        first, second: Studies that have been run.
        table: ``detectors``: means over classes; ``groups``: Δ of every group.

    Returns:
        The keys, then for every value ``<value>_<first>``, ``<value>_<second>`` and ``<value>_difference``, in AUROC points (gap_closed:
        percent). A row that one study lacks is NaN there.

    Raises:
        DataError: If one has not been run.
    """
    keys, values = KEYS[table], VALUES[table]
    parts = [(study.detectors if table == "detectors" else study.deltas)[[*keys, *values]] for study in (first, second)]
    names = (first.name, second.name if second.name != first.name else f"{second.name}_again")
    merged = parts[0].merge(parts[1], on=keys, how="outer", sort=False, suffixes=[f"_{name}" for name in names])
    columns = list(keys)
    for value in values:
        pair = [f"{value}_{name}" for name in names]
        merged[f"{value}_difference"] = merged[pair[1]] - merged[pair[0]]
        columns += [*pair, f"{value}_difference"]
    return merged[columns]


def differing_settings(first: OpenStudy, second: OpenStudy) -> dict[str, tuple[Any, Any]]:
    """Keys of the presets whose values differ: key → both values. Names and titles are left out."""
    one, other = (_flat(study.config.model_dump(mode="json", exclude={"name", "title"})) for study in (first, second))
    return {key: (one.get(key), other.get(key)) for key in dict.fromkeys([*one, *other]) if one.get(key) != other.get(key)}


def _flat(values: dict[str, Any], head: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= _flat(value, f"{head}{key}.") if isinstance(value, dict) else {head + key: value}
    return found
