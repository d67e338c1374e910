"""The whole pipeline on a tiny study, through DVC, as a user runs it."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from PIL import Image
from tiny_project import run

from nandlib.evaluation.numbers import check_numbers
from nandlib.evaluation.protocol import DELTA_COLUMNS
from nandlib.evaluation.uncertainty import DETECTOR_COLUMNS, GROUP_COLUMNS, ORIGIN_COLUMNS
from nandlib.study.class_maps import ClassMaps
from nandlib.study.frames import read_scores
from nandlib.study.open_study import open_study

ROOT = Path(__file__).parents[1]
DETECTORS = ["aprilgan", "winclip_0", "winclip_1", "winclip_5", "patchcore"]


@pytest.fixture(scope="module")
def figures(project: Path) -> Path:
    return project / "figures/tiny"


def test_every_result_is_there(figures):
    names = {p.name for p in figures.iterdir() if p.is_file()}
    assert names == {
        *(f"fig{k}.png" for k in range(1, 6)), "delta_heatmap.png", "table1.csv", "table1.md", "table2.csv", "table2.md",
        "table3.csv", "table3.md", "paper_vs_ours.csv", "paper_vs_ours.png", "deltas.csv", "base_auroc.csv", "identity.csv",
        "detectors.csv", "origins.csv", "metrics.json", "report.html", "scores.parquet",
    }  # fmt: skip
    for path in figures.glob("*.png"):
        with Image.open(path) as image:
            assert min(image.size) > 150
            assert np.asarray(image.convert("L")).std() > 5


def test_tables_have_their_columns_rows_and_full_precision(figures):
    table1 = pd.read_csv(figures / "table1.csv")
    assert table1.columns.tolist() == ["class", "group", "type", "n_images", "origin"]
    assert len(table1) == 9
    deltas = pd.read_csv(figures / "deltas.csv", float_precision="round_trip")
    assert deltas.columns.tolist() == [*DELTA_COLUMNS, *GROUP_COLUMNS[3:], "origin"]
    assert list(dict.fromkeys(deltas["detector"])) == DETECTORS
    assert len(deltas) == 5 * 8
    assert (deltas["delta"] == deltas["auroc_after"] - deltas["auroc_before"]).all()
    table2 = pd.read_csv(figures / "table2.csv", float_precision="round_trip")
    assert table2.equals(deltas[deltas["detector"] == "aprilgan"].drop(columns="detector").reset_index(drop=True))
    table3 = pd.read_csv(figures / "table3.csv", float_precision="round_trip")
    means = ["detector", "auroc_before", "auroc_after", "delta", "n_improved", "n_groups", "auroc_others", "gap_closed"]
    assert table3.columns.tolist() == [*means, *DETECTOR_COLUMNS[1:], "delta_product_specific", "delta_shared_primitive"]
    origins = pd.read_csv(figures / "origins.csv")
    assert origins.columns.tolist() == ORIGIN_COLUMNS and origins.groupby("detector")["n_groups"].sum().unique().tolist() == [8]
    base = pd.read_csv(figures / "base_auroc.csv")
    assert base.columns.tolist() == ["detector", "class", "n_good", "n_anomalous", "auroc"]
    metrics = json.loads((figures / "metrics.json").read_text())
    assert metrics["identity_residual_max"] < 1e-12
    assert metrics["aprilgan"]["auroc_after"] == table3.set_index("detector").loc["aprilgan", "auroc_after"]


def test_ours_stand_beside_the_papers(figures):
    compared = pd.read_csv(figures / "paper_vs_ours.csv")
    assert compared["table"].tolist() == [2] * 8
    assert compared.set_index(["class", "group"]).loc[("carpet", "thread"), "paper_after"] == 83.5


def test_sensitivity_starts_from_the_studys_own_numbers(figures):
    table = pd.read_csv(figures / "sensitivity/sensitivity.csv")
    own, metrics = table[table["is_default"]], json.loads((figures / "metrics.json").read_text())["aprilgan"]
    for column in ("auroc_before", "auroc_after", "delta"):
        assert np.allclose(own[column], metrics[column], atol=1e-9)
    assert (own.groupby("choice").size() == 1).all()
    other = table[~table["is_default"]]
    assert len(set(other["choice"])) == 13
    assert (figures / "sensitivity/sensitivity.png").is_file()


def test_measures_start_from_the_studys_own_numbers(project, figures):
    controls = pd.read_csv(figures / "measure/controls.csv").set_index(["detector", "control"])
    table = pd.read_csv(figures / "detectors.csv").set_index("detector")
    names = ["its text", "another group's text", "empty text", "any defect", "another class's text", "shuffled words", "random vector"]
    for detector in ("aprilgan", "patchcore"):
        assert controls.loc[detector].index.tolist() == [*names, "mask oracle"]
        for column in ("auroc_before", "auroc_after", "delta", "gap_closed"):
            assert controls.loc[(detector, "its text"), column] == pytest.approx(table.loc[detector, column])
    assert controls["delta"].nunique() > 6


def test_the_ablation_starts_from_the_studys_own_numbers(figures):
    steps, table = pd.read_csv(figures / "plus/ablation.csv"), pd.read_csv(figures / "detectors.csv").set_index("detector")
    own = steps[steps["step"] == "nand (the paper's)"].set_index("detector")
    columns = ["auroc_before", "auroc_after", "delta", "gap_closed", "delta_low", "delta_high", "n_improved", "n_groups"]
    for detector in ("aprilgan", "patchcore"):
        assert np.allclose(own.loc[detector, columns].astype(float), table.loc[detector, columns].astype(float), atol=1e-9, equal_nan=True)
    after = steps.pivot(index="step", columns="detector", values="auroc_after")  # noqa: PD010
    assert (after.nunique() > 4).all()
    groups = pd.read_csv(figures / "plus/ablation_groups.csv")
    assert len(groups) == 2 * 8 * steps["step"].nunique()
    assert groups.groupby(["step", "detector"])["delta"].min().to_dict() == pytest.approx(
        steps.set_index(["step", "detector"])["worst"].to_dict()
    )


def test_the_toothbrush_is_left_out(project, figures):
    assert set(pd.read_csv(figures / "table1.csv")["class"]) == {"carpet", "metal_nut"}
    assert (project / "data/tiny/images/toothbrush").is_dir()


def test_numbers_of_the_study_follow_from_its_csv_files(project):
    """And one score that is changed is noticed in every table that is made of it."""
    study = open_study("tiny", project)
    table = check_numbers(study)
    assert table["agrees"].all(), table
    made = {"deltas.csv", "origins.csv", "detectors.csv", "base_auroc.csv", "identity.csv", "table2.csv", "table3.csv", "paper_vs_ours.csv"}
    made |= {f"plus/{name}.csv" for name in ("ablation", "ablation_groups", "origins")} | {"measure/controls.csv", "measure/failures.csv"}
    assert set(table["file"]) == made
    path = study.figures / "scores.parquet"
    kept = path.read_bytes()
    try:
        scores = read_scores(path)
        scores.loc[scores["detector"] == "aprilgan", "after"] *= -1
        study.write_scores(scores, "scores.parquet")
        wrong = check_numbers(study).set_index("file")["agrees"]
        assert not wrong[["deltas.csv", "origins.csv", "detectors.csv", "table2.csv", "table3.csv", "paper_vs_ours.csv"]].any()
        assert wrong[["base_auroc.csv", "plus/ablation.csv"]].all()
    finally:
        path.write_bytes(kept)


def test_scores_follow_from_the_stored_maps(project):
    study = open_study("tiny", project)
    maps = ClassMaps.of(study, "carpet")
    scores = study.scores.query("`class` == 'carpet' and added == 'thread'")
    for detector in ("aprilgan", "patchcore", "winclip_1"):
        base, sup = maps.base(detector).numpy(), maps.paper_suppression("+thread").numpy()
        part = scores[scores["detector"] == detector]
        assert part["image"].tolist() == study.rows("carpet")["image"].tolist()
        assert np.allclose(part["before"], base.reshape(len(base), -1).max(1), rtol=1e-6)
        assert np.allclose(part["after"], (base * (1 - sup)).reshape(len(base), -1).max(1), rtol=1e-6)


def test_a_second_run_does_nothing(project):
    output = run(project, "dvc", "repro").stdout
    assert "Running stage" not in output
    assert "up to date" in output


def test_recomputing_gives_the_same_bytes(project, figures):
    stored = [
        project / "data/tiny/scores.parquet",
        project / "data/tiny/similarities/carpet/test_000000.safetensors",
        project / "data/tiny/maps/patchcore/carpet/test_000000.safetensors",
    ]
    shown = [figures / "fig1.png", figures / "notebooks/01_fig1_problem.ipynb"]
    before = [path.read_bytes() for path in stored + shown]
    for path in stored + shown:
        path.unlink()
    run(project, "nand", "similarities", "tiny")
    run(project, "nand", "maps", "tiny")
    run(project, "nand", "scores", "tiny")
    run(project, "nand", "notebook", "fig1", "tiny")
    assert [path.read_bytes() for path in stored + shown] == before


def test_one_phrase_changes_one_class_only(project):
    prompts = project / "studies/prompts.yaml"
    untouched = project / "data/tiny/similarities/metal_nut/test_000000.safetensors"
    before = untouched.stat().st_mtime_ns, (project / "data/tiny/similarities/carpet/test_000000.safetensors").read_bytes()
    prompts.write_text(prompts.read_text().replace("loose thread on carpet", "loose yarn on carpet"))
    ran = re.findall(r"Running stage '(\w+)@tiny'", run(project, "dvc", "repro", "protocol@tiny").stdout)
    assert ran == ["manifest", "similarities", "scores", "protocol"]
    assert untouched.stat().st_mtime_ns == before[0]
    assert (project / "data/tiny/similarities/carpet/test_000000.safetensors").read_bytes() != before[1]


def test_the_report_needs_no_network(figures):
    page = (figures / "report.html").read_text()
    assert page.count("<section") == 1 + len(list((figures / "notebooks").glob("*.ipynb"))) == 12
    assert page.count("data:image/png;base64,") >= 10
    said = BeautifulSoup(page, "html.parser").select(".output_markdown")
    assert "<math" in page and any(own.find("math") for own in said) and not any("$" in own.get_text() for own in said)
    assert not re.search(r"""(src|href)\s*=\s*["'](https?:)?//|@import|url\(\s*["']?https?:|<script[^>]+src""", page)


def test_executed_notebooks_carry_no_traces_of_the_run(figures, project):
    for path in (figures / "notebooks").glob("*.ipynb"):
        text = path.read_text()
        assert str(project) not in text
        assert '"papermill"' not in text
        assert '"stderr"' not in text
        assert not re.search(r" at 0x[0-9a-f]{6}", text)


def test_a_stale_class_file_is_removed_and_mistakes_are_messages(project):
    stale = project / "data/tiny/similarities/wood.safetensors"
    stale.write_bytes(b"")
    run(project, "nand", "similarities", "tiny")
    assert not stale.exists()
    result = run(project, "nand", "scores", "tyni", check=False)
    assert result.returncode == 1
    assert "did you mean" in result.stderr
    assert "Traceback" not in result.stderr
