"""What a study does when it is asked from elsewhere, half-way, or for what it lacks."""

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import papermill
import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner

from nandlib.benchmarks.stages import _measured
from nandlib.cli import app, main
from nandlib.data.config import DataConfig, DrawnConfig
from nandlib.errors import DataError, PresetError
from nandlib.evaluation.contest import contest
from nandlib.evaluation.kshot import every_detector
from nandlib.evaluation.numbers import derived
from nandlib.evaluation.origin import type_origins
from nandlib.evaluation.verify import has_been_run, verify
from nandlib.method.config import NandConfig
from nandlib.show.notebooks import execute
from nandlib.stages.images import draw_images
from nandlib.stages.maps import Maps
from nandlib.stages.similarities import Similarities
from nandlib.study.doctor import examine
from nandlib.study.model import placement
from nandlib.study.open_study import OpenStudy, open_study
from nandlib.study.preset import load_study
from nandlib.study.prompt_generator import REQUEST, generate
from nandlib.study.registry import presets, read_registry, register, registered, renew
from nandlib.study.store import keep_only

ROOT = Path(__file__).parents[1]


@pytest.fixture
def root(tmp_path):
    """A project with one preset and nothing else."""
    (tmp_path / "studies").mkdir()
    (tmp_path / "dvc.yaml").touch()
    (tmp_path / "params.yaml").write_text("studies: {}\ndrawn: {}\nmodels: {}\n")
    for name in ("mini", "mini_seed1"):
        shutil.copy(ROOT / f"studies/{name}.yaml", tmp_path / "studies")
    return tmp_path


def study_with(root, **changes):
    return OpenStudy(root, load_study(ROOT / "studies/mini.yaml").model_copy(update=changes))


def test_a_study_is_registered_from_any_folder(root, monkeypatch):
    register(root / "studies/mini.yaml", root)
    known = (root / "params.yaml").read_text()
    (root / "notebooks").mkdir()
    monkeypatch.chdir(root / "notebooks")
    assert registered("mini", root).name == "mini"
    register(root / "studies/mini.yaml", root)
    assert (root / "params.yaml").read_text() == known and "weights: nandlib/" in known


def test_another_training_is_not_in_step(root):
    preset = root / "studies/mini_seed1.yaml"
    register(preset, root)
    assert registered("mini_seed1", root).name == "mini_seed1"
    preset.write_text(preset.read_text().replace("seed: 1001", "seed: 7"))
    with pytest.raises(PresetError, match="out of step"):
        registered("mini_seed1", root)


def test_one_preset_that_cannot_be_read_hides_no_other(root):
    (root / "studies/broken.yaml").write_text("data: {root: x")
    assert [path.stem for path in presets(root)] == ["broken", "mini", "mini_seed1"]
    found = examine(root)["studies"]
    assert "broken.yaml" in found["broken"]["problem"] and "problem" not in found["mini"]


@pytest.mark.parametrize("text", ["<<<<<<< HEAD\nstudies: {}\n=======\n", None], ids=["merge", "missing"])
def test_a_registry_that_cannot_be_read(root, text):
    (root / "params.yaml").unlink()
    if text:
        (root / "params.yaml").write_text(text)
    with pytest.raises(PresetError, match=r"params.yaml holds no registry of studies: bring it back \('git checkout params.yaml'\)"):
        read_registry(root)


def test_committed_tables_are_not_taken_for_a_run(root):
    shutil.copytree(ROOT / "figures/mini", root / "figures/mini", ignore=shutil.ignore_patterns("*.png", "*.ipynb", "*.parquet"))
    study = open_study("mini", root)
    study.data.mkdir(parents=True)
    (study.data / "manifest.csv").write_text("class\n")
    with pytest.raises(DataError, match="'mini' has not been run here, or not to its end .*run 'nand study run mini' first"):
        verify(study)
    shutil.copy(ROOT / "figures/mini/scores.parquet", study.data)
    assert has_been_run(study)
    tables = study.figures / "deltas.csv"
    tables.write_text(tables.read_text().replace("aprilgan", "winclip_5"))
    assert not has_been_run(study)


def test_a_device_that_is_not_there(root):
    model = load_study(ROOT / "studies/mini.yaml").model.model_copy(update={"device": "gpu"})
    with pytest.raises(PresetError, match="studies/mini.yaml: model.device: gpu cannot be used here"):
        placement(study_with(root, model=model))


def test_only_classes_of_the_study_have_types(root):
    data = load_study(ROOT / "studies/mini.yaml").data
    some = study_with(
        root, data=data.model_copy(update={"classes": ("carpet", "tile"), "exclude_classes": ("tile",), "exclude_types": ("cut",)})
    )
    assert list(some.types()) == ["carpet"] and "cut" not in some.types()["carpet"] and "thread" in some.types()["carpet"]


def test_a_contest_takes_a_detector_of_the_study(root):
    with pytest.raises(PresetError, match="studies/mini.yaml: detectors: the contest of examples takes patchcore, which is not among them"):
        contest(study_with(root, detectors=("aprilgan",)), "carpet")


def test_what_is_made_on_demand_is_named_so(root):
    with pytest.raises(DataError, match=re.escape("run 'nand repro studies/on_demand/dvc.yaml:kshot@mini' (stage 'kshot') first")):
        study_with(root).kshot("summary")


def test_seeds_of_a_study_that_no_file_names(root):
    figures = root / "figures/mini/plus"
    figures.mkdir(parents=True)
    (figures / "seed_origins.csv").touch()
    (root / "studies/own.yaml").write_text((ROOT / "studies/mini.yaml").read_text().replace("name: mini\n", "name: own\n", 1))
    (root / "figures/mini").rename(root / "figures/own")
    assert not any("seed" in name for name in derived(study_with(root, name="own")))


def test_recorded_answers_that_cannot_be_read(root):
    (root / "own.answers.json").write_text('[{"request": "a"')
    with pytest.raises(DataError, match=r"own.answers.json cannot be read .*: mend it, or move it away"):
        generate({"a": ["b"]}, root / "own.yaml", progress=False)


def test_how_long_fitting_took_is_known_of_whole_fits_alone(root):
    study = study_with(root)
    study.data.mkdir(parents=True)
    path = study.data / "fitting.json"
    path.write_text(json.dumps({name: {"train_s": 9.0, "peak_gb": 1.0} for name in ("uniad", "onenip", "pbas", "pradot")}))
    work = SimpleNamespace(study=study, seconds={"uniad": [2.0], "onenip": [3.0], "pbas": [1.0]}, resumed={"onenip"}, forget=lambda: None)
    object.__setattr__(study, "classes", lambda: ["a", "b"])
    Maps.finish(work)
    assert {name: own["train_s"] for name, own in json.loads(path.read_text()).items()} == {"uniad": 2.0, "pradot": 9.0}


def test_a_preset_elsewhere_does_not_take_a_studys_place(root, monkeypatch):
    register(root / "studies/mini.yaml", root)
    (root / "other").mkdir()
    shutil.copy(root / "studies/mini.yaml", root / "other")
    with pytest.raises(PresetError, match="would take the place of a study's of that name"):
        registered(str(root / "other/mini.yaml"), root)
    monkeypatch.chdir(root)
    for given in ("studies/mini.yaml", str(root / "studies/mini.yaml")):
        assert registered(given, root).name == "mini"


def test_a_preset_is_given_by_its_name_or_path(root, monkeypatch):
    (root / "notebooks").mkdir()
    monkeypatch.chdir(root / "notebooks")
    for given in ("mini", "mini.yaml", "studies/mini.yaml", "../studies/mini.yaml"):
        assert CliRunner().invoke(app, ["use", given]).stdout == "mini\n"
    assert open_study("mini.yaml", root).name == open_study("studies/mini.yaml", root).name == "mini"
    with pytest.raises(PresetError, match="elsewhere/mini.yaml does not exist"):  # not another one of that name
        open_study("elsewhere/mini.yaml", root)
    found = CliRunner().invoke(app, ["use", "mani"])
    assert "studies/mani.yaml does not exist: did you mean 'mini.yaml'? Valid:" in str(found.exception)


def test_an_invalid_preset_stops_no_other_study(root, monkeypatch):
    """Neither of images nor of another kind."""
    register(root / "studies/mini.yaml", root)
    registry = (root / "params.yaml").read_text().replace("fetched: {}", "fetched: {patchcore.backbone_weights: abc}", 1)
    (root / "params.yaml").write_text(registry)
    preset = root / "studies/mini.yaml"
    preset.write_text(preset.read_text().replace("title:", "tittle:"))
    assert renew(root) == []
    (root / "studies/kinds").mkdir()
    (root / "studies/kinds/mine.yaml").write_text((ROOT / "studies/kinds/parts.yaml").read_text())
    shutil.copy(ROOT / "studies/kinds/heartbeat.yaml", root / "studies/kinds")
    monkeypatch.chdir(root)
    rows = {row["name"]: row for row in json.loads(CliRunner().invoke(app, ["study", "list", "--json"]).stdout)}
    assert rows["mini"]["state"] == rows["mine"]["state"] == "invalid" and rows["heartbeat"]["state"] == "nand signals heartbeat"
    for command, message in (
        (["doctor", "heartbeat"], "is a study of signals: 'nand signals heartbeat' runs it"),
        (["notebook", "fig1", "heartbeat"], "'fig1' is no notebook of 'heartbeat': 'nand notebook heartbeat heartbeat'"),
        (["notebook", "surface", "mini"], "'surface' is the notebook of studies of surfaces, and 'mini' is none"),
        (["study", "compare", "mini_seed1", "heartbeat"], "'heartbeat' is a study of signals: give one of images"),
        (["study", "verify", "heartbeat"], "'heartbeat' is a study of signals: give one of images"),
        (["study", "compare", "mini_seed1", "mini_seed1"], "'mini_seed1' twice: name two studies"),
    ):
        assert message in str(CliRunner().invoke(app, command).exception)


def test_doctor_says_what_would_stop_a_study(root):
    for old, new, message in (
        ("prompts: {file: mvtec_ad}", "prompts: {file: mvtec}", "no prompts file 'mvtec' in the package: did you mean 'mvtec_ad'"),
        ("model: {name: mini}", "model: {name: mini, device: meteor}", "model.device 'meteor' cannot be used here"),
    ):
        preset = root / "studies/mini_seed1.yaml"
        shutil.copy(ROOT / "studies/mini_detectors.yaml", preset)
        text = preset.read_text().replace("name: mini_detectors", "name: mini_seed1")
        assert old in text
        preset.write_text(text.replace(old, new))
        assert message in examine(root)["studies"]["mini_seed1"]["problem"]


def test_what_a_notebook_lacks_leaves_what_was_there(root):
    (root / "notebooks").symlink_to(ROOT / "notebooks")
    register(root / "studies/mini.yaml", root)
    study = open_study("mini", root)
    (study.figures / "notebooks").mkdir(parents=True)
    (study.figures / "notebooks/01_fig1_problem.ipynb").write_text("before")
    with pytest.raises(DataError, match=r"01_fig1_problem.ipynb for 'mini': .*manifest.csv is missing"):
        execute("fig1", study)
    assert [(path.name, path.read_text()) for path in (study.figures / "notebooks").iterdir()] == [("01_fig1_problem.ipynb", "before")]
    with pytest.raises(PresetError, match="lesson.ipynb is there to be read and tried, and belongs to no study: 'make lab' opens it"):
        execute("lesson", study)


def test_damaged_results_are_named(root):
    study = study_with(root)
    study.data.mkdir(parents=True)
    (study.data / "scores.parquet").write_bytes(b"PAR1 cut off")
    with pytest.raises(DataError, match="scores.parquet is damaged .*: remove it, and run the study again"):
        _ = study.scores
    assert not has_been_run(study)
    study.figures.mkdir(parents=True)
    (study.figures / "detectors.csv").write_text("<<<<<<< HEAD\ndetector,delta\n")
    with pytest.raises(DataError, match=r"detectors.csv is damaged .*: bring it back \('git checkout"):
        _ = study.detectors
    with pytest.raises(DataError, match=r"manifest.csv is missing: run 'nand study run mini' \(stage 'manifest'\) first"):
        _ = study.manifest


def test_what_lies_behind_a_link_stays(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/kept.txt").touch()
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps/link").symlink_to(tmp_path / "elsewhere")
    keep_only(tmp_path / "maps", [])
    assert not list((tmp_path / "maps").iterdir()) and (tmp_path / "elsewhere/kept.txt").is_file()


def test_images_of_an_earlier_preset_are_removed(root):
    for count in (2, 1):
        drawn = DrawnConfig(n_train=1, n_good=1, n_defect=count, size=64, classes=("wood",))
        study = study_with(root, data=DataConfig(root="data/mini/images", drawn=drawn))
        draw_images(study, progress=False)
        assert len(list((study.images / "wood/test/hole").iterdir())) == count


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ("data: {root: x, classes: []}", "data.classes"),
        ("nand: {temperature: .inf}", "nand.temperature"),
        ("trained: {pbas: {width: 0}}", "trained.pbas.width"),
        ("trained: {uniad: {layers: [0, 0]}}", "trained.uniad.layers"),
        ("trained: {fader_style: {widths: [0, 8]}}", "trained.fader_style.widths"),
    ],
)
def test_settings_that_cannot_be(root, changed, message):
    lines = (root / "studies/mini.yaml").read_text().splitlines()
    key = changed.split(":")[0]
    start = next(k for k, line in enumerate(lines) if line.startswith(f"{key}:"))
    end = next((k for k in range(start + 1, len(lines)) if not lines[k].startswith(" ")), len(lines))
    (root / "studies/mini.yaml").write_text("\n".join([*lines[:start], changed, *lines[end:]]) + "\n")
    with pytest.raises(PresetError, match=message):
        open_study("mini", root)


def test_a_catalogue_that_draws_no_such(root):
    manifest = pd.DataFrame({"class": ["wood"], "split": "test", "group": "x", "type": "dust", "image": "a"})
    study = study_with(root, data=DataConfig(root="x", catalogue="mvtec_ad"))
    object.__setattr__(study, "manifest", manifest)
    with pytest.raises(PresetError, match="data.catalogue: no 'dust' of a 'wood' is drawn by 'mvtec_ad'"):
        type_origins(study)


def test_a_layer_that_the_model_lacks_is_said_before_images_pass(root):
    study = study_with(root, nand=NandConfig(layers=(9,)))
    with pytest.raises(PresetError, match="nand.layers: the model has the layers 0 to 3, not 9"):
        _ = Similarities(study)._model


def test_files_of_others_are_not_written_over(root, dataset):
    image = next(dataset().rglob("*.png"))
    before = image.read_bytes()
    found = CliRunner().invoke(app, ["explain", str(image), "-o", str(image), "-t", "hair"])
    assert "is one of the images that are read" in str(found.exception) and image.read_bytes() == before
    preset = root / "studies/mini.yaml"
    with pytest.raises(DataError, match="mini.yaml is there, and no file of such phrases"):
        generate({"a": ["b"]}, preset, progress=False)
    found = CliRunner().invoke(app, ["data", "check", str(root), "--sheet", str(root / "x.png")])
    assert "the page is an .html file" in str(found.exception)


def test_phrases_that_were_changed_stay(root):
    request = REQUEST.format(type="b", noun="a")
    answers = [{"request": request, "model": "m", "answer": "\n".join(f"phrase {word}" for word in "abcdef")}]
    (root / "own.answers.json").write_text(json.dumps(answers))
    for _ in range(2):
        found = generate({"a": ["b"]}, root / "own.yaml", progress=False)
    (root / "own.yaml").write_text((root / "own.yaml").read_text().replace("phrase a", "a better phrase"))
    with pytest.raises(DataError, match="the phrases of a/b are not those of the answer"):
        generate({"a": ["b"]}, root / "own.yaml", progress=False)
    assert "a better phrase" in (root / "own.yaml").read_text() and len(found["a"]["b"]) == 6


def test_a_notebook_that_lacks_its_tables_says_which(root, monkeypatch):
    def fails(*_, **__):
        raise papermill.PapermillExecutionError(0, 1, "", "FileNotFoundError", "edge.csv is not there", [])

    monkeypatch.setattr(papermill, "execute_notebook", fails)
    shutil.copytree(ROOT / "notebooks", root / "notebooks")
    with pytest.raises(DataError, match="17_edge_device.ipynb for 'mini': edge.csv is not there"):
        execute("edge", study_with(root))


def test_a_stage_that_says_much_is_measured(tmp_path):
    seconds, _ = _measured(["python", "-c", "import sys; sys.stderr.write('x' * 200_000)"], tmp_path, "loud")
    assert 0 < seconds < 60
    with pytest.raises(DataError, match="(?s)stage 'loud' failed: .*RuntimeError: so it is"):
        _measured(["python", "-c", "raise RuntimeError('so it is')"], tmp_path, "loud")


def test_benchmarks_one_at_a_time():
    found = CliRunner().invoke(app, ["benchmark", "mini", "--edge", "--apply"])
    assert isinstance(found.exception, DataError) and "one benchmark at a time" in str(found.exception)
    found = CliRunner().invoke(app, ["benchmark", "mini", "--edge", "--images", "7"])
    assert isinstance(found.exception, DataError) and "--images and --repeats are those of" in str(found.exception)


def test_what_stands_on_a_page_is_watched():
    """A study's title, and whether its weights are random."""
    stages = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"] | YAML(typ="safe").load(ROOT / "studies/on_demand/dvc.yaml")["stages"]
    watched = {
        name: {key for own in stages[name]["do"]["params"] for keys in own.values() for key in keys}
        for name in ("table1", "kshot_notebook")
    }
    assert {"model", "detectors", "winclip", "patchcore", "trained"} <= watched["table1"] and "title" in watched["kshot_notebook"]


def test_a_contest_of_few_images_is_refused_for_every_detector(root):
    study = study_with(root)
    object.__setattr__(study, "manifest", pd.DataFrame({"class": ["wood"], "split": "test", "group": "x", "type": "dust", "image": "a"}))
    with pytest.raises(DataError, match="the largest group of mini has 1 images: the contest needs 5 or more"):
        every_detector(study, progress=False)


def test_stages_that_are_given_what_they_cannot_use(tmp_path):
    (tmp_path / "patches.safetensors").write_bytes(b"no patches at all")
    found = CliRunner().invoke(app, ["heads", str(tmp_path / "patches.safetensors"), str(tmp_path / "heads.safetensors")])
    assert isinstance(found.exception, DataError) and "holds no patches" in str(found.exception)
    assert CliRunner().invoke(app, ["patches", str(tmp_path / "x"), "--seed", "-1"]).exit_code == 2


def test_a_file_that_is_not_there_is_named(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["nand", "heads", "no.safetensors", "out.safetensors"])
    with pytest.raises(SystemExit):
        main()
    assert "no.safetensors is not there: give another path" in capsys.readouterr().err
