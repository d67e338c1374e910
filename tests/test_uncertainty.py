"""Intervals and tests against scipy, plain loops, simulated coverage, and published identities."""

import itertools
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.stats import beta
from sklearn.metrics import roc_auc_score
from statsmodels.api import OLS

from nandlib.errors import DataError
from nandlib.evaluation import statistics
from nandlib.evaluation.protocol import delta_table
from nandlib.evaluation.statistics import (
    AFTER,
    BEFORE,
    OTHERS,
    bootstrap,
    cluster_interval,
    delong,
    drawn_weights,
    holm,
    interval,
    placements,
    rank_permutation,
    sign_flips,
    weighted_auroc,
    wilcoxon,
)  # fmt: skip
from nandlib.evaluation.uncertainty import (
    DETECTOR_COLUMNS,
    GROUP_COLUMNS,
    LEAST_GAP,
    _gap_interval,
    delta_samples,
    detector_summary,
    gap_closed,
    origin_table,
    resample,
    uncertainty,
)
from nandlib.method.threshold import certain_threshold, conformal_threshold


def make(seed: int, n_good: int = 12, n_group: int = 8, gain: float = 0.5, detector: str = "d", class_name: str = "carpet") -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    own = ["good"] * n_good + ["thread"] * n_group + ["cut"] * n_group
    before = rng.normal(size=len(own)) + np.array([0.0 if g == "good" else 1.0 for g in own])
    frames = []
    for added in ("thread", "cut"):
        after = before - gain * np.array([g == added for g in own]) + 0.1 * rng.normal(size=len(own))
        values = {"detector": detector, "class": class_name, "image": [str(k) for k in range(len(own))], "group": own, "added": added}
        frames.append(pd.DataFrame(values | {"before": before, "after": after}))
    return pd.concat(frames, ignore_index=True)


def test_placements_average_to_auroc_with_ties():
    rng = np.random.default_rng(0)
    normal, abnormal = rng.integers(0, 5, 20).astype(float), rng.integers(1, 6, 15).astype(float)
    labels = np.r_[np.zeros(20), np.ones(15)]
    assert placements(normal, abnormal).mean() == pytest.approx(roc_auc_score(labels, np.r_[normal, abnormal]))


def test_bootstrap_is_paired_stratified_and_seeded():
    frame = make(1)
    first = frame[frame["added"] == "thread"]
    strata, before = first["group"].to_numpy(), first["before"].to_numpy()
    same = bootstrap(strata, before, {"thread": before, "cut": before}, resamples=200)
    assert np.array_equal(same[..., 0], same[..., 1])
    perfect = np.where(strata == "good", 0.0, 1.0)
    assert (bootstrap(strata, perfect, {"thread": perfect}, resamples=50)[..., 2] == 100).all()
    again = bootstrap(strata, before, {"thread": before, "cut": before}, resamples=200)
    assert np.array_equal(same, again)
    assert not np.array_equal(same, bootstrap(strata, before, {"thread": before, "cut": before}, seed=1, resamples=200))


def test_many_images_are_counted_by_their_order(monkeypatch):
    """Which gives the very numbers that pairs give, and needs no room for pairs."""
    rng = np.random.default_rng(0)
    label, scores = rng.random(60) < 0.4, rng.integers(0, 12, 60) / 4
    weights = drawn_weights(0, "x", label.astype(str), 30)
    normal, abnormal = ([values[kind] for values in (scores, scores + rng.integers(0, 3, 60) / 4)] for kind in (~label, label))
    strata, after = np.where(label, "cut", np.where(rng.random(60) < 0.3, "thread", "good")), {"thread": scores[::-1].copy()}
    pairs = weighted_auroc(label, scores, weights), delong(normal, abnormal), bootstrap(strata, scores, after)
    monkeypatch.setattr(statistics, "MANY", 1)
    ordered = weighted_auroc(label, scores, weights), delong(normal, abnormal), bootstrap(strata, scores, after)
    assert np.array_equal(pairs[0], ordered[0]) and pairs[1] == ordered[1]
    spread = pairs[2].std(0)
    assert (np.abs(pairs[2].mean(0) - ordered[2].mean(0)) < 4 * spread * np.sqrt(2 / len(pairs[2]))).all()  # four standard errors
    assert np.allclose(spread, ordered[2].std(0), rtol=0.1)
    assert np.array_equal(ordered[2], bootstrap(strata, scores, after)) and not np.array_equal(ordered[2][:50], ordered[2][50:100])


def test_bootstrap_spread_is_scipys():
    frame = make(3, 40, 25)
    part = frame[frame["added"] == "thread"]
    strata, before, after = part["group"].to_numpy(), part["before"].to_numpy(), part["after"].to_numpy()
    ours = bootstrap(strata, before, {"thread": after}, resamples=4000)
    indices = [np.flatnonzero(strata == g) for g in ("good", "thread", "cut")]

    def statistic(good, thread, cut):
        normal, other = np.r_[good, thread].astype(int), cut.astype(int)
        return placements(after[normal], after[other]).mean() - placements(before[normal], before[other]).mean()

    theirs = stats.bootstrap(indices, statistic, vectorized=False, n_resamples=1500, method="percentile", rng=np.random.default_rng(0))
    delta = (ours[:, 0, 1] - ours[:, 0, 0]) / 100
    assert delta.std() == pytest.approx(theirs.standard_error, rel=0.08)
    assert interval(delta) == pytest.approx(tuple(theirs.confidence_interval), abs=0.3 * theirs.standard_error)


def test_delong_by_plain_loops():
    frame = make(5)
    part = frame[frame["added"] == "cut"]
    normal = part["group"].isin(["good", "cut"]).to_numpy()
    before, after = part["before"].to_numpy(), part["after"].to_numpy()
    delta, error, p = delong((before[normal], after[normal]), (before[~normal], after[~normal]))
    psi = lambda a, b: 1.0 if b > a else 0.5 if a == b else 0.0
    inside, outside = np.flatnonzero(normal), np.flatnonzero(~normal)
    v10 = [[np.mean([psi(x[i], x[j]) for i in inside]) for j in outside] for x in (before, after)]
    v01 = [[np.mean([psi(x[i], x[j]) for j in outside]) for i in inside] for x in (before, after)]
    s10, s01 = np.cov(v10[0], v10[1]), np.cov(v01[0], v01[1])
    both = s10 / len(v10[0]) + s01 / len(v01[0])
    variance = both[0, 0] + both[1, 1] - 2 * both[0, 1]
    assert error == pytest.approx(100 * np.sqrt(variance))
    assert delta == pytest.approx(100 * (np.mean(v10[1]) - np.mean(v10[0])))
    assert p == pytest.approx(2 * stats.norm.sf(abs(delta) / error))


def test_delong_within_groups_by_plain_steps():
    rng = np.random.default_rng(3)
    before, after = rng.random(17), rng.random(17)
    kinds = [slice(0, 9), slice(9, 17)]
    strata = [np.repeat(["good", "hair", "alone"], (5, 3, 1)), np.repeat(["cut", "hole"], (5, 3))]
    delta, error, p = delong(*((before[kind], after[kind]) for kind in kinds), strata)
    assert delta == delong(*((before[kind], after[kind]) for kind in kinds))[0]
    places = (placements(after[kinds[0]], after[kinds[1]]) - placements(before[kinds[0]], before[kinds[1]])).astype(float)
    parts = []
    for axis, groups in enumerate(strata):
        moved = places.mean(axis)
        for name in set(groups):
            own = moved[groups == name]
            known = own if len(own) > 1 else moved
            parts.append((len(own) * known.var(ddof=1) / len(moved) ** 2, len(known) - 1))
    variance = sum(part for part, _ in parts)
    degrees = variance**2 / sum(part**2 / free for part, free in parts)
    assert error == pytest.approx(100 * np.sqrt(variance)) and p == pytest.approx(2 * stats.t.sf(abs(delta) / error, degrees))


def test_the_test_within_groups_keeps_its_level_where_one_group_moves():
    """A text damps its own group and the others so that Δ is 0 on the whole: in five of a hundred test sets a test may say otherwise, or in
    one of a thousand."""
    rng, p, shift = np.random.default_rng(0), np.empty((4000, 2)), 0.58
    kinds, strata = [slice(0, 28), slice(28, 52)], [np.repeat(["good", "own"], (20, 8)), np.repeat(["a", "b", "c"], 8)]
    for row in p:
        before = rng.normal(np.repeat([0.0, 2.0], (20, 32)), 1)
        after = before + rng.normal(0, 0.4, 52) - np.repeat([0, 1.5, shift], (20, 8, 24))
        given = [(before[kind], after[kind]) for kind in kinds]
        row[:] = [delong(*given, own)[2] for own in (strata, (None, None))]
    within, mixed = (p < 0.05).mean(0)
    assert 0.02 < within < 0.06 and mixed < 0.02  # the latter is far too careful
    assert (p[:, 0] < 0.001).mean() < 0.002


def test_delong_without_spread():
    same = np.arange(4.0)
    assert delong((same, same), (same + 9, same + 9))[::2] == (0.0, 1.0)
    assert delong((same, same), (same[:1], same[:1]))[2] == 1.0


def test_a_perfect_flip_is_noticed_and_few_images_prove_little():
    """Every rank moves alike: DeLong's variance is 0, and Δ as large as can be."""
    low, high = np.arange(20.0), 100 + np.arange(20.0)
    delta, error, p = delong((high, low), (low, high))
    assert delta == 100 and np.isnan(error) and p < 0.002
    few = delong((high[:2], low[:2]), (low[:2], high[:2]))[2]
    assert few == pytest.approx(2 / 2**4, abs=0.03)  # all four exchanged, or none


@pytest.mark.parametrize("count", [7, 13, 14, 20, 27])
def test_every_image_passing_one_other_is_no_spread(count):
    """All move alike; divided by these counts the shares differ by rounding, which is no spread either."""
    normal = 10.0 * np.arange(count)
    delta, error, p = delong((normal, normal), (normal - 1, normal + 1))
    assert delta == pytest.approx(100 / count) and np.isnan(error) and p > 1e-4


def test_rank_permutation_agrees_with_scipys():
    part = make(5, 14, 10).query("added == 'cut'")
    normal = part["group"].isin(["good", "cut"]).to_numpy()
    before, after = part["before"].to_numpy(), part["after"].to_numpy()
    ours = rank_permutation((before[normal], after[normal]), (before[~normal], after[~normal]), resamples=4000)
    ranks = stats.rankdata(before), stats.rankdata(after)

    def statistic(a, b, axis):  # AUROC from ranks, but for a constant factor and shift
        moved = np.moveaxis(stats.rankdata(b, axis=axis) - stats.rankdata(a, axis=axis), axis, -1)
        return moved[..., ~normal].sum(-1)

    theirs = stats.permutation_test(ranks, statistic, permutation_type="samples", n_resamples=2000, vectorized=True,
                                    rng=np.random.default_rng(0))  # fmt: skip
    gains = roc_auc_score(~normal, after) - roc_auc_score(~normal, before)
    assert theirs.statistic == pytest.approx(gains * normal.sum() * (~normal).sum())
    assert ours == pytest.approx(theirs.pvalue, abs=0.03)


def test_sign_flips_by_plain_enumeration():
    clusters = [np.array([1.0, 2.0]), np.array([-0.5]), np.array([3.0, 0.1, 0.2])]
    sums = [c.sum() for c in clusters]
    totals = [abs(sum(s * x for s, x in zip(signs, sums, strict=True))) for signs in itertools.product((1, -1), repeat=3)]
    assert sign_flips(clusters) == np.mean([t >= sum(sums) - 1e-9 for t in totals])
    assert sign_flips([np.ones(3)] * 18) < 0.001  # more clusters than are enumerated
    assert sign_flips([np.zeros(2)] * 5) == 1
    one = [np.full(20, 1.0)]  # twenty groups of one class are one observation, of which no p follows
    assert np.isnan(sign_flips(one))


def test_an_interval_over_clusters_is_that_of_statsmodels():
    rng = np.random.default_rng(0)
    clusters = [rng.normal(k, 1, n) for k, n in enumerate((1, 3, 4, 2, 5))]
    values, numbers = np.concatenate(clusters), np.repeat(range(5), [len(own) for own in clusters])
    fitted = OLS(values, np.ones_like(values)).fit(cov_type="cluster", cov_kwds={"groups": numbers}, use_t=True)
    assert cluster_interval(clusters) == pytest.approx(fitted.conf_int()[0])
    alone = [own[:1] for own in clusters]
    found = stats.ttest_1samp(np.concatenate(alone), 0).confidence_interval()
    assert cluster_interval(alone) == pytest.approx((found.low, found.high))
    assert np.isnan(cluster_interval(clusters[:1])).all()


@pytest.mark.parametrize("n", [59, 60, 100, 200, 400])
def test_a_certain_threshold_is_where_the_exact_bound_allows_it(n):
    """Clopper and Pearson's upper end of the share above it is the level at most, and would not be one image further down."""
    scores = np.random.default_rng(n).integers(0, 300, n) * 7.0 - 50  # some are equal
    found = certain_threshold(scores, 0.05, 0.95)

    def bound(value):
        above = int((scores > value).sum())
        return beta.ppf(0.95, above + 1, n - above)

    assert found in scores and bound(found) <= 0.05
    lower = scores[scores < found].max()
    assert bound(lower) > 0.05
    with pytest.raises(DataError, match="58 images vouch for no threshold at a level of 0.05 with a confidence of 0.95: give 59 or more"):
        certain_threshold(np.arange(58), 0.05, 0.95)
    with pytest.raises(DataError, match="level and confidence are shares between 0 and 1, not 0 and 0.95"):
        certain_threshold(np.arange(99), 0, 0.95)


def test_a_conformal_threshold_keeps_its_promise():
    rng = np.random.default_rng(0)
    for n, level in ((16, 1 / 17), (19, 0.05), (40, 2 / 41)):
        draws = rng.normal(size=(4000, n + 1))
        found = [conformal_threshold(row[:n], 0.05) for row in draws]
        assert {round(attained, 9) for _, attained in found} == {round(level, 9)}
        rejected = np.mean([row[n] > threshold for row, (threshold, _) in zip(draws, found, strict=True)])
        assert rejected == pytest.approx(level, abs=0.015)
    with pytest.raises(DataError, match="is no number"):
        conformal_threshold([1.0, 2.0, np.nan], 0.05)


def test_classes_with_the_same_groups_are_drawn_on_their_own():
    part = make(1).query("added == 'thread'")
    strata, before = part["group"].to_numpy(), part["before"].to_numpy()
    one, two = (bootstrap(strata, before, {"thread": before}, name=name, resamples=50) for name in ("carpet", "tile"))
    assert not np.array_equal(one, two)


def test_a_group_of_one_image_has_no_interval_and_is_counted():
    frame = make(2)
    thread = frame["image"][frame["group"] == "thread"].unique()
    groups, detectors = uncertainty(resample(frame[~frame["image"].isin(thread[1:])], resamples=50))
    rows = groups.set_index("group")
    assert (groups["n_single"] == 1).all() and detectors["n_single"].item() == 1
    assert np.isnan(rows.loc["thread", ["ci_low", "ci_high"]].astype(float)).all()
    assert np.isfinite(rows.loc["cut", ["ci_low", "ci_high"]].astype(float)).all()
    assert (uncertainty(resample(frame, resamples=50))[0]["n_single"] == 0).all()


def test_holm_is_the_textbooks():
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]).tolist() == pytest.approx([1.0, 1.0])


def test_wilcoxon():
    assert wilcoxon([0, 0, 0]) == 1
    assert wilcoxon(np.arange(1.0, 15)) < 0.001
    assert wilcoxon([0.25, -0.25 + 1e-14, 1, 2]) == wilcoxon([0.25, -0.25, 1, 2])  # what rounding parts ties
    assert np.isnan(wilcoxon([1.0]))


def test_the_share_of_a_gap_needs_a_gap():
    assert gap_closed(70.6, 75.1, 85.0) == pytest.approx(31.25)
    assert gap_closed(80.0, 84.0, 80.0 + LEAST_GAP) == pytest.approx(200)  # a mark, no bound
    assert np.isnan(gap_closed(80.0, 81.0, 81.9)) and np.isnan(gap_closed(80.0, 81.0, 75.0))


def test_a_resample_without_a_gap_lies_on_the_side_of_its_gain():
    gain = np.linspace(1, 2, 1000)
    gap = np.r_[np.full(10, -0.01), np.zeros(2), np.linspace(4, 6, 988)]
    means = np.zeros((1000, 3))
    means[:, AFTER], means[:, OTHERS] = gain, gap
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        low, high = _gap_interval(means)
        lowest, highest = _gap_interval(np.c_[means[:, BEFORE], -means[:, AFTER], means[:, OTHERS]])
    shares = np.sort(100 * gain[12:] / gap[12:])
    assert (low, high) == pytest.approx((shares[25], shares[974]), abs=0.1) and (lowest, highest) == pytest.approx((-high, -low))


def test_a_gap_whose_interval_reaches_0_has_no_share():
    """Both where it is clear and where it is not, the point and the interval go together."""
    found = {}
    for name, shift in (("clear", 0.0), ("unclear", 1.0)):
        frame = make(4, 40, 12)
        early = frame["group"].isin(["thread", "cut"])
        frame["before"] = frame["before"] - shift * early * 0.93  # the defects look good: they hardly stand in the way of anything
        row = detector_summary(delta_table(frame), uncertainty(resample(frame, resamples=400))[1]).iloc[0]
        found[name] = row[["gap_closed", "gap_closed_low", "gap_closed_high"]].astype(float)
    assert found["clear"].notna().all() and found["clear"].iloc[1] < found["clear"].iloc[0] < found["clear"].iloc[2]
    assert found["unclear"].isna().all()


def test_a_true_gain_is_significant_and_none_is_not():
    frames = [make(k, 40, 30, gain, d, c) for d, gain in (("real", 2.0), ("none", 0.0)) for k, c in enumerate(("carpet", "tile"))]
    groups, detectors = uncertainty(resample(pd.concat(frames), resamples=500))
    assert groups.columns.tolist() == GROUP_COLUMNS
    assert detectors.columns.tolist() == DETECTOR_COLUMNS
    assert detectors.set_index("detector").loc["real", ["n_better", "n_worse"]].tolist() == [4, 0]
    real, none = groups[groups["detector"] == "real"], groups[groups["detector"] == "none"]
    assert (real["ci_low"] > 0).all()
    assert (real["p_holm"] < 0.05).all()
    assert ((none["ci_low"] < 0) & (none["ci_high"] > 0)).mean() >= 0.75
    assert (none["p_holm"] > 0.05).all()
    mean = delta_table(pd.concat(frames)).groupby("detector")["delta"].mean()
    for row in detectors.itertuples():
        assert row.delta_low < mean[row.detector] < row.delta_high
        assert row.gap_closed_low < row.gap_closed_high


def test_one_good_image_gives_no_interval():
    frame = make(0, 1, 20, 2.0, "d", "carpet")
    draws = resample(frame, resamples=50)
    groups, detectors = uncertainty(draws)
    assert groups[["ci_low", "ci_high"]].isna().all(axis=None) and detectors.loc[0, ["delta_low", "gap_closed_high"]].isna().all()
    assert np.isnan(delta_samples(draws)["d"]).all()
    table = delta_table(frame).merge(groups[["class", "group", "p_holm"]]).assign(origin="given")
    assert origin_table(draws, table)[["delta_low", "delta_high"]].isna().all(axis=None)


def test_intervals_cover_the_truth():
    """95 % intervals of a known Δ (a shift between normal distributions) over many simulated test sets."""
    shift, hits, n = 1.0, 0, 150
    truth = 100 * (
        (stats.norm.cdf((1.0 - 0.0) / np.sqrt(2)) * 30 + stats.norm.cdf(shift / np.sqrt(2)) * 20) / 50
        - (stats.norm.cdf(1.0 / np.sqrt(2)) * 30 + 0.5 * 20) / 50
    )
    for seed in range(n):
        rng = np.random.default_rng(seed)
        strata = np.array(["good"] * 30 + ["thread"] * 20 + ["cut"] * 25)
        before = rng.normal(size=75) + (strata != "good")
        after = before - shift * (strata == "thread")
        samples = bootstrap(strata, before, {"thread": after}, seed=seed, resamples=400)
        low, high = interval(samples[:, 0, 1] - samples[:, 0, 0])
        hits += low <= truth <= high
    assert 0.88 <= hits / n <= 0.99


def test_delong_needs_two_images_of_a_kind():
    before, after = np.array([1.0, 2.0, 5.0]), np.array([1.0, 4.0, 3.0])
    for few in ([2.5], [2.5, 4.5]):
        normal, abnormal = (before, after), (np.array(few), np.array(few))
        delta, error, p = delong(normal, abnormal)
        pairs = [(float(x > b) - float(x > a)) for x in few for a, b in zip(before, after, strict=True)]
        assert delta == pytest.approx(100 * np.mean(pairs))
        if len(few) == 1:
            assert np.isnan(error) and p == rank_permutation(normal, abnormal)
        else:
            table = np.array(pairs).reshape(2, 3)
            assert error == pytest.approx(100 * np.sqrt(table.mean(1).var(ddof=1) / 2 + table.mean(0).var(ddof=1) / 3))


def test_exact_and_random_sign_flips_agree():
    """Up to 16 clusters all signs are tried, beyond that some."""
    rng = np.random.default_rng(5)
    sums = rng.normal(0.4, 1, 16)
    signs = np.array(list(itertools.product([-1, 1], repeat=16)))
    exact = np.mean(np.abs(signs @ sums) >= abs(sums.sum()) - 1e-9)
    assert sign_flips([np.array([value]) for value in sums]) == exact
    assert sign_flips([np.array([value]) for value in (*sums, 0.0)]) == pytest.approx(exact, abs=0.01)


def test_an_interval_leaves_out_as_much_on_either_side():
    assert interval(np.arange(1001.0)) == pytest.approx((25.0, 975.0))


def test_wilcoxon_of_no_differences():
    assert [wilcoxon(np.zeros(n)) for n in (3, 30, 100)] == [1.0, 1.0, 1.0]
