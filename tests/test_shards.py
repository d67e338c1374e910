"""What stages keep of a class's images, shard by shard: read as one tensor, made again where something has changed, never held whole."""

import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from nandlib.errors import DataError
from nandlib.stages.maps import write_maps
from nandlib.stages.scores import write_scores
from nandlib.stages.similarities import write_similarities
from nandlib.streaming import passes
from nandlib.study import store
from nandlib.study.class_maps import ALL, ClassMaps
from nandlib.study.images import image_paths
from nandlib.study.open_study import open_study
from nandlib.study.store import StoredRows, bring_up_to_date, load, save, shards_of


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(store, "SHARD", 4)


@pytest.mark.parametrize("count", [1, 4, 5, 11])
def test_rows_are_those_of_one_tensor(small, tmp_path, count):
    whole = torch.arange(count * 6.0).reshape(count, 3, 2)
    files = [tmp_path / f"test_{k}.safetensors" for k in range(-(-count // 4))]
    for k, path in enumerate(files):
        save(path, {"x": whole[4 * k : 4 * k + 4]}, {}, "")
    rows = StoredRows(files, "x")
    assert len(rows) == count and rows.shape == whole.shape
    for start in range(count + 1):
        for stop in range(count + 3):
            assert torch.equal(rows[start:stop], whole[start:stop]) and torch.equal(rows[start:stop, 1], whole[start:stop, 1])
    assert torch.equal(rows[ALL], whole) and torch.equal(rows[ALL, 2], whole[:, 2])
    with pytest.raises(DataError, match="nowhere holds no file of a stage"):
        load(tmp_path / "nowhere")


def test_a_file_is_made_when_something_has_changed(tmp_path):
    made = []

    def make():
        made.append(1)
        return {"x": torch.zeros(1)}, {}

    for key, count in (("a", 1), ("a", 1), ("b", 2)):
        bring_up_to_date(tmp_path / "x.safetensors", key, make)
        assert len(made) == count


@pytest.fixture
def study(small, project, tmp_path, monkeypatch):
    """The tiny study's images in a place of its own, in shards of four."""
    shutil.copytree(project / "studies", tmp_path / "studies")
    preset = tmp_path / "studies/tiny.yaml"
    preset.write_text(re.sub("^detectors: .*$", "detectors: [aprilgan, winclip_1, patchcore]", preset.read_text(), flags=re.MULTILINE))
    tiny, data = open_study("tiny", project), tmp_path / "data/tiny"
    shutil.copytree(tiny.images, data / "images")
    shutil.copy(tiny.data / "manifest.csv", data)
    monkeypatch.chdir(tmp_path)  # its prompt file is named from there
    return open_study("tiny", tmp_path)


def stamps(study):
    return {path.relative_to(study.data).as_posix(): path.stat().st_mtime_ns for path in study.data.rglob("*.safetensors")}


def run(study):
    for stage in (write_similarities, write_maps, write_scores):
        stage(study, progress=False)
    return stamps(study)


def test_one_image_that_changes_costs_its_own_shard(study, project):
    first, scores = run(study), study.scores
    paths = image_paths(study, "carpet")
    assert len([name for name in first if name.startswith("similarities/carpet/test_")]) == -(-len(paths) // 4) > 1
    theirs = open_study("tiny", project).scores
    theirs = theirs[theirs["detector"].isin(study.config.detectors)].reset_index(drop=True)
    assert scores.drop(columns=["before", "after"]).equals(theirs.drop(columns=["before", "after"]))
    assert np.allclose(scores[["before", "after"]], theirs[["before", "after"]], atol=1e-6), "batches of four are no other images"
    assert run(study) == first
    with Image.open(paths[5]) as image:
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(paths[5])
    again = run(study)
    changed = {name for name in first if again[name] != first[name]}
    own = "carpet/test_000001.safetensors"
    assert changed == {f"similarities/{own}", f"maps/winclip/{own}", f"maps/patchcore/{own}"}
    new = open_study("tiny", study.root).scores
    before, after = (frame.set_index(["detector", "image", "added"])[["before", "after"]] for frame in (scores, new))
    moved = (before != after).any(axis=1)
    assert set(before.index[moved].get_level_values("image")) == {paths[5].relative_to(study.images).as_posix()}


def test_parts_of_a_class_are_the_stages_files(study, monkeypatch):
    """Which workers may make in any order."""
    monkeypatch.setattr(passes, "AT_ONCE", 1)
    todo = passes.parts(study)
    shards = [len(shards_of(study, name)) for name in study.classes()]
    assert [(part.start, part.stop) for part in todo] == 2 * [(k, k + 1) for count in shards for k in range(count)]
    monkeypatch.setattr(passes, "parts", lambda _: todo[::-1])
    passes.run_passes(study, lambda work, parts: map(work, parts))
    made = stamps(study)
    assert len(made) == 3 * sum(shards) + 2 * len(shards) and run(study) == made


def test_scores_hold_a_shard_at_a_time(study, monkeypatch):
    run(study)
    maps, most = ClassMaps.of(study, "carpet"), []
    read = StoredRows._shard
    monkeypatch.setattr(StoredRows, "_shard", lambda self, number: most.append(len(read(self, number))) or read(self, number))
    for batch in maps.batches():
        assert len(batch.final("+thread", "patchcore")) <= 16
    assert max(most) == 4 and all(isinstance(maps.cos[name], StoredRows) for name in ("test", "test_bank", "test_image"))


def test_shards_of_a_larger_class_are_deleted(study):
    run(study)
    stale = study.data / "maps/patchcore/carpet/test_000099.safetensors"
    shutil.copy(stale.with_name("test_000000.safetensors"), stale)
    shutil.copytree(stale.parent, stale.parent.with_name("wood"))
    write_maps(study, progress=False)
    assert not stale.exists() and not stale.parent.with_name("wood").exists()
