"""An opened study: its example, its groups, and messages about what is not there."""

import shutil
from pathlib import Path

import pytest

from nandlib.errors import DataError, PresetError
from nandlib.stages.images import draw_images
from nandlib.stages.manifest import write_manifest
from nandlib.study.fingerprint import digest
from nandlib.study.open_study import OpenStudy, open_study, project_root
from nandlib.study.preset import load_study

PRESET = """
name: own
title: t
data: {root: images}
model: {name: mini, weights: w.safetensors}
prompts: {file: type_name}
nand: {}
detectors: [aprilgan]
winclip: {}
patchcore: {}
trained: {}
figures: {class_name: bolt, group: dent}
"""


@pytest.fixture
def own(dataset, tmp_path):
    dataset()
    (tmp_path / "dvc.yaml").touch()
    (tmp_path / "studies").mkdir()

    def write(old: str = "", new: str = "") -> OpenStudy:
        assert old in PRESET
        (tmp_path / "studies/own.yaml").write_text(PRESET.replace(old, new) if old else PRESET)
        return open_study("own", tmp_path)

    return write


def test_manifest_groups_and_example(own):
    study = own()
    assert write_manifest(study, progress=False) == []
    assert study.test_groups() == {c: {"dent": ["dent"], "hair": ["hair"]} for c in ("bolt", "cloth")}
    assert study.example() == ("bolt", "dent")
    assert study.rows("cloth", "train")["image"].tolist() == ["cloth/train/good/000.png", "cloth/train/good/001.png"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("class_name: bolt", "class_name: blot", r"figures.class_name: no class 'blot': did you mean 'bolt'\?"),
        ("group: dent", "group: dentt", r"figures.group: no group 'dentt' of class 'bolt': did you mean 'dent'\?"),
        ("detectors: [aprilgan]", "detectors: [aprilgan, patchcore, aprilgan]", r"key 'detectors': .*'aprilgan' is there twice"),
        ("root: images", "root: images, classes: [bolt, bolt]", "'bolt' is there twice"),
        ("file: type_name", "file: mvtec_ad", "mvtec_ad.yaml: no phrases for class 'bolt'"),
    ],
)
def test_mistakes_are_found_before_any_long_stage(own, old, new, message):
    with pytest.raises(PresetError, match=message):
        write_manifest(own(old, new), progress=False)


def test_no_class_with_two_groups(own, tmp_path):
    for class_name in ("bolt", "cloth"):
        shutil.rmtree(tmp_path / "images" / class_name / "test/hair")
    with pytest.raises(DataError, match="no class has two groups or more"):
        write_manifest(own(), progress=False)


def test_what_was_left_out_is_told_where_too_little_is_left(own, tmp_path):
    for path in (tmp_path / "images").glob("*/test/hair/*"):
        path.write_bytes(b"")
    study = own("root: images", "root: images, on_unreadable: skip")
    with pytest.raises(DataError, match=r"no class has two groups or more.*\n4 images were left out, such as: skipped: .*hair"):
        write_manifest(study, progress=False)
    assert (study.data / "manifest_notes.txt").read_text().count("skipped: ") == 4


def test_missing_results_name_their_stage(own):
    with pytest.raises(DataError, match=r"manifest.csv is missing: run 'nand study run \w+' \(stage 'manifest'\) first"):
        own().manifest  # noqa: B018


def test_only_drawn_studies_are_drawn(own, tmp_path):
    with pytest.raises(PresetError, match="has no data.drawn"):
        draw_images(own(), progress=False)
    study = own("{root: images}", "{root: drawn, drawn: {classes: [carpett]}}")
    with pytest.raises(PresetError, match=r"unknown class 'carpett': did you mean 'carpet'\?"):
        draw_images(study, progress=False)


def test_outside_a_checkout(tmp_path):
    with pytest.raises(PresetError, match="no dvc.yaml at or above it"):
        project_root(tmp_path)
    with pytest.raises(PresetError, match="does not exist"):
        open_study("none", tmp_path)
    assert load_study(Path(__file__).parent / "tiny.yaml").name == "tiny"


def test_the_order_of_texts_is_part_of_a_fingerprint():
    """Tensors follow it."""
    assert digest({"+a": ["x"], "+b": ["y"]}) != digest({"+b": ["y"], "+a": ["x"]})
