"""Whoever adds a detector, a layout, a method or a notebook and forgets one of its places is told which."""

import json
import tomllib
from typing import get_args

import nbformat
import pytest
from pydantic import ValidationError
from tiny_project import ROOT
from typer.testing import CliRunner

from nandlib.cli import app
from nandlib.data.config import DataConfig
from nandlib.data.layouts import LAYOUTS
from nandlib.detectors import fit
from nandlib.detectors.config import TOGETHER, TRAINED_NAMES, DetectorName, TrainedConfig, TrainedDetectors, family_of
from nandlib.detectors.trained import TRAINED
from nandlib.errors import DataError, PresetError
from nandlib.method.config import METHODS, NandConfig, PlusConfig
from nandlib.method.suppression import suppression
from nandlib.show.explorer.widget import METHODS as SHOWN_METHODS
from nandlib.show.style import COLOURS, LABELS, colour_of
from nandlib.stages import maps
from nandlib.stages.maps import FAMILIES, Maps, families_of
from nandlib.study.dependencies import entry_modules
from nandlib.study.fingerprint import import_closure, module_path
from nandlib.study.fitted import fitted_detectors
from nandlib.study.open_study import OpenStudy
from nandlib.study.preset import load_study

NAMES = [name for own in get_args(DetectorName) for name in (get_args(own) or (own,))]


# --- detectors -----------------------------------------------------------------------------------------------------------


def test_a_trained_detector_is_named_in_all_its_places():
    assert tuple(TrainedDetectors.model_fields) == TRAINED_NAMES == tuple(TRAINED) and set(TOGETHER) < set(TRAINED)
    assert {name: own.config_type for name, own in TRAINED.items()} == {name: type(TrainedDetectors().of(name)) for name in TRAINED_NAMES}


def test_every_detector_has_a_label_a_colour_a_stage_and_a_name_to_fit_it_by():
    assert set(NAMES) <= set(LABELS) and {family_of(name) for name in NAMES} == {*FAMILIES, *TRAINED}
    assert {name for name in NAMES if not name.startswith("aprilgan_")} <= set(COLOURS) and colour_of("another") == "#555555"
    for name in NAMES:
        fit.check_name(name)
    assert all(module_path(module).is_file() for own in FAMILIES.values() for module in own)


def test_every_detector_is_in_the_contract_that_keeps_them_apart():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (kept,) = (set(own["modules"]) for own in contracts if own["name"] == "A detector knows nothing of the others")
    assert kept == {own.__module__ for own in TRAINED.values()} | {f"nandlib.detectors.{family}" for family in FAMILIES}


@pytest.mark.parametrize("command", [["apply", "--help"], ["fit", "--help"]], ids=" ".join)
def test_the_help_names_every_detector(command):
    said = "".join(CliRunner().invoke(app, command, env={"COLUMNS": "400"}).output.split())
    assert all(name in said for name in TRAINED_NAMES)


def study_of(*detectors: str) -> OpenStudy:
    return OpenStudy(ROOT, load_study(ROOT / "studies/pcb.yaml").model_copy(update={"detectors": detectors}))


def test_names_that_begin_with_anothers_are_not_mixed(monkeypatch):
    monkeypatch.setattr("nandlib.detectors.config.TRAINED_NAMES", (*TRAINED_NAMES, "pbas_wide", "patchcore_gauss"))
    study = study_of("pbas", "pbas_wide", "patchcore_gauss", "winclip_1", "winclip_5", "aprilgan", "aprilgan_1")
    assert maps._names(study, "pbas") == ["pbas"] and maps._names(study, "patchcore") == []
    assert family_of("edge_detector_5") == "edge_detector"
    assert maps._names(study, "winclip") == ["winclip_1", "winclip_5"] and maps._names(study, "aprilgan") == ["aprilgan_1"]


def test_a_detector_that_nothing_builds_is_named():
    with pytest.raises(PresetError, match=r"no stage makes maps of 'edges': FAMILIES in nandlib/stages/maps\.py"):
        families_of(study_of("patchcore", "edges"))
    study = study_of("aprilgan", "edges")
    for build in (
        lambda: fitted_detectors(study, "edges", None, ["pcb"]),
        lambda: Maps(study, ["patchcore"], False)._build("edges", "pcb"),
    ):
        with pytest.raises(PresetError, match="'edges'"):
            build()


@pytest.mark.parametrize("family", FAMILIES)
def test_maps_of_a_family_depend_on_the_code_that_computes_it(monkeypatch, family):
    monkeypatch.setattr(maps, "source_code", lambda own, *modules: [own, *import_closure(*modules)])
    alone, together = (Maps(study_of("patchcore"), families, False).code for families in ([family], list(FAMILIES)))
    assert f"nandlib.detectors.{family}" in alone[family] and together[family] == alone[family], "no family depends on its neighbours"


def test_a_size_that_is_not_known():
    class Own(TrainedConfig):
        pass

    with pytest.raises(ValidationError, match="size: no published values are known of this detector: leave size out"):
        Own(size="full")


# --- methods -------------------------------------------------------------------------------------------------------------


def test_a_method_without_a_rule_is_named(monkeypatch):
    class Nothing:
        texts = grid = temperature = None

    with pytest.raises(PresetError, match=r"nand\.method: no rule 'half' in nandlib/method/suppression\.py"):
        suppression(Nothing(), 0, NandConfig().model_copy(update={"method": "half"}), (8, 8))


def test_what_a_method_needs_is_said_by_its_settings():
    paper, plus = NandConfig(), NandConfig(method="nand_plus")
    bare = NandConfig(method="nand_plus", plus=PlusConfig(regions=False, calibrate=False, competitors="normal"))
    assert [own.by_regions for own in (paper, plus, bare)] == [False, True, False]
    assert [own.calibrated for own in (paper, plus, bare)] == [False, True, False]
    assert [own.competitors for own in (paper, plus, bare)] == [None, "bank", "normal"]
    assert tuple(SHOWN_METHODS) == METHODS


# --- layouts, stages and notebooks ---------------------------------------------------------------------------------------


def test_every_layout_can_be_named_in_a_preset():
    (named,) = [get_args(DataConfig.model_fields["layout"].annotation)]
    assert set(named) == {"auto", *LAYOUTS}


def test_a_class_that_lies_otherwise_says_what_is_there(tmp_path):
    from nandlib.data.layouts.base import some_images

    for name in ("ok", "other"):
        (tmp_path / name).mkdir()
    with pytest.raises(DataError, match=r"which must hold some \(beside it: ok, other\)"):
        some_images(tmp_path / "good", "01")


@pytest.mark.parametrize(
    ("command", "names", "source", "message"),
    [
        ("${nand} notebook demo mini", (), "", r"holds 0 notebooks NN_demo_<word>\.ipynb, and needs one"),
        ("${nand} notebook demo mini", ("21_demo_a", "22_demo_b"), "", r"holds 2 notebooks NN_demo_<word>\.ipynb"),
        ("${nand} notebook demo mini", ("21_demo_a",), "%matplotlib inline", r"21_demo_a\.ipynb: no plain Python .*: leave magics out"),
        ("${nand} nothing mini", (), "", r"cmd '\$\{nand\} nothing mini': a stage calls '\$\{nand\} <command>'"),
        ("python x.py", (), "", r"cmd 'python x\.py': a stage calls"),
        ("${nand} notebook", (), "", r"cmd '\$\{nand\} notebook': a stage calls"),
    ],
)
def test_a_stage_that_cannot_be_looked_at_is_named(tmp_path, command, names, source, message):
    for name in names:
        cell = nbformat.v4.new_code_cell(source or "import nandlib.settings", id="a")
        (tmp_path / f"{name}.ipynb").write_text(json.dumps(nbformat.v4.new_notebook(cells=[cell])))
    with pytest.raises(PresetError, match=message):
        entry_modules(command, tmp_path)
