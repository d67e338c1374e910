"""The protocol against plain loops, the identity, and the paper's own arithmetic."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score

from nandlib.data.groups import load_grouping
from nandlib.errors import DataError
from nandlib.evaluation import paper
from nandlib.evaluation.protocol import (
    DELTA_COLUMNS,
    auroc,
    average_precision_and_f1_max,
    base_table,
    check_identity,
    class_averages,
    delta_table,
    detector_table,
    identity_residuals,
    summary,
)
from nandlib.show import tables


def plain_auroc(labels, scores):
    """Share of (normal, abnormal) pairs in the right order; ties count half."""
    wins = pairs = 0.0
    for a, x in zip(labels, scores, strict=True):
        for b, y in zip(labels, scores, strict=True):
            if a == 1 and b == 0:
                pairs += 1
                wins += 1.0 if x > y else 0.5 if x == y else 0.0
    return 100 * wins / pairs


def make_scores(seed=0, groups=("thread", "cut", "color"), sizes=(4, 7, 2), n_good=5, detector="d", class_name="carpet", always=0):
    rng = np.random.default_rng(seed)
    own = ["good"] * n_good + [g for g, n in zip(groups, sizes, strict=True) for _ in range(n)] + [""] * always
    before = rng.integers(0, 12, len(own)) / 4.0  # with ties
    rows = []
    for added in groups:
        after = before * rng.random(len(own))
        for k, group in enumerate(own):
            rows.append((detector, class_name, f"{k}.png", group, added, before[k], after[k]))
    return pd.DataFrame(rows, columns=["detector", "class", "image", "group", "added", "before", "after"])


def test_auroc_counts_pairs():
    rng = np.random.default_rng(3)
    labels, scores = rng.integers(0, 2, 40), rng.integers(0, 6, 40)
    assert auroc(labels, scores) == pytest.approx(plain_auroc(labels, scores), abs=1e-12)


def test_auroc_is_never_flipped():
    assert auroc([0, 0, 1, 1], [3, 4, 1, 2]) == 0


def test_auroc_needs_a_number_for_each_label():
    for scores in ([0.1, np.nan, 0.3], [0.1, 0.2]):
        with pytest.raises(DataError, match="a score, a number, for each label"):
            auroc([0, 1, 1], scores)


def test_auroc_of_one_label_is_an_error():
    with pytest.raises(DataError, match="one group only"):
        auroc([1, 1], [0.1, 0.2])


def test_delta_table_by_plain_loops():
    scores = make_scores(always=2)
    table = delta_table(scores)
    for row in table.itertuples():
        part = scores[scores["added"] == row.group]
        labels = [0 if g in ("good", row.group) else 1 for g in part["group"]]
        assert row.auroc_before == pytest.approx(plain_auroc(labels, part["before"]), abs=1e-10)
        assert row.auroc_after == pytest.approx(plain_auroc(labels, part["after"]), abs=1e-10)
        rest = part[part["group"] != row.group]
        assert row.auroc_others == pytest.approx(plain_auroc([int(g != "good") for g in rest["group"]], rest["before"]), abs=1e-10)
        assert (row.n_good, row.n_group, row.n_other) == (
            labels.count(0) - (part["group"] == row.group).sum(),
            (part["group"] == row.group).sum(),
            sum(labels),
        )
        assert row.delta == row.auroc_after - row.auroc_before


def plain_precision_recall(labels, scores):
    """By threshold, from the highest: precision and recall."""
    labels, scores = np.asarray(labels), np.asarray(scores)
    return [(labels[scores >= t].mean(), labels[scores >= t].sum() / labels.sum()) for t in sorted(set(scores), reverse=True)]


def test_average_precision_and_f1_by_plain_loops():
    scores = make_scores(always=2)
    for row in delta_table(scores).to_dict("records"):
        part = scores[scores["added"] == row["group"]]
        labels = [0 if g in ("good", row["group"]) else 1 for g in part["group"]]
        for when in ("before", "after"):
            curve = plain_precision_recall(labels, part[when])
            steps = np.diff([0.0, *(recall for _, recall in curve)])
            area = sum(step * precision for step, (precision, _) in zip(steps, curve, strict=True))
            assert row[f"ap_{when}"] == pytest.approx(100 * area)
            assert row[f"f1max_{when}"] == pytest.approx(100 * max(2 * p * r / (p + r) for p, r in curve if r > 0))


def test_identity_holds_for_any_scores():
    for seed in range(20):
        scores = make_scores(seed, sizes=(seed % 4 + 1, 3, 5), n_good=seed % 3 + 1)
        residuals = identity_residuals(delta_table(scores), base_table(scores), scores)
        assert residuals["residual"].abs().max() < 1e-12


def test_identity_fails_if_good_images_do_not_count_as_normal():
    scores = make_scores()
    table = delta_table(scores)
    broken = table.assign(auroc_before=table["auroc_others"])
    assert identity_residuals(broken, base_table(scores), scores)["residual"].abs().max() > 1e-3


def test_identity_leaves_out_classes_with_images_that_always_stay_abnormal():
    scores = make_scores(always=3)
    assert identity_residuals(delta_table(scores), base_table(scores), scores).empty


def test_averages_are_over_groups_then_classes():
    one, two = make_scores(0), make_scores(1, groups=("a", "b"), sizes=(3, 3), class_name="grid")
    deltas = delta_table(pd.concat([one, two]))
    means = class_averages(deltas)
    carpet = deltas[deltas["class"] == "carpet"]["auroc_after"].mean()
    grid = deltas[deltas["class"] == "grid"]["auroc_after"].mean()
    assert means["auroc_after"].tolist() == pytest.approx([carpet, grid])
    table = detector_table(deltas)
    assert table["auroc_after"].item() == pytest.approx((carpet + grid) / 2)
    assert table["n_groups"].item() == 5
    assert table["n_improved"].item() == (deltas["delta"] > 0).sum()
    residuals = identity_residuals(deltas, base_table(pd.concat([one, two])), pd.concat([one, two]))
    assert summary(deltas, residuals)["d"]["n_groups"] == 5


def test_the_papers_table2_adds_up():
    table = paper.table2()
    groups, averages = table[table["group"] != "average"], table[table["group"] == "average"].set_index("class")
    assert len(groups) == 56
    means = groups.groupby("class")[["auroc_before", "auroc_after"]].mean()
    assert len(means) == 14
    difference = (means - averages.drop("average")[["auroc_before", "auroc_after"]]).abs()
    # printed to one decimal: groups and means are each off by up to 0.05
    assert difference.to_numpy().max() < 0.1
    assert abs(means["auroc_before"].mean() - 70.6) < 0.1
    assert abs(means["auroc_after"].mean() - 75.1) < 0.1
    assert (paper.deltas()["delta"] > 0).sum() == 39


def test_the_papers_table2_has_the_groups_of_table1():
    grouping = load_grouping("mvtec_ad").classes
    ours = {(c, g) for c, groups in grouping.items() for g in groups}
    table = paper.deltas()
    assert set(zip(table["class"], table["group"], strict=True)) == ours


def test_table2_layout_puts_the_average_first():
    layout = tables.table2_layout(delta_table(make_scores()).drop(columns="detector").assign(origin="given"))
    assert layout["group"].tolist() == ["average", "color", "cut", "thread", "average"]  # as the paper orders them
    assert layout["paper_before"].tolist() == [77.9, 91.6, 77.0, 73.6, 70.6]
    assert "–" not in tables.markdown(layout)
    foreign = delta_table(make_scores(class_name="door")).drop(columns="detector").assign(origin="given")
    assert "paper_before" not in tables.table2_layout(foreign)
    table3 = detector_table(delta_table(make_scores(detector="aprilgan")))
    assert tables.with_paper(table3, ["door"]) is table3
    both = tables.with_intervals(pd.DataFrame({"a": [1.0, 2.0], "a_low": [0.04, None], "a_high": [2.0, 3.0], "b": ["x", "y"]}))
    assert both.to_dict("list") == {"a": [1.0, 2.0], "a_ci": ["[0.0, 2.0]", "–"], "b": ["x", "y"]}
    assert tables.with_paper(table3, set(paper.deltas()["class"]))["paper_before"].tolist() == [70.6]


def test_a_broken_identity_stops_the_study():
    scores = make_scores()
    deltas, base = delta_table(scores), base_table(scores)
    check_identity(identity_residuals(deltas, base, scores))
    with pytest.raises(DataError, match="d on class 'carpet' breaks the identity"):
        check_identity(identity_residuals(deltas.assign(auroc_before=50.0), base, scores))


def test_published_sentences():
    assert "73.6 → 83.5 (+9.9)" in paper.published("carpet", "thread")
    assert paper.published("carpet", "nothing") == ""
    assert "70.6 → 75.1, 39 of 56" in paper.published_overall()


def test_tables_keep_the_order_of_the_scores_and_count_what_they_say():
    """Detectors and classes as they come, not by the alphabet."""
    parts = [make_scores(k, detector=d, class_name=c) for k, (d, c) in enumerate((d, c) for d in ("z", "a") for c in ("tile", "carpet"))]
    scores = pd.concat(parts, ignore_index=True)
    deltas, base = delta_table(scores), base_table(scores)
    for table in (base, class_averages(deltas), identity_residuals(deltas, base, scores)):
        assert list(zip(table["detector"], table["class"], strict=True)) == [("z", "tile"), ("z", "carpet"), ("a", "tile"), ("a", "carpet")]
    assert detector_table(deltas)["detector"].tolist() == ["z", "a"]
    assert deltas["group"].tolist() == ["thread", "cut", "color"] * 4
    assert (base["n_good"] == 5).all() and (base["n_anomalous"] == 13).all()
    once = scores[(scores["detector"] == "a") & (scores["class"] == "carpet") & (scores["added"] == "cut")]
    assert base["auroc"].iloc[3] == pytest.approx(plain_auroc((once["group"] != "good").astype(int), once["before"]))


def test_a_gain_of_nothing_is_no_improvement():
    deltas = pd.DataFrame(
        [("d", "c", g, 50.0, 50.0 + x, x, 60.0) for g, x in (("a", 0.0), ("b", 1.0), ("e", -1.0))],
        columns=["detector", "class", "group", "auroc_before", "auroc_after", "delta", "auroc_others"],
    )
    found = detector_table(deltas)
    assert found["n_improved"].item() == 1 and found["n_groups"].item() == 3
    residuals = pd.DataFrame([("d", "c", -0.25), ("d", "e", 0.125)], columns=["detector", "class", "residual"])
    said = summary(deltas, residuals)
    assert said["d"] == {"auroc_before": 50.0, "auroc_after": 50.0, "delta": 0.0, "n_improved": 1, "n_groups": 3}
    assert isinstance(said["d"]["n_improved"], int) and isinstance(said["d"]["auroc_before"], float)
    assert said["identity_residual_max"] == 0.25 and summary(deltas, residuals[:0])["identity_residual_max"] is None


def test_the_identity_is_relative_and_its_tolerance_allowed():
    scores = make_scores()
    deltas, base = delta_table(scores), base_table(scores)
    moved = deltas.assign(auroc_before=deltas["auroc_before"] + [2.0, 0, 0])  # thread: 4 images, 9 others, 5 good
    n, total, good = np.array([4, 7, 2]), 13, 5
    right = 2 * good * total * base["auroc"].item() / 100 + (total**2 - (n**2).sum()) / 2
    residual = identity_residuals(moved, base, scores)
    assert residual["residual"].item() == pytest.approx((good + 4) * 9 * 0.02 / right, rel=1e-9)
    check_identity(residual, tolerance=float(residual["residual"].item()))
    with pytest.raises(DataError, match="breaks the identity"):
        check_identity(residual, tolerance=0.99 * float(residual["residual"].item()))


def test_precision_columns_are_the_last_four():
    scores = make_scores()
    short, long = delta_table(scores, precision=False), delta_table(scores)
    assert long.columns[:-4].tolist() == short.columns.tolist() and long.columns[-4:].tolist() == DELTA_COLUMNS[-4:]
    pd.testing.assert_frame_equal(long[short.columns], short)


def test_f1_of_rare_and_badly_found_defects():
    """The best threshold need not be one where precision and recall are large."""
    rng = np.random.default_rng(2)
    labels = np.r_[np.ones(5, int), np.zeros(95, int)]
    scores = np.r_[4.0, 3.5, 0, 0, 0, 3.9, rng.normal(0.5, 0.5, 94)]
    best = 0.0
    for limit in scores:
        found = scores >= limit
        right = int((found & (labels == 1)).sum())
        best = max(best, 200 * right / (found.sum() + 5))
    precision, recall = 2 / 3, 2 / 5
    average, f1 = average_precision_and_f1_max(labels, scores)
    assert average == pytest.approx(100 * average_precision_score(labels, scores))
    assert f1 == pytest.approx(best) == pytest.approx(200 * precision * recall / (precision + recall))
    few = np.r_[4.0, 0, 0, 0, 0, 5.0, 4.5, rng.normal(0.5, 0.5, 93).clip(0.01)]  # one of the three highest: precision 1/3, recall 1/5
    assert average_precision_and_f1_max(labels, few)[1] == pytest.approx(25)


def test_without_good_images_there_is_no_protocol():
    rows = [("d", "bolt", str(k), group, "dent", 1.0 * k, 1.0 * k) for k, group in enumerate(["dent", "dent", "scratch", "rust"])]
    with pytest.raises(DataError, match="class 'bolt' has no good test images"):
        delta_table(pd.DataFrame(rows, columns=["detector", "class", "image", "group", "added", "before", "after"]))
