"""The paper's numbers, what they imply, and how ours are set beside them."""

import numpy as np
import pandas as pd
import pytest

from nandlib.data.published import source
from nandlib.evaluation import paper
from nandlib.evaluation.protocol import base_table, delta_table

A0 = {  # worked out by hand from Table 2 with exact fractions
    "bottle": 77.0, "cable": 65.9, "capsule": 75.8, "carpet": 99.4, "grid": 97.9, "hazelnut": 96.6, "leather": 99.6,
    "metal_nut": 84.1, "pill": 72.4, "screw": 75.6, "tile": 95.3, "transistor": 69.4, "wood": 96.2, "zipper": 87.5,
}  # fmt: skip


def test_a0_that_table2_implies():
    table = paper.implied_a0().set_index("class")
    assert table["a0"].round(1).to_dict() == A0
    assert table["rounding"].max() < 0.13


def test_test_images_of_mvtec_ad():
    images = paper._resource("mvtec_ad_test_images")
    published = {name: test for name, (_, test) in source("mvtec_ad").images.items()}
    assert images.groupby("class")["n_images"].sum().to_dict() == published
    assert images.groupby("class")["type"].nunique().sum() == 73 + 15
    assert len(paper.counts()) == 56


def scores(class_name="carpet", groups=("thread", "metal", "color", "cut"), detector="aprilgan", seed=0) -> pd.DataFrame:
    """Random scores with the numbers of images of MVTec AD."""
    rng, n = np.random.default_rng(seed), paper.counts().set_index(["class", "group"])
    sizes = {"good": n["n_good"][class_name].iloc[0], **{g: n["n_group"][class_name, g] for g in groups}}
    own = [g for g, size in sizes.items() for _ in range(size)]
    before = rng.normal(size=len(own)) + [g != "good" for g in own]
    frames = [
        pd.DataFrame({"detector": detector, "class": class_name, "image": range(len(own)), "group": own, "added": g, "before": before})
        for g in groups
    ]
    return pd.concat(frames).assign(after=lambda f: f["before"] - (f["group"] == f["added"]))


def test_implied_a0_is_the_ordinary_auroc_of_the_same_scores():
    one = scores()
    table = delta_table(one)
    assert paper.implied_a0(table)["a0"].item() == pytest.approx(base_table(one)["auroc"].item(), abs=1e-9)


def test_a0_of_a_mean_is_consistent():
    table = paper.counts().assign(auroc_before=0.0)
    for class_name, part in table.groupby("class"):  # every class with A0 = 80, its groups equally hard
        weights, pairs, scale = paper._identity(part)
        table.loc[table["class"] == class_name, "auroc_before"] = (80 * scale + 100 * pairs) / weights.sum()
    mean = table.groupby("class")["auroc_before"].mean().mean()
    assert paper.a0_of_mean(mean) == pytest.approx(80)
    assert paper.implied_a0(table)["a0"].tolist() == pytest.approx([80] * 14)


def test_the_papers_baselines_are_lower_than_published_ones():
    table = paper.baselines().set_index("detector")
    assert table.loc["patchcore", "implied_a0"] == pytest.approx(87.5, abs=0.5)
    assert table.loc["winclip_0", "implied_a0"] == pytest.approx(77, abs=0.5)
    assert len(table) == 5 and table.index[table["published_a0"].isna()].tolist() == ["winclip_5"]
    known = table.dropna()
    assert (known["implied_a0"] < known["published_a0"]).all()


def test_comparison_by_group_class_and_detector():
    ours = delta_table(pd.concat([scores(), scores(detector="patchcore")]))
    compared = paper.comparison(ours)
    assert compared["table"].tolist() == [2, 2, 2, 2]
    thread = compared[compared["group"] == "thread"].iloc[0]
    assert (thread["paper_before"], thread["paper_after"], thread["paper_delta"]) == (73.6, 83.5, 9.9)
    assert thread["difference_delta"] == pytest.approx(thread["ours_delta"] - 9.9)
    by_class = paper.by_class(compared, base_table(scores()))
    assert by_class["paper_before"].item() == pytest.approx(77.9)
    assert by_class["paper_a0"].item() == pytest.approx(99.4, abs=0.05)
    assert by_class["ours_a0"].item() == base_table(scores())["auroc"].item()
    same = paper.agreement(paper.comparison(paper.deltas().assign(detector="aprilgan")))
    assert same["spearman_delta"] == pytest.approx(1)
    assert (same["same_sign"], same["mean_absolute_difference_after"]) == (56, 0)
    whole = paper.comparison(paper.deltas().assign(detector="patchcore"))
    assert whole["table"].tolist() == [3]
    assert (whole["paper_before"].item(), whole["paper_after"].item()) == (72.3, 75.5)
    assert paper.comparison(ours.assign(**{"class": "door"})).empty
