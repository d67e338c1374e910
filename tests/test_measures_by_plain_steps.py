"""Whole rows of the tables of measures, from the tiny study's maps, masks and scores, in a few lines of numpy."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.ndimage import label
from sklearn.metrics import roc_auc_score

from nandlib.evaluation import decisions
from nandlib.evaluation.sensitivity import COLUMNS as SENSITIVITY
from nandlib.study.class_maps import ClassMaps
from nandlib.study.open_study import OpenStudy, open_study

SIDE = 64  # of the stored maps, and of those whose pixels are ranked


@dataclass
class Carpet:
    """The carpets of the tiny study under PatchCore: maps ``(n, 64, 64)``, and what every text makes of them."""

    study: OpenStudy
    groups: np.ndarray
    base: np.ndarray
    sup: dict[str, np.ndarray]
    masks: np.ndarray

    def final(self, *texts: str) -> np.ndarray:
        return self.base * np.prod([1 - self.sup[text] for text in texts], axis=0)

    def area(self, passing: tuple[str, ...], maps: np.ndarray) -> float:
        """AUROC of all images but those that should pass, by the maxima of maps."""
        return 100 * roc_auc_score(~np.isin(self.groups, passing), maps.reshape(len(maps), -1).max(1))

    def inside(self, *groups: str) -> np.ndarray:
        return self.masks & np.isin(self.groups, groups)[:, None, None]

    def table(self, name: str) -> pd.DataFrame:
        table = pd.read_csv(self.study.figures / f"{name}.csv", float_precision="round_trip")
        return table[(table["detector"] == "patchcore") & (table["class"] == "carpet")].drop(columns=["detector", "class"])


@pytest.fixture(scope="module")
def carpet(project) -> Carpet:
    study = open_study("tiny", project)
    maps, rows = ClassMaps.of(study, "carpet"), study.rows("carpet")
    masks = np.zeros((len(rows), SIDE, SIDE), bool)
    for k, name in enumerate(rows["mask"]):
        if name:
            with Image.open(study.images / name) as mask:
                masks[k] = np.asarray(mask.convert("L").resize((SIDE, SIDE), Image.Resampling.NEAREST)) > 127
    sup = {group: maps.paper_suppression(f"+{group}").numpy() for group in maps.groups}
    assert maps.base("patchcore").shape[1:] == (SIDE, SIDE) and masks.any((1, 2)).sum() == (rows["group"] != "good").sum()
    return Carpet(study, rows["group"].to_numpy(), maps.base("patchcore").numpy(), sup, masks)


def test_pairs(carpet):
    table = carpet.table("measure/pairs").set_index(["first", "second"])
    assert len(table) == len(carpet.sup) * (len(carpet.sup) - 1) / 2
    for (first, second), row in table.iterrows():
        passing = ("good", first, second)
        finals = (carpet.base, carpet.final(first), carpet.final(second), carpet.final(first, second))
        areas = [carpet.area(passing, final) for final in finals]
        n_normal = int(np.isin(carpet.groups, passing).sum())
        expected = [n_normal, len(carpet.groups) - n_normal, *areas, areas[-1] - areas[0]]
        assert row.tolist() == pytest.approx(expected, abs=1e-9)
    assert (table["auroc_first"] != table["auroc_second"]).any() and (table["delta"] != 0).any()


@pytest.mark.parametrize("n_normals", [5, 99])
def test_decisions(carpet, monkeypatch, n_normals):
    """With few training images, as they are, and with so many that a threshold among them promises one in twenty."""
    maps = ClassMaps.of(carpet.study, "carpet")
    scores = carpet.base.max((1, 2))
    normals = maps.normal_scores("patchcore") if n_normals == 5 else np.linspace(scores.min(), scores.max(), n_normals)
    monkeypatch.setattr(ClassMaps, "normal_scores", lambda _self, detector: normals if detector == "patchcore" else None)
    table = decisions.decision_table(carpet.study, "carpet")
    assert set(table["detector"]) == {"patchcore"} and table["added"].tolist() == list(carpet.sup)
    threshold, level = (normals.max(), 100 / 6) if n_normals == 5 else (np.sort(normals)[94], 5)
    for row in table.drop(columns=["detector", "class"]).itertuples(index=False):
        rejected = {"before": scores > threshold, "after": carpet.final(row.added).max((1, 2)) > threshold}
        kinds = {"good": carpet.groups == "good", "added": carpet.groups == row.added}
        overkill = {(kind, when): 100 * rejected[when][where].mean() for kind, where in kinds.items() for when in rejected}
        escape = {when: 100 * (~rejected[when][~kinds["good"] & ~kinds["added"]]).mean() for when in rejected}
        expected = {f"overkill_{kind}_{when}": share for (kind, when), share in overkill.items()}
        expected |= {f"escape_{when}": share for when, share in escape.items()} | {"threshold": threshold, "level": level}
        assert {name: getattr(row, name) for name in expected} == pytest.approx(expected, rel=1e-6)
    assert set(table.columns) == {"detector", "class", "added", *expected}
    if n_normals == 99:
        assert (table["escape_after"] > table["escape_before"]).any()


def test_what_is_removed_inside_masks(carpet):
    """By every text of every group: the table by groups, and the ablation's two means of it."""
    table = carpet.table("measure/selectivity").set_index(["text", "group"])
    removed = {}
    for text in carpet.sup:
        for group in carpet.sup:
            inside = carpet.inside(group)
            removed[text, group] = 100 * (1 - carpet.final(text)[inside].sum(dtype=float) / carpet.base[inside].sum(dtype=float))
            assert table.loc[(text, group), "n_images"] == (carpet.groups == group).sum()
    assert table["removed"].to_dict() == pytest.approx(removed, rel=1e-4)
    steps = carpet.table("plus/removed").query('step == "nand (the paper\'s)"').set_index("own")["removed"]
    for own in (True, False):
        assert steps[own] == pytest.approx(np.mean([share for (text, group), share in removed.items() if (text == group) == own]), rel=1e-4)


def test_what_is_found_by_pixel(carpet):
    retrieval = carpet.table("measure/retrieval").set_index("text")["retrieval_auroc"]
    pixels = carpet.table("measure/pixels").set_index("added")
    for text, sup in carpet.sup.items():
        own, other = sup[carpet.inside(text)], sup[carpet.inside(*(set(carpet.sup) - {text}))]
        area = roc_auc_score(np.r_[np.ones(len(own)), np.zeros(len(other))], np.r_[own, other])
        assert retrieval[text] == pytest.approx(100 * area, abs=1e-3)
        target = carpet.inside(*(set(carpet.sup) - {text}))
        for when, maps in (("before", carpet.base), ("after", carpet.final(text))):
            assert pixels.loc[text, f"pixel_{when}"] == pytest.approx(100 * roc_auc_score(target.ravel(), maps.ravel()), abs=1e-3)
            assert pixels.loc[text, f"aupro_{when}"] == pytest.approx(100 * overlap_area(target, maps), abs=0.05)
    assert (pixels["pixel_before"] != pixels["pixel_after"]).any()


def overlap_area(target: np.ndarray, maps: np.ndarray, limit: float = 0.3) -> float:
    """Mean share of each connected defect that is found, against the share of normal pixels, up to `limit` of those; at every value."""
    thresholds = np.unique(maps)[::-1]
    normal = np.sort(maps[~target])
    wrong = 1 - np.searchsorted(normal, thresholds) / len(normal)
    shares = []
    for mask, single in zip(target, maps, strict=True):
        regions, n = label(mask, structure=np.ones((3, 3)))
        for k in range(1, n + 1):
            found = np.sort(single[regions == k])
            shares.append(1 - np.searchsorted(found, thresholds) / len(found))
    mean = np.mean(shares, 0)
    kept = wrong <= limit
    x, y = np.r_[0, wrong[kept], limit], np.r_[0, mean[kept], np.interp(limit, wrong, mean)]
    return float(np.trapezoid(y, x) / limit)


def test_sensitivity_moves_by_what_it_says(carpet):
    """Few images: some choices change no rank of any, and these are named."""
    table = pd.read_csv(carpet.study.figures / "sensitivity/sensitivity.csv", float_precision="round_trip")
    assert table.columns.tolist() == SENSITIVITY
    columns, own = ["auroc_before", "auroc_after"], table[table["is_default"]].iloc[0]
    assert (table["difference"] == table["delta"] - own["delta"]).all() and table["difference"].abs().max() > 5
    moved = {choice: (part[columns] != own[columns]).any(axis=None) for choice, part in table.groupby("choice")}
    assert {choice for choice, other in moved.items() if not other} == {"interpolation", "mean of text features"}


def test_areas_of_a_perfect_and_of_a_useless_map():
    target = np.zeros((2, 8, 8), bool)
    target[0, 2:4, 2:4] = True
    assert overlap_area(target, target.astype(float)) == pytest.approx(1)
    assert overlap_area(target, 1 - target.astype(float)) == 0
