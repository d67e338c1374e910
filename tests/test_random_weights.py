"""A study with random weights says so in everything that it writes."""

import json

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from nandlib.show import style
from nandlib.show.notebooks import finish
from nandlib.stages.protocol import write_protocol
from nandlib.study.frames import SCORES
from nandlib.study.open_study import OpenStudy, project_root
from nandlib.study.preset import load_study
from nandlib.study.registry import NO_WEIGHTS, registry_entry


@pytest.fixture
def study(tmp_path) -> OpenStudy:
    config = load_study(project_root() / "studies/mvtec_ad_random.yaml")
    study = OpenStudy(tmp_path, config)
    rng = np.random.default_rng(0)
    rows = [
        {"detector": d, "class": "wood", "image": f"{g}{k}", "group": g, "added": added, "before": rng.random(), "after": rng.random()}
        for d in ("aprilgan", "patchcore")
        for added in ("scratch", "hole")
        for g in ("good", "scratch", "hole")
        for k in range(3)
    ]
    frame = pd.DataFrame(rows)
    frame["before"] = frame.groupby(["detector", "image"])["before"].transform("first")
    study.data.mkdir(parents=True)
    SCORES.validate(frame).to_parquet(study.data / "scores.parquet")
    images = frame.drop_duplicates("image")
    test = {"class": "wood", "split": "test", "type": images["group"], "group": images["group"], "image": images["image"], "mask": ""}
    pd.DataFrame(test | {"width": 8, "height": 8, "mask_area": np.nan}).to_csv(study.data / "manifest.csv", index=False)
    return study


def test_tables_carry_the_word(study):
    write_protocol(study)
    for name in ("deltas.csv", "base_auroc.csv", "identity.csv"):
        assert set(pd.read_csv(study.figures / name)["weights"]) == {"random"}
    assert json.loads((study.figures / "metrics.json").read_text())["weights"] == "random"
    assert study.deltas["delta"].dtype == float
    study.write_text("| table |\n", "table.md")
    assert (study.figures / "table.md").read_text().startswith("**RANDOM WEIGHTS: NOT A RESULT**")


def test_figures_and_notebooks_carry_it(study, tmp_path):
    assert study.watermark == "RANDOM WEIGHTS"
    figure = plt.figure(figsize=(5, 3))
    style.save(figure, tmp_path / "plain.png")
    style.save(figure, tmp_path / "marked.png", study.watermark)
    with Image.open(tmp_path / "plain.png") as plain, Image.open(tmp_path / "marked.png") as marked:
        assert np.asarray(plain).min() == 255
        red = np.asarray(marked.convert("RGB")).astype(int)
        assert ((red[..., 0] - red[..., 1]) > 60).mean() > 0.01
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Why?")])
    assert finish(notebook, study.watermark).cells[0].source == "# Why?\n\n**RANDOM WEIGHTS: NOT A RESULT**"


def test_other_studies_carry_nothing(tmp_path):
    study = OpenStudy(tmp_path, load_study(project_root() / "studies/mini.yaml"))
    assert study.watermark == ""
    study.write_csv(pd.DataFrame({"a": [1]}), "t.csv")
    assert (study.figures / "t.csv").read_text() == "a\n1\n"


def test_dvc_has_a_file_to_watch(study):
    assert registry_entry(study)["weights"] == NO_WEIGHTS
    assert (project_root() / NO_WEIGHTS).is_file()
