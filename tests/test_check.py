"""Will a text do harm? The verdict by hand, on images, and as a classifier of harm."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.stats import beta
from test_examples import BARS, NORMALS, SQUARES
from tiny_project import ROOT
from typer.testing import CliRunner

from nandlib import add_normality, fit_detector, load_model
from nandlib.cli import app
from nandlib.errors import DataError
from nandlib.evaluation.harm import DRAWS, best_threshold, harm_summary, harm_table
from nandlib.method.check import LOST, Rate, Scores, check, lost_detection
from nandlib.method.threshold import Threshold
from nandlib.study.frames import read_scores

AT_4 = Threshold(4, 0.05, 9)
NONE = Scores(np.empty(0), np.empty(0))
GOOD = Scores(np.array([1.0, 2, 3, 4]), np.array([1.0, 2, 3, 4]))


def scores(before, after):
    return Scores(np.array(before, float), np.array(after, float))


def test_an_exact_interval():
    low, high = Rate(2, 10).interval
    assert low == pytest.approx(100 * beta.ppf(0.025, 2, 9)) and high == pytest.approx(100 * beta.ppf(0.975, 3, 8))
    assert Rate(0, 5).interval[0] == 0 and str(Rate(5, 5)).startswith("5 of 5 (48 to 100 %)")


def test_what_is_lost_of_the_detection():
    assert lost_detection(GOOD, scores([5, 6], [5, 6])) == 0
    assert lost_detection(GOOD, scores([5, 6], [0, 6])) == pytest.approx(100)  # AUROC from 100 to 50
    assert lost_detection(GOOD, scores([0, 0.5], [0, 0])) == 0  # nothing was detected


@pytest.mark.parametrize(
    ("rejects", "accepted", "rejected", "verdict", "why"),
    [
        (NONE, NONE, NONE, "does nothing", "less than 1 %"),
        (scores([8, 9], [7.99, 9]), NONE, NONE, "does nothing", "show an example"),
        (scores([8, 9], [2, 9]), NONE, NONE, "may harm", "62 % of what tells rejected from normal images is lost"),
        (scores([8, 9], [6, 9]), NONE, NONE, "no harm seen", "only labels tell"),
        (NONE, scores([8, 9], [2, 3]), scores([7, 9], [7, 9]), "helps", "from 79 to 100 %"),
        (NONE, scores([8, 9], [8, 9]), scores([7, 9.5], [1, 2]), "harms", "show an example instead"),
        (NONE, scores([8, 9], [7, 8]), scores([10, 11], [10, 11]), "no harm seen", "more images of either kind"),
        (scores([8] * 300, [8] * 300), scores([8, 9], [2, 3]), scores([7, 9], [7, 9]), "helps", "from 79 to 100 %"),  # few of very many
        (NONE, scores([8, 9], [2, 3]), NONE, "not known", "no image was given that may show a defect"),  # what was asked for
        (scores([0, 0.5], [0, 0]), NONE, NONE, "not known", "does not tell these rejects from normal images (AUROC"),
    ],
)
def test_verdicts(rejects, accepted, rejected, verdict, why):
    found = check(GOOD, rejects, accepted, rejected, AT_4)
    assert found.verdict == verdict and why in str(found)


def test_rates_at_the_threshold():
    found = check(GOOD, NONE, scores([8, 9, 3], [2, 9, 3]), scores([7, 9], [7, 1]), AT_4)
    assert (found.overkill_before, found.overkill_after) == (Rate(2, 3), Rate(1, 3))
    assert (found.escapes_before, found.escapes_after) == (Rate(0, 2), Rate(1, 2))
    assert found.removed_rejects == pytest.approx(100 * (0.75 + 8 / 9) / 5)


@pytest.fixture(scope="module")
def adapted():
    model = load_model("mini")
    return add_normality(fit_detector("patchcore", model, normals=NORMALS[:-3]), examples=SQUARES[:1], model=model)


def test_of_an_adapted_detector(adapted):
    found = adapted.check(NORMALS[-3:], accepted=SQUARES[1:], rejected=BARS)
    assert found.verdict == "helps" and found.separation_after > found.separation_before
    base = adapted.detector(SQUARES[1:]).max((1, 2))
    assert found.overkill_after.count == int((adapted.scores(SQUARES[1:]) > adapted.detector(NORMALS[-3:]).max()).sum())
    assert found.overkill_before.count == int((base > adapted.detector(NORMALS[-3:]).max()).sum())
    assert adapted.check(NORMALS[-3:], accepted=BARS, rejected=SQUARES[1:]).verdict == "harms"
    assert adapted.calibrate(NORMALS[-3:]).check(NORMALS[-3:], SQUARES[1:]).lost >= LOST  # all rejects are what was added


def test_what_cannot_be_checked(adapted):
    with pytest.raises(DataError, match="an added normality and some normal images: give normals"):
        adapted.check([])
    with pytest.raises(DataError, match="an added normality"):
        adapted.remove("example").check(NORMALS[-3:])
    with pytest.raises(DataError, match="image 1 of rejected is image 2 of accepted"):
        adapted.check(NORMALS[-3:], accepted=SQUARES[1:3], rejected=[np.asarray(SQUARES[2])])
    for kind in ("rejects", "accepted"):
        with pytest.raises(DataError, match=f"{kind} must be a sequence of images, not one"):
            adapted.check(NORMALS[-3:], **{kind: np.asarray(SQUARES[1])})
    with pytest.raises(DataError, match="normals must be a sequence of images, not one"):
        adapted.check(np.asarray(NORMALS[-1]))


def test_on_the_command_line(tmp_path):
    folders = {"fit": NORMALS[:-3], "good": NORMALS[-3:], "shown": SQUARES[:1], "accepted": SQUARES[1:], "rejected": BARS}
    for folder, images in folders.items():
        (tmp_path / folder).mkdir()
        for k, image in enumerate(images):
            image.save(tmp_path / folder / f"{k}.png")
    words = ["check", str(tmp_path / "good"), "--detector", "patchcore", "--normals", str(tmp_path / "fit")]
    words += ["--accept", str(tmp_path / "shown"), "--accepted", str(tmp_path / "accepted"), "--rejected", str(tmp_path / "rejected")]
    said = json.loads(CliRunner().invoke(app, [*words[: words.index("--rejected")], "--json"]).stdout, parse_constant=pytest.fail)
    assert said["separation_before"] is None, "missing, which JSON has no NaN for"
    adapted = add_normality(fit_detector("patchcore", load_model(), normals=NORMALS[:-3]), examples=[SQUARES[0]])
    said = json.loads(
        CliRunner().invoke(app, [*words[: words.index("--accepted")], "--rejects", str(tmp_path / "rejected"), "--json"]).stdout
    )
    expected = adapted.check(NORMALS[-3:], BARS)
    assert said["verdict"] == expected.verdict and said["removed_rejects"] == pytest.approx(expected.removed_rejects, rel=1e-3)
    assert said["lost"] == pytest.approx(expected.lost, rel=1e-3) and said["removed_rejects"] > 0
    said = json.loads(CliRunner().invoke(app, [*words, "--fresh", "0.5", "--json"]).stdout)
    fresh = said["fresh"]
    assert said["verdict"] == "helps"
    after = adapted.scores([*NORMALS[-3:], *SQUARES[1:]])
    assert fresh["value"] == pytest.approx(after.max(), rel=1e-4), "of six none: with one above, chance is (1 + 6) / 2^6 > 0.05"
    assert fresh["escapes"] == (adapted.scores(BARS) <= fresh["value"]).sum() and fresh["n_normals"] == 6
    said = CliRunner().invoke(app, [*words, "--fresh", "0.5"]).stdout
    assert (
        said.startswith("helps: the AUROC of what should pass")
        and "escapes (rejected images that pass it): " in said
        and "bounds the defects" in said
    )
    assert "fresh threshold" in said
    with pytest.raises(DataError, match=r"images vouch for no threshold at a level of 0.05 with a confidence of 0.95: give 59 or more"):
        CliRunner().invoke(app, [*words, "--fresh", "0.05"], catch_exceptions=False)
    SQUARES[0].save(tmp_path / "accepted/other_name.png")
    with pytest.raises(DataError, match="image 4 of accepted is image 1 of --accept: every image is of one kind"):
        CliRunner().invoke(app, words, catch_exceptions=False)


def frame(after):
    """Twelve good images, eight of each of two types; their scores after type a was added."""
    groups = np.repeat(["good", "a", "b"], [12, 8, 8])
    before = np.r_[np.linspace(0, 1, 12), np.linspace(2, 3, 8), np.linspace(2, 3, 8)]
    rows = [("d", "c", "a", f"{k}", g, x, after(g, x)) for k, (g, x) in enumerate(zip(groups, before, strict=True))]
    rows += [("d", "c", "b", f"{k}", g, x, x * 0.5) for k, (g, x) in enumerate(zip(groups, before, strict=True))]
    return pd.DataFrame(rows, columns=["detector", "class", "added", "image", "group", "before", "after"])


def test_harm_is_foreseen_from_scores():
    useful = harm_table(frame(lambda g, x: x * (0.2 if g == "a" else 1)))
    harmful = harm_table(frame(lambda g, x: x * (0.2 if g == "b" else 1)))
    a, b = (table[table["group"] == "a"] for table in (useful, harmful))
    assert (a.groupby("images")["verdict"].size() == DRAWS).all() and a["images"].nunique() == 3
    assert (a["delta"] > 0).all() and (b["delta"] < -2).all()
    assert (a["signal"] * np.where(a["images"] == "unlabelled", 1, -1) > 0).all() and (b["signal"] > 0).all()
    both = pd.concat([a.assign(detector="x"), b])
    for _, labelled in harm_summary(both).iloc[1:].iterrows():
        assert labelled[["harmful", "useful", "harmful_texts", "auroc", "caught", "kept", "unsaid"]].tolist() == [1, 1, 1, 100, 100, 100, 0]
    assert best_threshold(both) in range(51)
    assert np.isnan(best_threshold(both[both["delta"] > 0]))


def test_a_verdict_that_says_nothing_neither_catches_nor_keeps():
    nothing = harm_table(frame(lambda g, x: x * 0.995))  # less than 1 % is removed
    nothing = nothing[nothing["group"] == "a"].assign(delta=1.0)
    assert set(nothing["verdict"]) == {"does nothing"}
    for delta, share in ((1.0, "kept"), (-3.0, "caught")):
        assert (harm_summary(nothing.assign(delta=delta))[[share, "unsaid"]].to_numpy() == [0, 100]).all()
    unknown = frame(lambda g, x: x * 0.5)
    unknown["before"] = np.where(unknown["group"] == "good", 9.0, unknown["before"])  # good images score highest
    own = harm_table(unknown).query("images == 'unlabelled'")
    assert set(own["verdict"]) == {"not known"}


def test_the_threshold_is_what_the_validation_products_give():
    scores = read_scores(ROOT / "figures/validation/scores.parquet")
    assert best_threshold(harm_table(scores)) == LOST


def test_of_a_score_of_nothing_nothing_is_removed():
    """Maps that are clamped have images of score 0."""
    nothing = np.zeros(5)
    assert Scores(nothing, nothing).removed == 0
    assert Scores(np.array([0.0, 2.0]), np.array([0.0, 1.0])).removed == 25
    found = check(Scores(nothing, nothing), scores([8, 9], [8, 9]), NONE, NONE, AT_4)
    assert found.verdict == "does nothing" and found.removed_normals == 0
