"""The protocol where groups are added by example, on a contestant whose scores are known."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from nandlib.errors import DataError
from nandlib.evaluation.result_tables import shown_tables
from nandlib.evaluation.shown import shown_scores
from nandlib.evaluation.uncertainty import GIVEN
from nandlib.study.frames import SCORES

GROUPS = np.repeat(["good", "scratch", "dent", "rare"], [6, 9, 8, 3])


@dataclass
class Damped:
    """Adding a group leaves a quarter of its scores; remembers what was shown."""

    class_name: str = "bolt"
    groups: np.ndarray = field(default_factory=lambda: GROUPS)
    shown: dict = field(default_factory=dict)

    @property
    def added(self):
        return list(dict.fromkeys(self.groups[self.groups != "good"]))

    def scores(self, method, group, examples):
        before = np.arange(len(self.groups), dtype=float) + 10
        if method == "nothing":
            return before
        assert method == "examples" and set(self.groups[list(examples)]) == {group}
        self.shown[group] = set(examples)
        return np.where(self.groups == group, before / 4, before)


def test_one_test_set_serves_all_groups():
    """What is shown of any group leaves for all; a group that is too small always stays abnormal."""
    one = Damped()
    scores = SCORES.validate(shown_scores(one, "patchcore", 4))
    assert set(scores["added"]) == set(one.shown) == {"scratch", "dent"}
    left = set(range(len(GROUPS))) - one.shown["scratch"] - one.shown["dent"]
    for _, part in scores.groupby("added"):
        assert set(part["image"].astype(int)) == left and len(part) == 26 - 8
        assert part["group"].value_counts().to_dict() == {"good": 6, "scratch": 5, "dent": 4, "": 3}
    own = scores[scores["group"] == scores["added"]]
    assert (own["after"] == own["before"] / 4).all()
    others = scores[scores["group"] != scores["added"]]
    assert (others["after"] == others["before"]).all()


def test_tables_are_those_of_images():
    """Counts and AUROC by hand: dent lies above scratch and below rare before, and below all others after."""
    tables = shown_tables(shown_scores(Damped(), "patchcore", 4), GIVEN)
    dent = tables["deltas"].set_index("group").loc["dent"]
    assert (dent["n_good"], dent["n_group"], dent["n_other"]) == (6, 4, 5 + 3)
    assert dent["auroc_before"] == pytest.approx(100 * (6 * 8 + 4 * 3) / (10 * 8)) and dent["auroc_after"] == 100
    assert dent["origin"] == GIVEN and tables["detectors"]["n_groups"].tolist() == [2]
    assert len(tables["identity"]) == 0, "a class with images that always stay abnormal has none"


def test_the_identity_is_checked_where_it_holds():
    one = Damped(groups=GROUPS[:-3])  # without the one that is too small
    residuals = shown_tables(shown_scores(one, "patchcore", 4), GIVEN)["identity"]["residual"]
    assert len(residuals) == 1 and abs(residuals[0]) < 1e-12


def test_small_groups():
    """As many are shown as the smallest group allows that can take part at all."""
    one = Damped(groups=np.repeat(["good", "scratch", "dent", "rare"], [6, 9, 6, 4]))
    assert set(shown_scores(one, "patchcore")["added"]) == {"scratch", "dent"} and len(one.shown["scratch"]) == 2
    with pytest.raises(DataError, match="no group of 'bolt' has 5 tested items, one to be shown and 4 that are left"):
        shown_scores(Damped(groups=np.repeat(["good", "scratch"], [6, 4])), "patchcore")
