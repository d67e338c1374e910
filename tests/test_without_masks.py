"""What is measured by pixel where masks are missing: nothing is made up, and nothing else changes."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from nandlib.data.config import DataConfig
from nandlib.data.groups import Grouping
from nandlib.data.manifest import build_manifest
from nandlib.evaluation.ablation import ablation
from nandlib.evaluation.controls import ORACLE, control_scores
from nandlib.evaluation.failures import failure_table, judged
from nandlib.evaluation.protocol import DELTA_COLUMNS
from nandlib.evaluation.result_tables import ablation_tables, control_table
from nandlib.evaluation.selectivity import PIXEL_COLUMNS, RETRIEVAL_COLUMNS, SELECTIVITY_COLUMNS, pixel_measures
from nandlib.evaluation.steps import Step
from nandlib.method.config import NandConfig
from nandlib.study.class_maps import ClassMaps

NAND = NandConfig(map_size=16)
TEXTS = ["normal", "abnormal", "+dent", "+hair", "+stain", "~empty text"]


@pytest.fixture
def study_of(dataset, monkeypatch):
    """A study of one class with random similarities; `without`: images that lose their masks, `dropped`: that are not there."""
    root = dataset(classes=("bolt",), types=("dent", "hair", "stain"))
    manifest, _ = build_manifest(root, DataConfig(root=root), Grouping("types", None), progress=False)
    rows = manifest[manifest["split"] == "test"].reset_index(drop=True)
    cos = torch.randn(len(rows), len(TEXTS), 2, 16, generator=torch.Generator().manual_seed(0)) / 10

    def make(without=(), dropped=()):
        here = (~rows["image"].isin(dropped)).to_numpy(copy=True)
        own = rows[here].reset_index(drop=True)
        own.loc[own["image"].isin(without), ["mask", "mask_area"]] = ["", np.nan]
        maps = ClassMaps("bolt", NAND, {"test": cos[torch.from_numpy(here)]}, TEXTS, (4, 4), 10.0)
        monkeypatch.setattr(ClassMaps, "of", lambda *_: maps)
        config = SimpleNamespace(detectors=["aprilgan"], nand=NAND)
        return SimpleNamespace(rows=lambda _: own, images=root, config=config, classes=lambda: ["bolt"])

    make.images = rows.loc[rows["type"] != "good", "image"].tolist()
    return make


def test_without_any_mask_there_are_image_measures_alone(study_of):
    whole, study = control_table(control_scores(study_of(), "bolt")), study_of(without=study_of.images)
    pd.testing.assert_frame_equal(control_table(control_scores(study, "bolt")), whole[whole["control"] != ORACLE])
    selectivity, retrieval, pixels = pixel_measures(study, "bolt")
    columns = (SELECTIVITY_COLUMNS, RETRIEVAL_COLUMNS, PIXEL_COLUMNS)
    assert [table.columns.tolist() for table in (selectivity, retrieval, pixels)] == list(columns)
    assert selectivity.empty
    assert retrieval.empty
    assert pixels.empty
    assert judged(selectivity).empty
    assert failure_table(pd.DataFrame(columns=DELTA_COLUMNS), selectivity, retrieval).empty


def test_the_ablation_without_masks_does_not_say_what_is_removed(study_of):
    steps, removed = [Step("nand", "nand", NAND)], ["removed_own", "removed_other", "removed_other_nand"]
    origins = pd.Series("given", pd.MultiIndex.from_product([["bolt"], ["dent", "hair", "stain"]]))

    def tables(gone):
        found = ablation(study_of(without=gone), steps, progress=False)
        return ablation_tables(found.scores, found.removed, steps, origins)

    whole, without = tables(()), tables(study_of.images)
    pd.testing.assert_frame_equal(whole["ablation_groups"], without["ablation_groups"])
    full, bare = whole["ablation"], without["ablation"]
    pd.testing.assert_frame_equal(full.drop(columns=removed), bare.drop(columns=removed))
    assert (full[removed] > 0).all(axis=None)
    assert bare[removed].isna().all(axis=None)


def test_an_image_without_a_mask_is_left_out_of_the_pixel_measures(study_of):
    gone = [study_of.images[0], *study_of.images[2:4]]  # one of two dents, all hairs
    found, expected = pixel_measures(study_of(without=gone), "bolt"), pixel_measures(study_of(dropped=gone), "bolt")
    for ours, theirs in zip(found, expected, strict=True):
        pd.testing.assert_frame_equal(ours, theirs)
    assert set(found[0]["group"]) == {"dent", "stain"}
    assert set(found[0].loc[found[0]["group"] == "dent", "n_images"]) == {1}
    assert judged(found[0])["text"].tolist() == ["dent", "stain"]


def test_the_oracle_knows_only_images_with_masks(study_of):
    gone = [study_of.images[0], *study_of.images[2:4]]
    whole, part = (control_scores(study_of(without=without), "bolt") for without in ((), gone))
    unknown = whole["image"].isin(gone) & (whole["group"] == whole["added"]) | (whole["added"] == "hair")
    pd.testing.assert_frame_equal(part, whole[~(unknown & (whole["control"] == ORACLE))].reset_index(drop=True))
    counts = control_table(part).set_index("control")["n_groups"]
    assert counts.to_dict() == {"its text": 3, "another group's text": 3, "empty text": 3, ORACLE: 2}
