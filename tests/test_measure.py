"""Controls and the mask oracle."""

import random
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from nandlib.evaluation import background
from nandlib.evaluation.control_texts import _shuffled
from nandlib.evaluation.controls import HALO, ORACLE, controls_of, oracle
from nandlib.evaluation.result_tables import CONTROL_COLUMNS, control_table
from nandlib.evaluation.sensitivity import change, variants
from nandlib.method.config import NandConfig
from nandlib.stages.similarities import control_sentences, random_feature
from nandlib.study.class_maps import ClassMaps
from nandlib.study.open_study import open_study


def test_the_oracle_is_the_dilated_mask_of_the_added_images_only():
    masks = torch.zeros(3, 50, 50, dtype=torch.bool)
    masks[0, 20, 20] = masks[1, 20, 20] = True
    found = oracle(masks, np.array([True, False, True]))
    assert found[1].sum() == 0
    assert found[2].sum() == 0  # an empty mask suppresses nothing
    rows, columns = np.nonzero(found[0].numpy())
    assert (np.hypot(rows - 20, columns - 20) <= HALO * 50).all()
    assert len(rows) == sum(np.hypot(y - 20, x - 20) <= HALO * 50 for y in range(50) for x in range(50))


def test_every_group_has_its_own_controls():
    texts = ["normal", "abnormal", "+a", "+b", "+c", "~empty", "~shuffled:a", "~shuffled:b", "~shuffled:c"]
    maps = ClassMaps("x", NandConfig(), {"test": torch.zeros(1, len(texts), 1, 4)}, texts, (2, 2), 1.0)
    assert controls_of(maps, "b") == {"its text": "+b", "another group's text": "+c", "empty": "~empty", "shuffled": "~shuffled:b"}
    assert controls_of(maps, "c")["another group's text"] == "+a"
    texts = ["normal", "abnormal", "+a", "+b:a", "~shuffled:a", "~shuffled:b:a"]
    maps = ClassMaps("x", NandConfig(), {"test": torch.zeros(1, len(texts), 1, 4)}, texts, (2, 2), 1.0)
    assert [controls_of(maps, group)["shuffled"] for group in ("a", "b:a")] == ["~shuffled:a", "~shuffled:b:a"]
    alone = ClassMaps("x", NandConfig(), {"test": torch.zeros(1, 3, 1, 4)}, ["normal", "abnormal", "+a"], (2, 2), 1.0)
    assert controls_of(alone, "a") == {"its text": "+a"}


def test_control_texts(monkeypatch):
    study = open_study("mini")
    groups = {"carpet": {"thread": ["thread"], "cut": ["cut", "hole"]}, "grid": {"bent": ["bent"], "glue": ["glue"]}}
    monkeypatch.setattr(type(study), "test_groups", lambda _: groups)
    found = control_sentences(study, "carpet")
    assert list(found) == ["~empty text", "~any defect", "~another class's text", "~shuffled words:thread", "~shuffled words:cut"]
    assert found["~empty text"][0] == "a bad photo of a ."
    assert found["~another class's text"][0] == "a bad photo of a bent on grid."
    phrases = study.prompts.phrases["carpet"]["cut"] + study.prompts.phrases["carpet"]["hole"]
    own = study.prompts.fill(phrases)
    letters = [sorted(sentence.replace(".", "").split()) for sentence in own]
    assert [sorted(sentence.replace(".", "").split()) for sentence in found["~shuffled words:cut"]] == letters
    assert found["~shuffled words:cut"] != own
    assert found == control_sentences(study, "carpet")
    groups["grid"] = {"thread": ["thread"], "glue": ["glue"]}  # a thread on grid would say what is on carpet
    assert control_sentences(study, "carpet")["~another class's text"][0] == "a bad photo of a glue on grid."


@pytest.mark.parametrize(("temperature", "defaults"), [(None, ["the model's own", "1/0.07"]), (1.0, ["1"])])
def test_the_studys_own_temperature_is_marked(temperature, defaults):
    study = change(open_study("mini").config, {"nand.temperature": temperature})
    own = [one.value for one in variants(study, 4, 1 / 0.07) if one.choice == "temperature" and one.is_default]
    assert own == defaults


def test_random_vectors_have_unit_norm_and_a_class_of_their_own():
    a, b = random_feature("carpet", 64), random_feature("grid", 64)
    assert a.norm().item() == pytest.approx(1)
    assert abs(a @ b) < 0.5
    assert torch.equal(a, random_feature("carpet", 64))


def test_a_perfect_control_closes_the_whole_gap():
    own = np.array(["good"] * 4 + ["a"] * 3 + ["b"] * 3)
    before = np.array([0.0, 1, 2, 3, 11, 12, 13, 10, 10.5, 2.5])
    frames = []
    for control in ("its text", ORACLE):
        for added in ("a", "b"):
            after = np.where((own == added) & (control == ORACLE), -1.0, before)
            values = {"detector": "d", "class": "c", "image": range(10), "group": own, "added": added, "before": before, "after": after}
            frames.append(pd.DataFrame(values | {"control": control}))
    table = control_table(pd.concat(frames)).set_index("control")
    assert set(CONTROL_COLUMNS) == {"control", *table.columns}
    assert table.loc["its text", ["delta", "gap_closed", "n_improved"]].tolist() == [0, 0, 0]
    assert table.loc[ORACLE, "gap_closed"] >= 100
    assert table.loc[ORACLE, "n_improved"] == 1  # group b ranks right already


@pytest.mark.parametrize("phrase", ["cut hose", "a b", "oil oil stain", "small cut"])
def test_words_are_in_another_order_wherever_there_is_one(phrase):
    found = [_shuffled(phrase, random.Random(seed)) for seed in range(20)]
    assert phrase not in found and {" ".join(sorted(one.split())) for one in found} == {" ".join(sorted(phrase.split()))}
    assert _shuffled("scratch", random.Random(0)) == "scratch" and _shuffled("oil oil", random.Random(0)) == "oil oil"


def test_the_background_of_defective_images(monkeypatch):
    """A detector that sees the defect alone, and one that knows defective images by their corners."""
    masks, maps = torch.zeros(20, 50, 50, dtype=torch.bool), torch.rand(20, 50, 50, generator=torch.Generator().manual_seed(0))
    masks[10:, 20:24, 20:24] = True
    masks[19] = True  # leaves no background
    rows = pd.DataFrame({"group": ["good"] * 10 + ["dent"] * 10, "type": ["good"] * 10 + ["dent"] * 10, "mask": [""] * 10 + ["m"] * 10})
    bases = {"patchcore": maps + 5 * masks, "aprilgan": maps.clone()}
    bases["aprilgan"][10:, 0, 0] = 5
    config = SimpleNamespace(nand=SimpleNamespace(map_size=50), detectors=("aprilgan", "patchcore"))
    study = SimpleNamespace(config=config, rows=lambda name: rows)
    monkeypatch.setattr(background, "masks_of", lambda *_: masks)
    monkeypatch.setattr(background.ClassMaps, "of", lambda *_: SimpleNamespace(base=lambda name: bases[name]))
    found = background.background_table(study, "bolt").set_index("detector")
    assert found[["n_good", "n_defective"]].to_numpy().tolist() == [[10, 9]] * 2
    assert found["auroc"].tolist() == [100, 100]
    assert found.loc["aprilgan", "auroc_background"] == 100 and 20 < found.loc["patchcore", "auroc_background"] < 80
    place = np.array([[np.hypot(max(20 - y, y - 23, 0), max(20 - x, x - 23, 0)) > 0.3 * 50 for x in range(50)] for y in range(50)])
    shares = [np.mean([maps[k][place].max() > one[place].max() for one in maps[:10]]) for k in range(10, 19)]
    assert found.loc["patchcore", "auroc_background"] == pytest.approx(100 * np.mean(shares))
