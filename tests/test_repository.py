"""What keeps the repository in step with itself."""

import re
import subprocess
import sys
import tomllib
import warnings
from importlib import import_module
from pathlib import Path

import nbformat
import numpy as np
import pdoc
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from typer.testing import CliRunner

import nandlib
from nandlib.cli import app
from nandlib.errors import DataError, PresetError
from nandlib.evaluation.selection import START, best_candidate, chosen_values
from nandlib.method.config import PlusConfig
from nandlib.settings import read_yaml
from nandlib.show.notebooks import check_parameters, notebook_of
from nandlib.show.pages import PAGES as PAGES_WITH_TABLES
from nandlib.show.pages import TABLES, stale_tables, write_tables
from nandlib.show.reference import WITH_PUBLIC_NAMES, write_reference
from nandlib.study.dependencies import PIPELINES
from nandlib.study.frames import read_table
from nandlib.study.preset import load_study
from nandlib.study.registry import read_registry, register, registered

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = [r for extra in PROJECT["optional-dependencies"].values() for r in extra if not r.startswith(PROJECT["name"])]
REQUIREMENTS = [Requirement(r) for r in PROJECT["dependencies"] + EXTRAS]


def constraints():
    lines = (ROOT / "constraints.txt").read_text().split()
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!_-]+", line) for line in lines)
    return {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}


def test_constraints_pin_every_dependency_inside_its_range():
    pinned = constraints()
    for requirement in REQUIREMENTS:
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), requirement


def test_environment_yml_lists_what_pyproject_lists():
    environment = read_yaml(ROOT / "environment.yml")
    python, pip = environment["dependencies"][0], environment["dependencies"][-1]["pip"]
    assert Requirement(f"python{PROJECT['requires-python']}").specifier.contains(python.split("=")[1] + ".0")
    names = {canonicalize_name(Requirement(line).name) for line in pip if not line.startswith("--")}
    assert names == {canonicalize_name(r.name) for r in REQUIREMENTS}
    assert "--constraint constraints.txt" in pip


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebooks_are_clean_and_thin(path):
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    assert [c.source.split(" ")[0] for c in code if "parameters" in c.metadata.get("tags", [])] == ["study"]
    assert notebook.cells[0].cell_type == "markdown"
    assert notebook.cells[0].source.split("\n")[0].endswith("?")
    own = r"sys\.path" if path.stem.startswith("lesson") else r"^\s*def |sys\.path"  # pupils write functions
    assert not any(re.search(own, cell.source, re.M) for cell in code)


def test_unknown_notebook_parameter_is_refused():
    with pytest.raises(PresetError, match=r"01_fig1_problem.ipynb: unknown parameter 'stduy': did you mean 'study'\?"):
        check_parameters(NOTEBOOKS[0], {"stduy": "mini"})
    with pytest.raises(PresetError, match=r"no notebook for 'tabel2' .*did you mean 'table2'\?"):
        notebook_of("tabel2", ROOT / "notebooks")


def test_the_pipeline_names_files_that_are_there():
    stages = {name: stage for path in PIPELINES for name, stage in read_yaml(ROOT / path)["stages"].items()}
    for name, stage in stages.items():
        for path in stage.get("do", stage)["deps"]:
            if "${" not in path and not path.startswith(("data", "figures")):
                assert (ROOT / path).exists(), (name, path)
        for params in stage.get("do", stage).get("params", []):
            ((path, sections),) = params.items() if isinstance(params, dict) else (("params.yaml", []),)
            preset = ROOT / ("studies/mini.yaml" if "${" in path else path)
            for section in sections if path != "params.yaml" else ():
                assert section.split(".")[0] in read_yaml(preset), (name, section)


def test_registry_follows_the_preset(tmp_path):
    (tmp_path / "studies").mkdir()
    (tmp_path / "dvc.yaml").touch()
    (tmp_path / "params.yaml").write_text("studies: {}\ndrawn: {}\nmodels: {a: {seed: 1}, mini: {seed: 2}}\n")
    text = (ROOT / "studies/mini.yaml").read_text()
    (tmp_path / "studies/mini.yaml").write_text(text)
    with pytest.raises(PresetError, match="out of step with studies/mini.yaml: run 'nand use studies/mini.yaml' first"):
        registered("mini", tmp_path)
    assert register(tmp_path / "studies/mini.yaml", tmp_path) == "mini"
    assert registered("mini", tmp_path).name == "mini"
    first = (tmp_path / "params.yaml").read_text()
    register(tmp_path / "studies/mini.yaml", tmp_path)
    assert (tmp_path / "params.yaml").read_text() == first
    assert read_registry(tmp_path)["models"] == {"a": {"seed": 1}, "mini": {"seed": 2}}
    (tmp_path / "studies/mini.yaml").write_text(text.replace("root: data/mini/images", "root: elsewhere"))
    with pytest.raises(PresetError, match="out of step"):
        registered("mini", tmp_path)
    with pytest.raises(PresetError, match="data.root must be 'data/mini/images'"):
        register(tmp_path / "studies/mini.yaml", tmp_path)
    undrawn = text.replace("  drawn: {seed: 0, size: 256, n_train: 16, n_good: 16, n_defect: 8}\n", "")
    (tmp_path / "studies/mini.yaml").write_text(undrawn)
    with pytest.raises(DataError, match="names 1 file.*\n  data.root: data/mini/images"):
        register(tmp_path / "studies/mini.yaml", tmp_path)
    (tmp_path / "data/mini/images").mkdir(parents=True)
    (tmp_path / "studies/mini.yaml").write_text(
        undrawn.replace("{name: mini}", "{name: mini, weights: data/models/none/heads.safetensors}")
    )
    with pytest.raises(DataError, match="model.weights: data/models/none/heads.safetensors\n      put it there"):
        register(tmp_path / "studies/mini.yaml", tmp_path)
    (tmp_path / "studies/mini.yaml").write_text(undrawn)
    register(tmp_path / "studies/mini.yaml", tmp_path)
    assert read_registry(tmp_path)["drawn"] == {}
    (tmp_path / "studies/mini.yaml").write_text(text)
    (tmp_path / "mini.yaml").write_text(text)
    with pytest.raises(PresetError, match="must lie in"):
        register(tmp_path / "mini.yaml", tmp_path)


def test_a_study_may_train_a_model_of_its_own(tmp_path):
    (tmp_path / "studies").mkdir()
    (tmp_path / "params.yaml").write_text("studies: {}\ndrawn: {}\nmodels: {mini: {seed: 2}}\n")
    preset = tmp_path / "studies/mini_seed1.yaml"
    text = (ROOT / "studies/mini_seed1.yaml").read_text()
    preset.write_text(text)
    for _ in range(2):
        register(preset, tmp_path)
        assert read_registry(tmp_path)["models"] == {
            "mini": {"seed": 2},
            "seed1": {"seed": 1001, "n_images": 6000, "steps": 1000, "drawing": "shared"},
        }
    preset.write_text(text.replace("seed: 1001", "seed: 7"))
    register(preset, tmp_path)
    assert read_registry(tmp_path)["models"]["seed1"]["seed"] == 7
    twin = tmp_path / "studies/twin.yaml"
    twin.write_text(text.replace("mini_seed1", "twin"))
    with pytest.raises(PresetError, match="data/models/seed1 is trained otherwise for mini_seed1: give model.weights another folder"):
        register(twin, tmp_path)
    preset.write_text(text.replace("data/models/seed1/heads", "data/models/seed1/other"))
    with pytest.raises(PresetError, match="model.training needs name: mini and weights: data/models/<name>/heads.safetensors"):
        register(preset, tmp_path)


def test_the_seeds_differ_from_the_embedded_study_in_seeds_alone():
    own = load_study(ROOT / "studies/mini.yaml").model_dump()
    for k in (1, 2):
        other = load_study(ROOT / f"studies/mini_seed{k}.yaml").model_dump()
        differing = {f"{a}.{b}" for a in own if isinstance(own[a], dict) for b in own[a] if own[a][b] != other[a][b]}
        assert differing == {"data.root", "data.drawn", "model.weights", "model.training", "winclip.seed", "patchcore.seed"}
        assert own["data"]["drawn"] | {"seed": k} == other["data"]["drawn"]


def test_the_registered_studies_are_in_step():
    for name in read_registry(ROOT)["studies"]:
        registered(name, ROOT)


def test_the_reference_is_built(tmp_path, monkeypatch):
    import_module("nandlib.integrations.anomalib")  # other libraries warn when they are first imported, in whichever test that is
    public = list(nandlib.__all__)
    packages = {path.parent for path in (ROOT / "nandlib").rglob("__init__.py") if "\n__all__ = " in path.read_text()}
    assert {path.relative_to(ROOT).as_posix().replace("/", ".") for path in packages} == set(WITH_PUBLIC_NAMES)
    for name in WITH_PUBLIC_NAMES:
        monkeypatch.setattr(import_module(name), "__all__", import_module(name).__all__)  # and restored
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_reference(tmp_path, "nandlib.method.operators", "nandlib.method.adapt", "nandlib.integrations", "nandlib.cli")
    text = (tmp_path / "nandlib/integrations/sklearn.html").read_text()
    assert "NormalityDetector" in text and "contamination" in text and (tmp_path / "search.js").is_file()
    shown = pdoc.doc.Module(nandlib)
    assert {*public, "method", "models"} <= {*shown.members, *(own.name for own in shown.submodules)}
    assert all(shown.members[name].docstring for name in public)


def test_no_machine_paths_are_tracked():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    machine = re.compile(re.escape(str(ROOT.parent)) + "/" + "|" + re.escape(str(Path.home())) + "/")
    for name in tracked.stdout.split():
        path = ROOT / name
        if path.is_file() and path.suffix not in (".png",):
            assert not machine.search(path.read_text(encoding="utf-8", errors="ignore")), name


def test_every_table_of_the_pages_is_what_the_csv_files_give():
    assert {name for page in PAGES_WITH_TABLES for name in re.findall(r"<!-- table: (\w+) -->", (ROOT / page).read_text())} == set(TABLES)
    assert stale_tables(ROOT) == []


def test_a_wrong_number_on_a_page_is_noticed(tmp_path, monkeypatch):
    for page in PAGES_WITH_TABLES:
        (tmp_path / page).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / page).write_text((ROOT / page).read_text())
    (tmp_path / "figures").symlink_to(ROOT / "figures")
    text = (tmp_path / "README.md").read_text()
    at = text.index("→", text.index("<!-- table: results -->")) - 2
    (tmp_path / "README.md").write_text(text[:at] + str((int(text[at]) + 1) % 10) + text[at + 1 :])
    assert stale_tables(tmp_path) == [("README.md", "results")]
    (tmp_path / "studies").mkdir()
    (tmp_path / "dvc.yaml").touch()
    monkeypatch.chdir(tmp_path)
    said = CliRunner().invoke(app, ["numbers"])
    assert said.exit_code == 1 and "README.md: table 'results' is not what the csv files give" in said.output
    write_tables(tmp_path)
    assert (tmp_path / "README.md").read_text() == text
    assert CliRunner().invoke(app, ["numbers"]).exit_code == 0


def test_numbers_are_made_again_from_csv_files_alone():
    """In a process that never loads torch."""
    code = "import sys; from nandlib.cli import main\ntry: main()\nfinally: print('torch' in sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code, "numbers"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr.split()[-1] == "False"
    assert done.stdout.count("deltas.csv") >= 2 and "mini\n" in done.stdout


def test_nand_plus_has_the_values_that_its_selection_gives():
    table = read_table(ROOT / "figures/validation/plus/selection.csv")
    assert chosen_values(table) == {name: getattr(PlusConfig(), name) for name in (*START, "known_prior")}
    assert [best_candidate(part) for _, part in table.groupby("round")] == [
        int(np.flatnonzero(part["chosen"].astype(str) == "True").item()) for _, part in table.groupby("round")
    ]
