"""The trained detectors in a study: its stages, what they cost, and how their settings were chosen."""

import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from nandlib import load_model, open_study
from nandlib.benchmarks.detectors import detector_cost
from nandlib.benchmarks.edge import edge_cost
from nandlib.detectors.config import PbasConfig, TrainedDetectors, UniAdConfig
from nandlib.detectors.pbas import Pbas
from nandlib.detectors.uniad import UniAd
from nandlib.evaluation import trained_selection
from nandlib.evaluation.protocol import auroc
from nandlib.method.operators import resize_map
from nandlib.show.condition_charts import edge_scatter
from nandlib.stages.maps import write_maps
from nandlib.stages.protocol import write_protocol
from nandlib.stages.scores import write_scores
from nandlib.study.class_maps import ClassMaps
from nandlib.study.images import image_paths
from nandlib.study.open_study import OpenStudy

CONFIGS = {  # trained for moments
    "uniad": UniAdConfig(width=32, heads=2, feedforward=32, layers=(1, 1), window=(5, 5), epochs=4, batch_size=3),
    "pbas": PbasConfig(width=32, hidden=16, epochs=8, stages=(3, 4), batch_size=3),
}


@pytest.fixture(scope="module")
def model():
    return load_model("mini")


@pytest.fixture(scope="module")
def study(project, tmp_path_factory):
    """The tiny study with two detectors that are trained for moments, in a place of its own."""
    tiny, root = open_study("tiny", project), tmp_path_factory.mktemp("trained")
    (root / "data").mkdir()
    shutil.copytree(tiny.data, root / "data/tiny", symlinks=True)
    small = TrainedDetectors(uniad=CONFIGS["uniad"], pbas=CONFIGS["pbas"])
    names = (*tiny.config.detectors, "uniad", "pbas")
    return OpenStudy(root, tiny.config.model_copy(update={"detectors": names, "trained": small}))


def test_on_a_whole_study(study, project, model):
    """The stages treat them as they treat the others; what is there already is not computed again."""
    folder = study.data / "maps"
    before = {path: path.stat().st_mtime_ns for path in folder.glob("patchcore/*/*")}
    write_maps(study, progress=False)
    assert before and {path: path.stat().st_mtime_ns for path in folder.glob("patchcore/*/*")} == before
    states = {path.name for path in study.states.iterdir()}
    assert states == {"uniad.safetensors", "pbas_carpet.safetensors", "pbas_metal_nut.safetensors"}
    detector = UniAd.load(study.states / "uniad.safetensors", load_model("mini"), "carpet")
    stored = ClassMaps.of(study, "carpet").base("uniad")
    own = torch.from_numpy(detector(image_paths(study, "carpet")))
    torch.testing.assert_close(resize_map(own, (64, 64)), stored, rtol=1e-4, atol=1e-4)
    known = {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")}
    write_maps(study, progress=False)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")} == known
    write_scores(study, progress=False)
    assert list(dict.fromkeys(study.scores["detector"])) == list(study.config.detectors)
    theirs = open_study("tiny", project).scores
    pd.testing.assert_frame_equal(study.scores[study.scores["detector"].isin(theirs["detector"])].reset_index(drop=True), theirs)
    write_protocol(study)
    cost = detector_cost(study).set_index("detector")
    assert list(cost.index) == ["patchcore", "uniad", "pbas"]
    assert (cost[["train_s", "peak_gb", "image_ms", "backbone_ratio", "state_mb"]] > 0).all(axis=None)
    assert cost.loc["patchcore", "auroc_map"] == cost.loc["patchcore", "auroc_official"] != cost.loc["pbas", "auroc_official"]


def test_what_they_ask_of_a_small_device(study, project, monkeypatch):
    monkeypatch.chdir(project)  # its prompt file is named from there
    table = edge_cost(study).set_index("detector")
    assert list(table.index) == ["aprilgan", "patchcore", "uniad", "pbas"] and (table[["parameters", "mflops", "image_ms"]] > 0).all(
        axis=None
    )
    tower = sum(own.numel() for own in load_model("mini").tower.parameters())
    assert table.loc["patchcore", "parameters"] == tower < table.loc["pbas", "parameters"]
    assert table.loc["aprilgan", "memory_values"] == 0 < table.loc["patchcore", "memory_values"]
    state = UniAd.load(study.states / "uniad.safetensors", load_model("mini"))
    own = sum(p.numel() for p in state.network.parameters())
    assert table.loc["uniad", "parameters"] == tower + own
    assert edge_scatter(table.reset_index()).axes[0].get_xscale() == "log"


def test_a_training_that_changes_what_it_sees_makes_new_maps(study):
    path = study.data / "maps/uniad/carpet/test_000000.safetensors"
    write_maps(study, progress=False)
    stamp = path.stat().st_mtime_ns
    other = study.config.trained.model_copy(update={"uniad": CONFIGS["uniad"].model_copy(update={"seed": 5})})
    write_maps(OpenStudy(study.root, study.config.model_copy(update={"trained": other})), progress=False)
    assert path.stat().st_mtime_ns > stamp
    none = study.config.model_copy(update={"detectors": ("patchcore",)})
    write_maps(OpenStudy(study.root, none), progress=False)
    assert not path.exists() and not study.states.exists()


def test_settings_are_chosen_by_what_they_find(study, model, monkeypatch):
    monkeypatch.setattr(trained_selection, "CANDIDATES", {"pbas": ({"epochs": 1}, {"epochs": 4})})
    monkeypatch.setattr(trained_selection, "LONGER", {"pbas": ({"epochs": 6},)})
    *parts, table = trained_selection.select_trained(study, progress=False)
    assert [len(part) for part in parts] == [1, 2] and not list(trained_selection.select_trained(study, table, progress=False))
    (again,) = trained_selection.select_trained(study, table[:2], progress=False)
    pd.testing.assert_frame_equal(again, table)
    assert list(table.columns) == trained_selection.COLUMNS and list(table["kind"])[2] == "longer"
    assert table.loc[table["kind"] == "chosen", "auroc_map"].tolist() == [table["auroc_map"][:2].max()]
    found = []
    for class_name in study.classes():
        normals, paths = (image_paths(study, class_name, split) for split in ("train", "test"))
        detector = Pbas.fit(normals, load_model("mini"), PbasConfig(epochs=4))
        found.append(auroc(study.rows(class_name)["group"] != "good", detector(paths).max((1, 2))))
    assert table["auroc_map"][1] == pytest.approx(np.mean(found))
