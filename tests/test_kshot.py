"""The contest: each method against what users would get from the library, and its tables by plain steps."""

import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from test_examples import BARS, NORMALS, SQUARES
from tiny_project import ROOT, executed

from nandlib import add_normality, fit_detector, load_model
from nandlib.detectors.coreset import continued
from nandlib.errors import DataError
from nandlib.evaluation.contest import METHODS, Contest, axes, contest, draws_of
from nandlib.evaluation.example_selection import COLUMNS as CANDIDATE
from nandlib.evaluation.example_selection import best_candidate, best_weight, select_examples
from nandlib.evaluation.kshot import COLUMNS, KShot, a2n_rows, kshot, mask_rows
from nandlib.evaluation.protocol import auroc
from nandlib.evaluation.result_tables import kshot_summary, kshot_worth
from nandlib.method.config import ExampleConfig
from nandlib.method.examples import both, directions
from nandlib.method.operators import resize_map
from nandlib.method.plus import find_regions
from nandlib.study.open_study import open_study

IMAGES = [*NORMALS[:3], *SQUARES, *BARS]
GROUPS = np.array(["good"] * 3 + ["square"] * 4 + ["bar"] * 4)


@pytest.fixture(scope="module")
def model():
    return load_model("mini")


@pytest.fixture(scope="module")
def one(model, tmp_path_factory):
    detector = fit_detector("patchcore", model, normals=NORMALS)
    folder, paths = tmp_path_factory.mktemp("images"), []
    for k, image in enumerate(IMAGES):
        paths.append(folder / f"{len(IMAGES) - k:02d}.png")  # by name the other way round
        image.save(paths[-1])
    base, descriptors = torch.from_numpy(detector(IMAGES)), detector.describe(IMAGES)
    regions = find_regions(base, (20, 20))
    text = {group: torch.rand(base.shape, generator=torch.Generator().manual_seed(len(group))) for group in ("square", "bar")}
    found, types = directions(descriptors, detector.memory, regions), GROUPS.tolist()
    return Contest("plate", GROUPS, base, text, descriptors, detector, regions, found, paths, types)


def test_examples_are_what_add_normality_makes_of_them(one, model):
    adapted = add_normality(one.network, examples=[IMAGES[7], IMAGES[9]], model=model)
    assert one.scores("examples", "bar", [7, 9]) == pytest.approx(adapted.scores(IMAGES), rel=1e-4)
    (sup,) = adapted.suppression_maps(IMAGES, list(one.base.numpy())).values()
    together = one.base * (1 - both(one.text["bar"], torch.from_numpy(np.stack(sup))))
    assert one.scores("both", "bar", [7, 9]) == pytest.approx(together.amax((1, 2)).numpy(), rel=1e-4)
    assert one.scores("text", "bar", ()) == pytest.approx((one.base * (1 - one.text["bar"])).amax((1, 2)).numpy())
    alone = one.scores("both", "bar", [7, 9], ExampleConfig(text_weight=0))
    assert alone == pytest.approx(one.scores("examples", "bar", [7, 9]), rel=0.02)


def test_retrained_is_a_fit_with_the_examples(one, model):
    again = fit_detector("patchcore", model, normals=[*NORMALS, IMAGES[7]])
    assert one.scores("retrained", "bar", [7]) == pytest.approx(again(IMAGES).max((1, 2)), rel=1e-3)


def test_a_larger_memory_raises_no_score_and_knows_its_examples(one):
    before, after = one.scores("nothing", "bar", ()), one.scores("bank", "bar", [7])
    assert (after <= before + 1e-3).all() and after[7] < 0.5 * before[7]
    assert one.network.maps_of(one.distances.unflatten(1, (20, 20))).numpy() == pytest.approx(one.base.numpy(), abs=1e-2)


def test_maps_by_two_matrices_are_the_map_generators(one):
    distances = torch.rand(2, *one.descriptors.shape[-2:], generator=torch.Generator().manual_seed(0))
    down, across = axes(one.network.maps_of, distances.shape[1:])
    torch.testing.assert_close(down @ distances @ across.T, one.network.maps_of(distances), rtol=0, atol=1e-5)


def test_the_greedy_choice_goes_on():
    """The farthest from the memory first, then the farthest from memory and choice."""
    new = torch.tensor([[0.0], [10.0], [11.0], [4.0]])
    assert continued(new, torch.tensor([1.0, 8.0, 9.0, 3.0]), 0.75) == [2, 3, 0]
    assert continued(new, torch.tensor([1.0, 8.0, 9.0, 3.0]), 0.2) == [2], "one at least"
    assert continued(torch.ones(4, 1), torch.full((4,), 2.0), 0.75) == [0], "what equals the first adds nothing"
    rng = torch.Generator().manual_seed(0)
    for spread in (0.1, 3.0):  # where few are far from the memory, and where all are alike
        many, away = torch.rand(400, 3, generator=rng), torch.rand(400, generator=rng) ** spread
        nearest, expected = away.clone(), []
        for _ in range(20):
            expected.append(int(nearest.argmax()))
            nearest = torch.minimum(nearest, (many - many[expected[-1]]).norm(dim=1))
        assert continued(many, away, 0.05) == expected


def test_examples_leave_the_evaluation_for_every_method(one, monkeypatch):
    monkeypatch.setattr("nandlib.evaluation.contest.LEAST_LEFT", 2)
    found = KShot(ks=(1, 2, 8), draws=3, resamples=200)
    found.add(one)
    table = found.table()
    assert sorted(set(table["k"])) == [1, 2] and len(table) == 2 * 2 * 3 * (len(METHODS) - 1)
    for (group, k, draw), part in table.groupby(["group", "k", "draw"]):
        own = np.flatnonzero(group == GROUPS)
        examples = np.random.default_rng([draw, k, *group.encode()]).permutation(own)[:k]
        keep = [n for n in range(len(IMAGES)) if n not in examples]
        label = np.isin(GROUPS[keep], list({"square", "bar"} - {group})).astype(int)
        before, after = one.scores("nothing", group, ())[keep], one.scores("examples", group, examples.tolist())[keep]
        assert part["auroc_before"].unique().tolist() == [auroc(label, before)]
        assert part.loc[part["method"] == "nothing", "auroc_after"].item() == auroc(label, before)
        shown = part[part["method"] == "examples"].iloc[0]
        assert shown["auroc_after"] == auroc(label, after)
        assert shown["removed_other"] == pytest.approx(100 * np.mean(1 - after[label == 1] / before[label == 1]))
    intervals = found.intervals().set_index(["k", "method"])
    means = table.groupby(["k", "method"])["auroc_after"].mean().loc[intervals.index]
    assert ((intervals["low"] <= means + 1) & (means - 1 <= intervals["high"])).all()
    for rival in ("text", "bank"):
        assert intervals.loc[(2, "examples"), f"over_{rival}"] == pytest.approx(means[2, "examples"] - means[2, rival], abs=1e-12)
    assert (intervals.xs("bank", level="method")[["over_bank", "over_bank_low", "over_bank_high"]] == 0).all(axis=None)


def test_a_detector_trained_anew_takes_part_where_it_is_asked_to(one, monkeypatch):
    monkeypatch.setattr("nandlib.evaluation.contest.LEAST_LEFT", 2)
    found = KShot(ks=(1, 2), draws=2, retrained=1, resamples=50)
    found.add(replace(one, text={"bar": one.text["bar"]}))
    rows = found.table().query("method == 'retrained'")
    assert rows[["k", "draw"]].to_numpy().tolist() == [[1, 0], [2, 0]]


def test_what_is_removed_inside_masks(one, monkeypatch):
    monkeypatch.setattr("nandlib.evaluation.contest.LEAST_LEFT", 2)
    masks = torch.zeros(len(IMAGES), 32, 32, dtype=torch.bool)
    masks[3:, 8:20, 8:20] = True  # all but the good ones
    rows = {(group, method): removed for _, group, _, method, *removed in mask_rows(one, masks, (2,))}
    assert len(rows) == 2 * 4
    examples = np.random.default_rng([0, 2, *b"bar"]).permutation(np.arange(7, 11))[:2].tolist()
    base, final = (resize_map(maps, (32, 32))[:, 8:20, 8:20] for maps in (one.base, one.maps("examples", "bar", examples)))
    left = [k for k in range(7, 11) if k not in examples]
    for removed, images in zip(rows["bar", "examples"], (left, [3, 4, 5, 6]), strict=True):
        assert removed == pytest.approx(100 * (1 - float(final[images].sum() / base[images].sum())), rel=1e-4)
    assert one.maps("examples", "bar", examples).amax((1, 2)).numpy() == pytest.approx(one.scores("examples", "bar", examples))


def test_half_of_a_type_by_name_is_shown_and_the_other_half_tested(one):
    rows = {(group, method): (k, *areas) for _, group, k, method, *areas in a2n_rows(one)}
    shown, rest = [10, 9], [7, 8]  # their names are in the opposite order
    keep = [n for n in range(len(IMAGES)) if n not in shown]
    before, after = one.scores("nothing", "bar", ()), one.scores("examples", "bar", shown)
    k, first, second, moved = rows["bar", "examples"]
    assert k == 2 and first == auroc(GROUPS[keep] == "square", before[keep]) and second == auroc(GROUPS[keep] == "square", after[keep])
    assert moved == auroc(np.array([True] * 2 + [False] * 2), np.r_[before[rest], after[rest]])
    assert rows["bar", "nothing"][-1] == 50


def test_of_every_type_of_a_group_one_half_is_shown(one):
    """By name alone the first half of a group would be one type, and the other half another."""
    types = [*GROUPS[:7].tolist(), "a", "a", "b", "b"]
    found = {(group, method): areas for _, group, _, method, *areas in a2n_rows(replace(one, types=types))}
    keep = [n for n in range(len(IMAGES)) if n not in (8, 10)]
    assert found["bar", "text"][1] == auroc(GROUPS[keep] == "square", one.scores("text", "bar", ())[keep])
    assert found["bar", "examples"][1] == auroc(GROUPS[keep] == "square", one.scores("examples", "bar", [8, 10])[keep])
    alone = [*GROUPS[:7].tolist(), "a", "b", "c", "d"]
    assert {group for _, group, *_ in a2n_rows(replace(one, types=alone))} == {"square"}


def table_of(values):
    """Rows of the contest: (group, k, draw, method) → AUROC after."""
    return pd.DataFrame([("c", *key, 50.0, after, 99.0, 10.0, 1.0) for key, after in values.items()], columns=COLUMNS)


def test_the_summary_takes_groups_first_and_draws_then():
    table = table_of({("a", 1, 0, "text"): 60.0, ("b", 1, 0, "text"): 80.0, ("a", 1, 1, "text"): 70.0, ("b", 1, 1, "text"): 90.0})
    found = kshot_summary(table).iloc[0]
    assert found["auroc_after"] == 75 and found["sd"] == pytest.approx(np.std([70, 80], ddof=1)) and found["n_groups"] == 2
    assert found["n_draws"] == 2 and found["gap_closed"] == pytest.approx(100 * 25 / 49) and found["removed_other"] == 1


def test_what_a_text_is_worth():
    after = {1: (60.0, 58.0, 55.0), 2: (61.0, 61.0, 57.0), 4: (62.0, 70.0, 61.0)}  # text, examples, bank
    rows = {("a", k, 0, m): v for k, own in after.items() for m, v in zip(("text", "examples", "bank"), own, strict=True)}
    rows |= {("a", k, 0, "nothing"): 52.0 for k in after}
    (row,) = kshot_worth(table_of(rows)).to_dict("records")
    assert row["delta_text"] == 8 and row["examples"] == 2 and np.isnan(row["bank"])
    rows |= {("a", 1, 1, m): v for m, v in {"text": 60.0, "examples": 66.0, "bank": 59.0, "nothing": 52.0}.items()}
    (row,) = kshot_worth(table_of(rows)).to_dict("records")
    assert row["examples"] == 1  # by the mean over draws
    assert (row["examples_draws"], row["bank_draws"]) == (50, 0)


def test_the_rules_of_the_selection():
    rows = [
        (0.5, 10.0, 0, 40.0, 3.0),
        (0.5, 20.0, 0, 40.5, 2.0),
        (0.6, 40.0, 0, 39.9, 1.5),
        (0.6, 20.0, 0, 39.8, 1.0),
        (0.7, 20.0, 0, 39.4, 0.0),
    ]
    table = pd.DataFrame([("none", "odds", *row, np.nan, False) for row in rows], columns=CANDIDATE)
    assert best_candidate(table) == 3  # within one percent of the best: what damps other defects least
    rows = [("none", "odds", 0.6, 20.0, weight, 40.0, 1.0, short, False) for weight, short in ((0, 0.0), (0.5, 0.4), (1, 0.6))]
    weights = pd.DataFrame(rows, columns=CANDIDATE)
    assert best_weight(weights) == 1 and best_weight(weights.assign(shortfall=0.7)) == 0


def test_the_selection_on_a_study(one, monkeypatch):
    values = {
        "TURNED": ("all",),
        "SEVERAL": ("nearest",),
        "SIMILARITIES": (0.5, 0.6),
        "SHARPNESSES": (20.0,),
        "TEXT_WEIGHTS": (0.0, 1.0),
        "KS": (1,),
        "DRAWS": 2,
    }
    for name, value in values.items():
        monkeypatch.setattr(f"nandlib.evaluation.example_selection.{name}", value)
    monkeypatch.setattr("nandlib.evaluation.example_selection.contest", lambda study, name: one)
    monkeypatch.setattr("nandlib.evaluation.contest.LEAST_LEFT", 2)
    table = select_examples([SimpleNamespace(name="toy", classes=lambda: ["plate"])], progress=False)
    assert table["similarity"].tolist()[:2] == [0.5, 0.6] and table["chosen"].sum() == 2 and len(table) == 4
    after = [
        auroc(draw.label, one.scores("examples", draw.group, draw.examples, ExampleConfig(similarity=0.5))[draw.keep])
        for draw in draws_of(one, (1,), 2)
    ]
    assert table.loc[0, "after_toy_1"] == pytest.approx(np.mean(after))
    lowered = [
        100
        * (1 - one.scores("examples", draw.group, draw.examples, ExampleConfig(similarity=0.5)) / one.scores("nothing", "", ()))[draw.keep]
        for draw in draws_of(one, (1,), 2)
    ]
    others = [own[draw.label].mean() for own, draw in zip(lowered, draws_of(one, (1,), 2), strict=True)]
    assert table.loc[0, "damped"] == pytest.approx(np.mean(others)) and table.loc[0, "damped"] > 0
    told = table[table["shortfall"].notna()].set_index("text_weight")
    assert told.loc[0.0, "shortfall"] <= told.loc[1.0, "shortfall"]


def test_the_defaults_are_what_the_selection_chose():
    table = pd.read_csv(ROOT / "figures/validation/kshot/selection.csv")
    first, second = table[table["shortfall"].isna()].reset_index(drop=True), table[table["shortfall"].notna()].reset_index(drop=True)
    chosen = second.loc[best_weight(second)]
    values = ["turned", "several", "similarity", "sharpness"]
    assert chosen[values].tolist() == first.loc[best_candidate(first), values].tolist()
    assert ExampleConfig(**chosen[[*values, "text_weight"]]) == ExampleConfig()
    assert table["chosen"].sum() == 2 and chosen["chosen"] and len(first) == 126 and len(second) == 5


def test_the_notebook_tells_it(project):
    with pytest.raises(DataError, match="the largest group of tiny has 4 images: the contest needs 5 or more"):
        kshot(open_study("tiny", project))
    shutil.copytree(ROOT / "figures/mini/kshot", project / "figures/tiny/kshot", ignore=shutil.ignore_patterns("*.ipynb", "*.png"))
    try:
        outputs, said = executed(project / "notebooks", "13_kshot_worth", "tiny")
        assert sum("image/png" in output.get("data", {}) for output in outputs) == 1
        first = pd.read_csv(ROOT / "figures/mini/kshot/intervals.csv").query("method == 'examples' and k == 1").iloc[0]
        assert f"k = 1: examples are {first['over_text']:+.1f} points [{first['over_text_low']:+.1f}," in said
    finally:
        shutil.rmtree(project / "figures/tiny/kshot")


@pytest.mark.parametrize(("key", "value"), [("image_score", "topk_mean"), ("base_normalisation", "train_normal")])
def test_scores_that_are_no_maxima_of_raw_maps_are_refused(key, value):
    study = open_study("mini", ROOT)
    nand = study.config.nand.model_copy(update={key: value})
    other = replace(study, config=study.config.model_copy(update={"nand": nand}))
    with pytest.raises(DataError, match=f"mini.yaml: nand.{key} is '{value}': the contest is measured with"):
        contest(other, "carpet")
