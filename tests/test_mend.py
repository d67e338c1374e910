"""DVC killed while it rewrites its own files: the next run starts, and loses nothing that was whole."""

import random

import pytest
from dvc.schema import COMPILED_LOCKFILE_SCHEMA
from ruamel.yaml import YAML
from tiny_project import ROOT

from nandlib.study.mend import mend, whole_stages

LOCK = (ROOT / "dvc.lock").read_text()[:9000]


def stages(text):
    """As DVC reads them: it refuses what does not fit."""
    return COMPILED_LOCKFILE_SCHEMA(YAML(typ="safe").load(text))["stages"] if text else {}


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
        assert len(names) >= LOCK[:place].count("@mini:\n") - 1
        seen.add(len(names))
    assert {0, 1} <= seen


@pytest.mark.parametrize("content", ['{"read": {"data/x": [{"pid": 1, "c', "", "{}", '{"read": {}, "write": {}}'])
def test_a_list_of_what_is_in_use_is_whole_or_gone(tmp_path, content):
    path = tmp_path / ".dvc/tmp/rwlock"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    mend(tmp_path)
    assert path.is_file() == content.endswith("}")


def test_files_are_mended_in_their_places(tmp_path):
    mend(tmp_path)  # nothing is there
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "studies/on_demand").mkdir(parents=True)
    cut, rest = tmp_path / "dvc.lock", tmp_path / "studies/on_demand/dvc.lock"
    cut.write_text(LOCK[:8000])
    rest.write_text("schema: '2.0'\nstages:\n  heads@mi")
    mend(tmp_path)
    assert not rest.exists() and set(stages(cut.read_text())) == {"images@mini"}
