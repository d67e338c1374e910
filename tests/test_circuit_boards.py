"""Real images from end to end: the circuit boards that come with the project, and the numbers that are committed of them."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tiny_project import ROOT

from nandlib.method.prompts import PromptSet
from nandlib.stages import similarities
from nandlib.stages.manifest import write_manifest
from nandlib.stages.maps import write_maps
from nandlib.stages.protocol import write_protocol
from nandlib.stages.scores import write_scores
from nandlib.study.open_study import OpenStudy
from nandlib.study.preset import load_study

BOARDS = ROOT / "data/pcb_ad/pcb"
DETECTORS = ("aprilgan", "winclip_1", "patchcore")  # one of each family; to train the others takes minutes


@pytest.fixture(scope="module")
def boards(tmp_path_factory):
    """The stages, one after the other, in a folder of their own: all training images, and every seventh of those that are tested. Sentences
    that no score of the protocol is made of, which take half of the time, are left out."""
    root = tmp_path_factory.mktemp("boards")
    own = root / "data/pcb_ad/pcb"
    for path in sorted(BOARDS.glob("test/*/*.png"))[::7]:
        there = own / path.relative_to(BOARDS)
        there.parent.mkdir(parents=True, exist_ok=True)
        there.symlink_to(path)
    for name in ("train", "ground_truth"):
        (own / name).symlink_to(BOARDS / name)
    study = OpenStudy(root, load_study(ROOT / "studies/pcb.yaml").model_copy(update={"detectors": DETECTORS}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(similarities, "control_sentences", lambda *_: {})
        patch.setattr(PromptSet, "bank", lambda _: {"crack": ("a crack",)})
        write_manifest(study, progress=False)
        for stage in (similarities.write_similarities, write_maps, write_scores):
            stage(study, progress=False)
    write_protocol(study)
    return study


def test_the_scores_are_those_that_are_committed(boards):
    """Of single images: no score depends on which others are tested. What is made of all scores, `nand numbers` makes again."""
    keys = ["detector", "class", "image", "group", "added"]
    ours, theirs = (pd.read_parquet(folder / "scores.parquet").set_index(keys) for folder in (boards.figures, ROOT / "figures/pcb"))
    assert len(ours) == 3 * 6 * 32 and set(boards.deltas["origin"]) == {"given"} and ours.index.isin(theirs.index).all()
    differences = (ours / theirs.reindex(ours.index) - 1).abs()
    assert differences.to_numpy().max() < 1e-3


def test_every_board_is_there_with_its_mask():
    folder = ROOT / "data/pcb_ad/pcb"
    counts = {path.name: len(list(path.iterdir())) for path in (folder / "test").iterdir()}
    assert counts == {"good": 40, **dict.fromkeys(("open", "short", "mousebite", "spur", "spurious_copper", "pin_hole"), 30)}
    assert len(list((folder / "train/good").iterdir())) == 80
    masks = {path.stem.removesuffix("_mask") for path in (folder / "ground_truth/spur").iterdir()}
    assert masks == {path.stem for path in (folder / "test/spur").iterdir()}
    assert "tangsanli5201" in (ROOT / "data/pcb_ad/LICENSE").read_text()
    assert sum(path.stat().st_size for path in folder.rglob("*.png")) < 5e6


def test_nothing_but_the_defect_tells_defective_boards_from_good_ones():
    """As published they were compressed otherwise: grey levels told them apart, and a detector saw that. Here they are black and white."""
    for path in BOARDS.glob("t*/*/*.png"):
        assert set(np.unique(np.asarray(Image.open(path).convert("L")))) == {0, 255}, path
    far = pd.read_csv(ROOT / "figures/pcb/measure/background.csv").set_index("detector")["auroc_background"]
    assert len(far) == 8 and far.max() < 60, "a detector is alarmed far from the defects"
