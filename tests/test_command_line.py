"""`nand study …`, the help, and what scripts rely on: exit codes, JSON on stdout, messages on stderr."""

import json
import os
import re
import shutil
from functools import partial

import pandas as pd
import pytest
from tiny_project import run
from typer.testing import CliRunner

from nandlib.benchmarks.images import image_cost
from nandlib.benchmarks.texts import text_latency
from nandlib.cli import app
from nandlib.data.held import held
from nandlib.evaluation.verify import CHECKS, beside, verify
from nandlib.models.mini import ImageTower
from nandlib.study.compare import compare, differing_settings
from nandlib.study.open_study import open_study


@pytest.fixture(scope="module")
def twin(project):
    """A second study in the project: the tiny one, with one setting and one result changed."""
    preset = (project / "studies/tiny.yaml").read_text().replace("name: tiny", "name: twin").replace("map_size: 64", "map_size: 32")
    (project / "studies/twin.yaml").write_text(preset)
    shutil.copytree(project / "figures/tiny", project / "figures/twin", dirs_exist_ok=True)
    for name in ("detectors.csv", "deltas.csv"):
        table = pd.read_csv(project / "figures/twin" / name)
        table["auroc_after"] += 2.0
        table.to_csv(project / "figures/twin" / name, index=False)
    yield project
    shutil.rmtree(project / "figures/twin")
    (project / "studies/twin.yaml").unlink()


def test_compare_shows_both_and_the_difference(twin):
    a, b = open_study("tiny", twin), open_study("twin", twin)
    table = compare(a, b)
    assert sorted(table["detector"]) == sorted(a.detectors["detector"])
    assert table["auroc_after_difference"].tolist() == pytest.approx([2.0] * len(table))
    assert (table["auroc_before_difference"] == 0).all()
    assert (table["auroc_after_twin"] - table["auroc_after_tiny"]).tolist() == pytest.approx([2.0] * len(table))
    groups = compare(a, b, "groups")
    assert len(groups) == len(a.deltas) and groups["auroc_after_difference"].tolist() == pytest.approx([2.0] * len(groups))
    assert differing_settings(a, b) == {"nand.map_size": (64, 32)}
    assert differing_settings(a, a) == {}


def test_compare_and_list_from_the_shell(twin):
    said = json.loads(run(twin, "nand", "study", "compare", "tiny", "twin", "--json").stdout)
    assert said["settings"] == {"nand.map_size": [64, 32]}
    assert all(row["auroc_after_difference"] == pytest.approx(2) for row in said["rows"])
    text = run(twin, "nand", "study", "compare", "tiny", "twin", "--groups").stdout
    assert "auroc_after (percent; difference: B less A)" in text and "nand.map_size: 64 | 32" in text
    states = {row["name"]: row["state"] for row in json.loads(run(twin, "nand", "study", "list", "--json").stdout)}
    assert states == {"tiny": "has been run", "twin": "results came along"}
    missing = run(twin, "nand", "study", "compare", "tiny", "tine", check=False)
    assert missing.returncode == 1 and missing.stdout == "" and "did you mean" in missing.stderr


def test_verify_tells_what_differs(twin):
    tiny, other = open_study("tiny", twin), twin / "figures/twin"
    assert verify(tiny, twin / "figures/tiny")["agrees"].all()
    table = verify(tiny, other).set_index("file")
    assert table["values"].gt(0).all() and table.index.tolist() == list(CHECKS)
    assert not table.loc["detectors.csv", "agrees"] and table.loc["detectors.csv", "largest_difference"] == pytest.approx(2)
    assert table.loc["detectors.csv", "at"].endswith("auroc_after") and table.loc["deltas.csv", "agrees"]
    result = run(twin, "nand", "study", "verify", "tiny", "--against", str(other), check=False)
    assert result.returncode == 1 and re.search(r"DIFFERS\s+detectors.csv", result.stdout)
    assert run(twin, "nand", "study", "verify", "tiny", "--against", str(twin / "figures/tiny"), "--json").returncode == 0
    nothing = run(twin, "nand", "study", "verify", "tiny", check=False)
    assert nothing.returncode == 1 and "--against FOLDER" in nothing.stderr


def test_what_two_machines_give_stands_side_by_side(twin, tmp_path):
    tiny, other = open_study("tiny", twin), twin / "figures/twin"
    table = beside(tiny, other).set_index("detector")
    here, there = (pd.read_csv(folder / "detectors.csv").set_index("detector") for folder in (tiny.figures, other))
    for column in ("auroc_before", "delta"):
        assert table[f"{column}_difference"].to_numpy() == pytest.approx((here[column] - there[column]).to_numpy())
        assert table[f"{column}_expected"].equals(there[column].rename(f"{column}_expected"))
    assert table["delta_low_expected"].to_numpy() == pytest.approx(there["delta_low"].to_numpy())
    run(twin, "nand", "study", "verify", "tiny", "--against", str(other), "--beside", str(tmp_path / "b.csv"), check=False)
    assert list(pd.read_csv(tmp_path / "b.csv")["detector"]) == list(table.index)


def test_a_missing_number_differs(twin, tmp_path):
    shutil.copytree(twin / "figures/tiny", tmp_path / "expected")
    table = pd.read_csv(tmp_path / "expected/detectors.csv")
    table.loc[0, "auroc_after"] = None
    table.to_csv(tmp_path / "expected/detectors.csv", index=False)
    found = verify(open_study("tiny", twin), tmp_path / "expected").set_index("file")
    assert not found.loc["detectors.csv", "agrees"] and found.loc["deltas.csv", "agrees"]


def test_a_class_may_be_called_as_what_is_missing(twin):
    from nandlib.evaluation.verify import _read

    table = _read("class,group,delta\nNA,null,1.5\nnan,None,\n", ["class", "group"])
    assert table.index.tolist() == [("NA", "null"), ("nan", "None")] and table["delta"].isna().tolist() == [False, True]


def test_run_does_what_make_study_does(project):
    done = run(project, "nand", "study", "run", "tiny", "--target", "protocol")
    assert "figures/tiny" in done.stdout and "Running stage" not in done.stdout
    unknown = run(project, "nand", "study", "run", "tiny", "--target", "nothing", check=False)
    assert unknown.returncode == 1 and "nand: dvc repro nothing@tiny ended with code" in unknown.stderr


def test_latency_is_measured(project, monkeypatch):
    monkeypatch.chdir(project)
    monkeypatch.setattr("nandlib.benchmarks.texts.text_latency", partial(text_latency, n_texts=6))
    said = json.loads(CliRunner().invoke(app, ["benchmark", "tiny", "--texts"]).stdout)
    assert [row["method"] for row in said] == ["nand", "nand_plus"]
    assert all(0 < row["median_ms"] <= row["p95_ms"] <= row["worst_ms"] for row in said)
    shutil.rmtree(project / "figures/tiny/model")


def test_a_timed_pass_is_a_pass(project, monkeypatch):
    """The tower remembers its last answer: asked again for the same tensor it would do nothing."""
    passes, stages = [], ImageTower._stages
    monkeypatch.chdir(project)
    monkeypatch.setattr(ImageTower, "_stages", lambda self, batch: passes.append(len(batch)) or stages(self, batch))
    cost = image_cost(open_study("tiny", project), n_images=2, repeats=3)
    assert passes == [2] * (1 + 2 * 3) and cost["ratio"] > 0.5


def commands():
    runner = CliRunner()
    return [[], ["study"], *([name] for name in re.findall(r"│ ([a-z][a-z-]+)  ", runner.invoke(app, ["--help"]).stdout))]


@pytest.mark.parametrize(
    "words", [*commands(), ["study", "list"], ["study", "run"], ["study", "compare"], ["study", "verify"]], ids=" ".join
)
def test_every_command_explains_itself(words):
    shown = CliRunner().invoke(app, [*words, "--help"])
    assert shown.exit_code == 0 and len(shown.stdout) > 100 and "Usage:" in shown.stdout


def test_two_runs_of_studies_do_not_mix(project):
    """The second says which process is at work."""
    with held(project / ".dvc/tmp"):
        refused = run(project, "nand", "repro", "report@tiny", check=False)
    assert refused.returncode == 1 and f"process {os.getpid()} is at work there: wait until it has ended" in refused.stderr
