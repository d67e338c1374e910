"""The house: floors that are checked, dependencies that are derived, extras that are named, and an import that stays light."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import matplotlib as mpl
import pytest
import seaborn as sns
from importlinter.cli import lint_imports
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from nandlib import PUBLIC
from nandlib.extras import EXTRAS, advice
from nandlib.settings import RESOURCES, read_yaml
from nandlib.show.style import use_style
from nandlib.study.dependencies import FILES_OF, PIPELINES, code_dependencies, derive, entry_modules
from nandlib.study.fingerprint import import_closure, module_path

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_the_order_of_floors_holds(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert lint_imports(no_cache=True) == 0, capsys.readouterr().out


def test_a_lower_floor_that_imports_a_higher_one_is_seen(tmp_path):
    shutil.copytree(ROOT / "nandlib", tmp_path / "nandlib", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    operators = tmp_path / "nandlib/method/operators.py"
    operators.write_text(operators.read_text() + "\n\ndef _late():\n    import nandlib.show.charts\n")
    words = [sys.executable, "-c", "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True))"]
    found = subprocess.run(words, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False)
    assert found.returncode == 1 and "nandlib.method.operators -> nandlib.show.charts" in found.stdout


def test_every_module_says_its_one_idea():
    for path in (ROOT / "nandlib").rglob("*.py"):
        assert path.read_text().lstrip().startswith('"""'), path
        assert len(path.read_text().splitlines()) <= 350, path


# --- dependencies of stages ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pipeline", PIPELINES, ids=str)
def test_code_dependencies_of_stages_are_those_of_their_imports(pipeline):
    written = read_yaml(ROOT / pipeline)["stages"]
    derived = derive(ROOT / pipeline, ROOT / "notebooks")["stages"]
    for name, stage in written.items():
        own, expected = (one.get("do", one)["deps"] for one in (stage, derived[name]))
        assert list(own) == list(expected), f"{name}: run 'nand dependencies'"


def test_a_forgotten_dependency_is_noticed(tmp_path):
    text = (ROOT / "dvc.yaml").read_text()
    lines = [k for k, line in enumerate(text.splitlines()) if line.strip() == "- nandlib/method/plus.py"]
    assert len(lines) > 5
    for k in (lines[0], lines[-1]):
        path = tmp_path / "dvc.yaml"
        path.write_text("\n".join(line for n, line in enumerate(text.splitlines()) if n != k))
        written, derived = read_yaml(path)["stages"], derive(path, ROOT / "notebooks")["stages"]
        own, expected = ({name: list(one.get("do", one)["deps"]) for name, one in stages.items()} for stages in (written, derived))
        assert own != expected


def test_stages_start_at_what_their_commands_import():
    assert "nandlib.stages.maps" in entry_modules("${nand} maps ${key}", ROOT / "notebooks")
    table2 = code_dependencies("${nand} notebook table2 ${key}", ROOT / "notebooks")
    assert {"nandlib/show/charts.py", "nandlib/evaluation/paper.py", "nandlib/study/open_study.py"} <= set(table2)
    assert not {"nandlib/models/mini.py", "nandlib/show/pictures.py", "nandlib/detectors/patchcore.py"} & set(table2)
    maps = code_dependencies("${nand} maps ${key}", ROOT / "notebooks")
    assert "nandlib/models/mini.py" in maps and not any(path.startswith("nandlib/show") for path in maps)
    assert "nandlib.models.mini" in import_closure("nandlib.detectors.aprilgan")  # a late import counts


def test_package_files_are_declared_by_those_who_read_them():
    declared = {name for names in FILES_OF.values() for name in names}
    for module, names in FILES_OF.items():
        code = module_path(module).read_text()
        for name in names:
            assert (RESOURCES / name).exists(), name
            assert Path(name).stem in code or Path(name).name in code, (module, name)
    shipped = {path.relative_to(RESOURCES).as_posix() for path in RESOURCES.rglob("*") if path.is_file()}
    by_preset = {name for name in shipped if name.startswith(("prompts/", "groups/", "models/"))}  # watched by name, params.yaml
    assert all(any(name == d or name.startswith(f"{d}/") for d in declared) for name in shipped - by_preset)


# --- imports and extras --------------------------------------------------------------------------------------------------


def test_extras_are_those_of_pyproject():
    extras, providers = PROJECT["project"]["optional-dependencies"], packages_distributions()
    for extra, names in EXTRAS.items():
        distributions = {canonicalize_name(d) for name in names for d in providers[name]}
        assert distributions >= {canonicalize_name(Requirement(r).name) for r in extras[extra]} - {"ipython"}
    assert advice(ModuleNotFoundError("x", name="papermill.engines")).endswith('pip install "nandlib[study]"')
    assert advice(ModuleNotFoundError("x", name="nandlib.nothing")) is None


def loaded_by(code: str) -> set[str]:
    words = f"import json, sys\n{code}\nprint(json.dumps(list(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True)
    return set(json.loads(found.stdout.splitlines()[-1]))


def test_help_and_tables_need_no_network_library():
    assert not {"torch", "pandas", "matplotlib", "numpy"} & loaded_by("import nandlib.cli")
    assert not {"torch", "anomalib"} & loaded_by("from nandlib import open_study\nimport nandlib.show.charts, nandlib.evaluation.paper")


def test_public_names_are_found():
    import nandlib

    for name in PUBLIC:
        assert getattr(nandlib, name).__module__.startswith("nandlib.")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        nandlib.nothing  # noqa: B018


def test_the_style_is_seaborns():
    with mpl.rc_context():
        mpl.rcdefaults()
        sns.set_theme(style="white", context="notebook", palette="colorblind", font_scale=0.8)
        expected = dict(mpl.rcParams)
        mpl.rcdefaults()
        use_style()
        own = {"axes.titlesize", "figure.constrained_layout.use", "savefig.bbox", "savefig.dpi", "image.cmap", "axes.prop_cycle"}
        ours = dict(mpl.rcParams)
        for key in set(expected) - own:
            assert ours[key] == (pytest.approx(expected[key]) if isinstance(expected[key], float) else expected[key]), key
        colours = [mpl.colors.to_hex(c["color"]) for c in expected["axes.prop_cycle"]]
        assert [c["color"].lower() for c in ours["axes.prop_cycle"]] == colours


def test_executed_stages_name_the_command_without_an_activated_environment():
    for pipeline in PIPELINES:
        text = (ROOT / pipeline).read_text()
        assert 'PATH="$PATH:.venv/bin" nand' in text and not re.search(r"cmd: nand ", text)


def test_the_floors_of_contributing_are_those_of_the_contract():
    (layers,) = (own["layers"] for own in PROJECT["tool"]["importlinter"]["contracts"] if own["type"] == "layers")
    floors = {room.strip(): str(number) for number, row in enumerate(reversed(layers), start=1) for room in row.split("|")}
    rows = re.findall(r"^\| (\d+(?: to \d+)?) \| (.+?) \| (.+) \|$", (ROOT / "CONTRIBUTING.md").read_text(), flags=re.MULTILINE)
    told = {name: number for number, rooms, _ in rows for name in re.findall(r"`(\w+)/`", rooms)}
    (corridor,) = (named for number, rooms, named in rows if rooms == "corridor" and number == "1 to 3")
    told |= {name: floors[name] for name in re.findall(r"`(\w+)`", corridor)}
    assert told == {room: number for room, number in floors.items() if room != "__main__"}
