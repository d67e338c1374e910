"""Presets that name what another study has, or what is not there; a registry that holds what is gone."""

import re
import shutil
from pathlib import Path

import pytest
import yaml
from PIL import Image
from tiny_project import ROOT
from typer.testing import CliRunner

from nandlib.cli import app
from nandlib.data.config import DataConfig
from nandlib.data.groups import Grouping, load_grouping
from nandlib.data.manifest import build_manifest
from nandlib.errors import DataError, PresetError
from nandlib.settings import EMBEDDED_HEADS
from nandlib.stages.maps import Maps, clear_maps
from nandlib.study.fitted import state_path
from nandlib.study.open_study import OpenStudy
from nandlib.study.preset import load_study
from nandlib.study.registry import missing_files, read_registry, register, registered, renew


@pytest.fixture
def root(tmp_path):
    """A project with the boards' preset, whose images are an empty folder."""
    (tmp_path / "studies/kinds").mkdir(parents=True)
    (tmp_path / "dvc.yaml").touch()
    (tmp_path / "params.yaml").write_text("studies: {}\ndrawn: {}\nmodels: {}\n")
    for folder in ("data/pcb_ad", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
    preset(tmp_path, "pcb")
    return tmp_path


def preset(place, name, **replaced):
    text = (ROOT / "studies/pcb.yaml").read_text().replace("name: pcb\n", f"name: {name}\n", 1)
    for old, new in replaced.items():
        text = re.sub(rf"^( *){old}: .*$", rf"\1{old}: {new}", text, count=1, flags=re.M)
    (place / f"studies/{name}.yaml").write_text(text)
    return place / f"studies/{name}.yaml"


def test_a_study_does_not_write_where_another_has_its_images(root):
    register(root / "studies/pcb.yaml", root)
    with pytest.raises(PresetError, match="would write into data/pcb_ad, where the images of 'pcb' are"):
        register(preset(root, "pcb_ad", root="elsewhere"), root)


def test_a_name_that_a_study_of_another_kind_has(root):
    shutil.copy(ROOT / "studies/kinds/parts.yaml", root / "studies/kinds")
    with pytest.raises(PresetError, match=r"studies/parts.yaml: a study of another kind is called 'parts' already"):
        register(preset(root, "parts"), root)


def test_a_study_whose_preset_is_gone_is_registered_no_more(root):
    shutil.copy(ROOT / "studies/mini.yaml", root / "studies")
    register(root / "studies/mini.yaml", root)
    (root / "studies/mini.yaml").unlink()
    register(root / "studies/pcb.yaml", root)
    known = read_registry(root)
    assert list(known["studies"]) == ["pcb"] and not known["drawn"] and not known["compared"]


def test_groups_and_prompts_that_are_not_there_are_named_at_once(root):
    path = preset(root, "lost", groups="studies/no.yaml", prompts="{file: studies/nothing.yaml}")
    with pytest.raises(DataError, match=r"(?s)names 2 file.*data.groups: studies/no.yaml.*prompts.file: studies/nothing.yaml"):
        register(path, root)


def test_all_weights_that_a_full_size_preset_does_not_name_are_told_at_once(root):
    text = (ROOT / "studies/mvtec_ad_random.yaml").read_text().replace(", weights: random", "").replace("{weights: random}", "{}")
    (root / "studies/mvtec_ad_random.yaml").write_text(text)
    with pytest.raises(PresetError, match="model.weights, winclip.weights: missing; the full-size study needs a file's path"):
        register("mvtec_ad_random", root)


def test_images_that_another_study_draws_are_not_missing(root):
    shutil.copy(ROOT / "studies/mini.yaml", root / "studies")
    register(root / "studies/mini.yaml", root)
    study = OpenStudy(root, load_study(ROOT / "studies/mini_detectors.yaml"))
    assert missing_files(study, read_registry(root)) == {}


def test_a_study_is_registered_by_its_name_and_by_its_path(root, monkeypatch):
    register(root / "studies/pcb.yaml", root)
    monkeypatch.chdir(root)
    assert registered("studies/pcb.yaml", root).name == "pcb"


def test_a_class_is_left(tmp_path):
    for name in ("train/good", "test/good", "test/cut"):
        (tmp_path / "a" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "a" / name / "0.png")
    config = DataConfig(root=tmp_path, groups="types", classes=("a",), exclude_classes=("a",))
    with pytest.raises(DataError, match="data.exclude_classes leaves none of a "):
        build_manifest(tmp_path, config, Grouping("types", None), progress=False)


def test_names_of_groups_are_text(tmp_path):
    (tmp_path / "groups.yaml").write_text("carpet: {1: [thread], 2: [hole]}\n")
    with pytest.raises(PresetError, match="carpet/1: names are text: put '1' in quotes"):
        load_grouping(str(tmp_path / "groups.yaml"))


def test_a_type_that_is_grouped_and_left_out():
    grouping = Grouping("groups.yaml", {"carpet": {"a": ["thread"], "b": ["hole"]}})
    with pytest.raises(PresetError, match="data.exclude_types: 'hole' is in the group carpet/b"):
        grouping.check_types("carpet", ["thread"], [], ["hole"])


@pytest.mark.parametrize("key", ["softmax_against: [normal, normal]", "layers: [0, 0]"])
def test_what_is_said_twice_does_not_count_twice(root, key):
    path = root / "studies/pcb.yaml"
    path.write_text(path.read_text().replace("nand: {}", f"nand: {{{key}}}"))
    with pytest.raises(PresetError, match="is there twice"):
        load_study(path)


def test_options_that_would_do_nothing():
    found = CliRunner().invoke(app, ["kshot", "mini", "--every-detector", "--retrained", "3"])
    assert isinstance(found.exception, DataError) and "nothing is fitted anew" in str(found.exception)


def test_a_stage_that_encodes_sentences_sees_their_file():
    for file in ("dvc.yaml", "studies/on_demand/dvc.yaml"):
        for name, stage in yaml.safe_load((ROOT / file).read_text())["stages"].items():
            stage = stage.get("do", stage)
            named = [key for entry in stage.get("params", ()) if isinstance(entry, dict) for keys in entry.values() for key in keys or ()]
            assert "prompts" not in named or "${item.prompts}" in stage["deps"], f"{file}: {name}"


def test_maps_of_another_state_do_not_stand_beside_it(root, monkeypatch):
    study = OpenStudy(root, load_study(ROOT / "studies/pcb.yaml"))
    words = iter([b"first", b"first", b"second"])

    class Found:
        def save(self, path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(next(words))
            return path

    monkeypatch.setattr("nandlib.stages.maps.TRAINED", {"pbas": type("Pbas", (), {"fit": staticmethod(lambda *_: Found())})})
    monkeypatch.setattr("nandlib.stages.maps.image_paths", lambda *_: [])
    work = Maps.__new__(Maps)
    work.study, work.config, work.progress, work.resumed, work.unfinished = study, study.config, False, set(), []
    work.__dict__["_model"] = None
    shard, state = study.data / "maps/pbas/board/test_0.safetensors", state_path(study, "pbas", "board")
    for expected in (True, True, False):
        shard.parent.mkdir(parents=True, exist_ok=True)
        shard.touch()
        work._fitted("pbas", state, ["board"])
        assert shard.is_file() == expected and [own.name for own in state.parent.iterdir()] == [state.name]


def test_one_training_image_has_no_maps_of_its_own(root, monkeypatch):
    study = OpenStudy(root, load_study(ROOT / "studies/pcb.yaml"))
    monkeypatch.setattr("nandlib.stages.maps.shards_of", lambda *_: [])
    object.__setattr__(study, "classes", lambda: ["board"])
    whole = study.data / "maps/patchcore/board/class.safetensors"
    for images, kept in ((2, True), (1, False)):
        whole.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(EMBEDDED_HEADS, whole)
        monkeypatch.setattr("nandlib.stages.maps.image_paths", lambda *_, n=images: [Path("x")] * n)
        clear_maps(study)
        assert whole.is_file() == kept


def test_weights_that_were_replaced_are_noticed(root):
    shutil.copy(EMBEDDED_HEADS, root / "data/own.safetensors")
    path = preset(root, "own")
    path.write_text(path.read_text().replace("patchcore: {}", "patchcore: {backbone_weights: data/own.safetensors}"))
    register(path, root)
    assert renew(root) == []
    (root / "data/own.safetensors").write_bytes(b"other")
    assert renew(root) == ["own"] and renew(root) == []
    (root / "data/own.safetensors").unlink()
    assert renew(root) == []
