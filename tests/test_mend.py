"""DVC killed while it rewrites its own files: the next run starts, and loses nothing that was whole."""

import random
import subprocess
import sys

import pytest
from dvc.lock import make_lock
from dvc.schema import COMPILED_LOCKFILE_SCHEMA
from ruamel.yaml import YAML
from tiny_project import ROOT

from nandlib.study.mend import IN_USE, OWN, mend, whole_stages

LOCK = (ROOT / "dvc.lock").read_text()[:9000]


def stages(text):
    """As DVC reads them: it refuses what does not fit."""
    return COMPILED_LOCKFILE_SCHEMA(YAML(typ="safe").load(text))["stages"] if text else {}


def begun(place):
    """How many stages have their names in what there is up to a place."""
    return LOCK[:place].count("@mini:\n")


def test_a_whole_list_stays_as_it_is():
    text = (ROOT / "dvc.lock").read_text()
    assert whole_stages(text) == text


def test_of_a_list_that_is_cut_off_all_but_the_last_stage_is_kept():
    rng = random.Random(0)
    seen = set()
    for place in [0, 1, len("schema"), *(rng.randrange(len(LOCK)) for _ in range(80)), len(LOCK)]:
        kept = whole_stages(LOCK[:place])
        assert LOCK.startswith(kept)
        names = list(stages(kept))
        assert len(names) in (begun(place) - 1, begun(place))
        seen.add(len(names))
    assert {0, 1} <= seen


@pytest.mark.parametrize("more", ["", "  man", "  manifest@mini:", "  manifest@mini:\n", "  manifest@mini:\n    cmd: P"])
def test_a_stage_before_the_one_that_is_cut_off_is_kept(more):
    first = LOCK[: LOCK.index("  manifest@mini:")]
    assert whole_stages(first + more) == first


@pytest.mark.parametrize("content", ['{"read": {"data/x": [{"pid": 1, "c', "", "{}", '{"read": {}, "write": {}}'])
def test_a_list_of_what_is_in_use_is_whole_or_gone(tmp_path, content):
    path = tmp_path / OWN / IN_USE
    path.parent.mkdir(parents=True)
    path.write_text(content)
    assert mend(tmp_path) == ([] if content.endswith("}") else [path])
    assert path.is_file() == content.endswith("}")


def test_nothing_is_touched_while_dvc_is_at_work(tmp_path):
    path = tmp_path / OWN / IN_USE
    path.parent.mkdir(parents=True)
    path.write_text("{")
    with make_lock(str(tmp_path / OWN / "lock"), tmp_dir=str(tmp_path / OWN)):
        code = f"from pathlib import Path; from nandlib.study.mend import mend; print(mend(Path({str(tmp_path)!r})))"
        assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
    assert path.read_text() == "{" and mend(tmp_path) == [path]


def test_files_are_mended_in_their_places(tmp_path):
    (tmp_path / ".dvc/tmp").mkdir(parents=True)
    assert mend(tmp_path) == []  # nothing is there
    (tmp_path / "studies/on_demand").mkdir(parents=True)
    cut, rest = tmp_path / "dvc.lock", tmp_path / "studies/on_demand/dvc.lock"
    cut.write_text(LOCK[:8000])
    rest.write_text("schema: '2.0'\nstages:\n  heads@mi")
    assert mend(tmp_path) == [cut, rest]
    assert not rest.exists() and set(stages(cut.read_text())) == {"images@mini", "manifest@mini"}
