"""What a killed run of DVC leaves behind: parts of the files that it rewrites in place, with which no later run would start."""

from __future__ import annotations

import json
import re
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from nandlib.data.held import written

OWN, IN_USE = ".dvc/tmp", "rwlock"  # DVC's folder, and in it who reads and writes what
DONE = ("dvc.lock", "studies/on_demand/dvc.lock")  # which stages have been run on what
_STAGE = re.compile(r"^  \S.*:$", re.MULTILINE)


def mend(root: Path) -> list[Path]:
    """Of the list of what is in use, nothing is kept if it is not whole; of the lists of stages, what DVC can read: the others run
    again, and find what they have made. While DVC is at work nothing is looked at.

    Args:
        root: Of a checkout.

    Returns:
        What was cut off.
    """
    from dvc.lock import LockError, make_lock

    try:
        with make_lock(str(root / OWN / "lock"), tmp_dir=str(root / OWN)):  # which DVC holds while it writes them
            return _mend(root)
    except LockError:
        return []


def _mend(root: Path) -> list[Path]:
    cut = []
    in_use = root / OWN / IN_USE
    if in_use.is_file() and not _is_json(in_use.read_text(errors="replace")):
        in_use.unlink()
        cut.append(in_use)
    for path in (root / name for name in DONE):
        if not path.is_file():
            continue
        text = path.read_text(errors="replace")
        kept = whole_stages(text)
        if not kept:
            path.unlink()
        elif kept != text:
            written(path, lambda partial, kept=kept: partial.write_text(kept))  # type: ignore[misc]
        if kept != text:
            cut.append(path)
    return cut


def whole_stages(text: str) -> str:
    """The beginning of a `dvc.lock` as a text, without its last stage if DVC cannot read that; nothing if no stage is left.

    A stage of which DVC can read the beginning stays: what is not listed counts as changed, and the stage runs again.
    """
    text = text[: text.rfind("\n") + 1]  # without a line that is cut off
    starts = [found.start() for found in _STAGE.finditer(text)]
    if not starts:
        return ""
    return text if _is_stage(text[starts[-1] :]) else text[: starts[-1]] if len(starts) > 1 else ""


def _is_stage(text: str) -> bool:
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA  # as DVC will look at it
    from voluptuous import Invalid

    try:
        COMPILED_LOCKFILE_SCHEMA({"schema": "2.0", "stages": YAML(typ="safe").load(text)})
    except (YAMLError, Invalid):
        return False
    return True


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
