"""Real images from end to end: the circuit boards that come with the project, and the numbers that are committed of them."""

import re

import pandas as pd
import pytest
from tiny_project import ROOT, run

DETECTORS = ("aprilgan", "winclip_1", "patchcore")  # one of each family


@pytest.fixture(scope="module")
def boards(project):
    (project / "data/pcb_ad").symlink_to(ROOT / "data/pcb_ad")
    preset = project / "studies/pcb.yaml"  # without those that are trained, which takes minutes
    text, shorter = (ROOT / "studies/pcb.yaml").read_text(), f"detectors: [{', '.join(DETECTORS)}]"
    preset.write_text(re.sub(r"^detectors: .*$", shorter, text, flags=re.MULTILINE))
    registry = (project / "params.yaml").read_text()
    run(project, "nand", "use", "studies/pcb.yaml")
    run(project, "nand", "repro", "protocol@pcb")
    yield project / "figures/pcb"
    (project / "params.yaml").write_text(registry)  # the other tests' project has one study
    preset.unlink()


def test_the_numbers_are_those_that_are_committed(boards):
    """Another processor may exchange a pair of images: one of 30 x 190 pairs is 0.02 points."""
    keys = ["detector", "class", "group"]
    ours, theirs = (pd.read_csv(folder / "deltas.csv").set_index(keys) for folder in (boards, ROOT / "figures/pcb"))
    assert len(ours) == 3 * 6 and set(ours["origin"]) == {"given"}
    columns = ["auroc_before", "auroc_after", "auroc_others", "ap_before", "ap_after"]
    difference = (ours[columns] - theirs[columns].reindex(ours.index)).abs()
    assert difference.mean().max() < 0.05 and difference.max().max() < 0.5


def test_every_board_is_there_with_its_mask():
    folder = ROOT / "data/pcb_ad/pcb"
    counts = {path.name: len(list(path.iterdir())) for path in (folder / "test").iterdir()}
    assert counts == {"good": 40, **dict.fromkeys(("open", "short", "mousebite", "spur", "spurious_copper", "pin_hole"), 30)}
    assert len(list((folder / "train/good").iterdir())) == 80
    masks = {path.stem.removesuffix("_mask") for path in (folder / "ground_truth/spur").iterdir()}
    assert masks == {path.stem for path in (folder / "test/spur").iterdir()}
    assert "tangsanli5201" in (ROOT / "data/pcb_ad/LICENSE").read_text()
    assert sum(path.stat().st_size for path in folder.rglob("*.png")) < 5e6
