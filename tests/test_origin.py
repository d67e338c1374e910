"""Which defects are drawn by what drew the training images: by code, and the means over either kind."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_uncertainty import make

from nandlib.data.drawn.catalogue import CATALOGUE, Product, both, change, mark
from nandlib.data.drawn.defects import hole, scratch
from nandlib.data.groups import load_grouping
from nandlib.evaluation.origin import SHARED, SPECIFIC, type_origin
from nandlib.evaluation.protocol import delta_table
from nandlib.evaluation.uncertainty import origin_table, resample, uncertainty
from nandlib.study.preset import load_study

ROOT = Path(__file__).parents[1]


def foreign(image, region, rng):
    return image


def test_what_draws_a_type_decides():
    faults = {"a": mark(scratch), "b": change(bent=True), "c": both(change(bent=True), mark(hole)), "d": mark(foreign)}
    product = Product(lambda *_: None, faults)
    assert {name: type_origin(product, name) for name in faults} == {"a": SHARED, "b": SPECIFIC, "c": SHARED, "d": SPECIFIC}


def test_who_has_drawn_the_images_is_known_in_every_study_of_them():
    one, every = (pd.read_csv(ROOT / f"figures/{name}/deltas.csv") for name in ("mini", "mini_detectors"))
    keys = ["class", "group"]
    assert one.groupby(keys)["origin"].first().equals(every.groupby(keys)["origin"].first())
    assert set(every["origin"]) == {SHARED, SPECIFIC}
    assert load_study(ROOT / "studies/mini_detectors.yaml").data.products == load_study(ROOT / "studies/mini.yaml").data.products
    assert load_study(ROOT / "studies/pcb.yaml").data.products is None


def test_no_group_of_the_papers_mixes_origins():
    grouping, found = load_grouping("mvtec_ad"), {}
    for class_name, product in CATALOGUE.items():
        for name in product.types if class_name != "toothbrush" else ():
            if group := grouping.group_of(class_name, name):
                found.setdefault((class_name, group), set()).add(type_origin(product, name))
    assert len(found) == 56 and all(len(origins) == 1 for origins in found.values())
    assert sum(SHARED in origins for origins in found.values()) == 35


def test_means_by_origin():
    scores = pd.concat([make(0, 40, 30, 2.0, class_name="carpet"), make(1, 40, 30, -2.0, class_name="tile")])
    draws = resample(scores, resamples=300)
    deltas = delta_table(scores).merge(uncertainty(draws)[0], on=["detector", "class", "group"])
    deltas["origin"] = np.where(deltas["class"] == "carpet", SHARED, SPECIFIC)
    table = origin_table(draws, deltas).set_index("origin")
    for origin, class_name, better, worse in ((SHARED, "carpet", 2, 0), (SPECIFIC, "tile", 0, 2)):
        row, own = table.loc[origin], deltas[deltas["class"] == class_name]
        assert row["delta"] == pytest.approx(own["delta"].mean())
        assert row["delta_low"] < row["delta"] < row["delta_high"]
        assert (row["n_better"], row["n_worse"], row["n_groups"]) == (better, worse, 2)
