"""The contest: each method against what users would get from the library, and its tables by plain steps."""

import numpy as np
import pandas as pd
import pytest
import torch
from test_examples import BARS, NORMALS, SQUARES

from nandlib import add_normality, fit_detector, load_model
from nandlib.evaluation.kshot import COLUMNS, METHODS, Contest, continued, rows
from nandlib.evaluation.protocol import auroc
from nandlib.evaluation.result_tables import kshot_summary
from nandlib.method.examples import both, directions
from nandlib.method.plus import find_regions

IMAGES = [*NORMALS[:3], *SQUARES, *BARS]
GROUPS = np.array(["good"] * 3 + ["square"] * 4 + ["bar"] * 4)


@pytest.fixture(scope="module")
def model():
    return load_model("mini")


@pytest.fixture(scope="module")
def one(model):
    detector = fit_detector("patchcore", model, normals=NORMALS)
    base, descriptors = torch.from_numpy(detector(IMAGES)), detector.describe(IMAGES)
    regions = find_regions(base, (20, 20))
    text = {group: torch.rand(base.shape, generator=torch.Generator().manual_seed(len(group))) for group in ("square", "bar")}
    return Contest("plate", GROUPS, base, text, descriptors, detector, regions, directions(descriptors, detector.memory, regions))


def test_examples_are_what_add_normality_makes_of_them(one, model):
    adapted = add_normality(one.network, examples=[IMAGES[7], IMAGES[9]], model=model)
    assert one.scores("examples", "bar", [7, 9]) == pytest.approx(adapted.scores(IMAGES), rel=1e-4)
    (sup,) = adapted.suppression_maps(IMAGES, list(one.base.numpy())).values()
    together = one.base * (1 - both(one.text["bar"], torch.from_numpy(np.stack(sup))))
    assert one.scores("both", "bar", [7, 9]) == pytest.approx(together.amax((1, 2)).numpy(), rel=1e-4)
    assert one.scores("text", "bar", ()) == pytest.approx((one.base * (1 - one.text["bar"])).amax((1, 2)).numpy())


def test_a_larger_memory_raises_no_score_and_knows_its_examples(one):
    before, after = one.scores("nothing", "bar", ()), one.scores("bank", "bar", [7])
    assert (after <= before + 1e-3).all() and after[7] < 0.5 * before[7]
    assert one.network.maps_of(one.distances.unflatten(1, (20, 20))).numpy() == pytest.approx(one.base.numpy(), abs=1e-2)


def test_the_greedy_choice_goes_on():
    """The farthest from the memory first, then the farthest from memory and choice."""
    new = torch.tensor([[0.0], [10.0], [11.0], [4.0]])
    assert continued(new, torch.tensor([1.0, 8.0, 9.0, 3.0]), 0.75) == [2, 3, 0]
    assert continued(new, torch.tensor([1.0, 8.0, 9.0, 3.0]), 0.2) == []


def test_examples_leave_the_evaluation_for_every_method(one, monkeypatch):
    monkeypatch.setattr("nandlib.evaluation.kshot.LEAST_LEFT", 2)
    table = pd.DataFrame(list(rows(one, ks=(1, 2, 8), draws=3)), columns=COLUMNS)
    assert sorted(set(table["k"])) == [1, 2] and len(table) == 2 * 2 * 3 * len(METHODS)
    for (group, k, draw), part in table.groupby(["group", "k", "draw"]):
        own = np.flatnonzero(group == GROUPS)
        examples = np.random.default_rng([draw, k, *group.encode()]).permutation(own)[:k]
        keep = [n for n in range(len(IMAGES)) if n not in examples]
        label = np.isin(GROUPS[keep], list({"square", "bar"} - {group})).astype(int)
        before = auroc(label, one.scores("nothing", group, ())[keep])
        assert part["auroc_before"].unique().tolist() == [before] == part.loc[part["method"] == "nothing", "auroc_after"].tolist()
        after = auroc(label, one.scores("examples", group, examples.tolist())[keep])
        assert part.loc[part["method"] == "examples", "auroc_after"].item() == after


def test_the_summary_takes_groups_first_and_draws_then():
    values = {("a", 0): 60.0, ("b", 0): 80.0, ("a", 1): 70.0, ("b", 1): 90.0}
    table = pd.DataFrame([("c", g, 1, draw, "text", 50.0, after, 99.0) for (g, draw), after in values.items()], columns=COLUMNS)
    found = kshot_summary(table).iloc[0]
    assert found["auroc_after"] == 75 and found["sd"] == pytest.approx(np.std([70, 80], ddof=1)) and found["n_groups"] == 2
