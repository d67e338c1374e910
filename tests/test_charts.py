"""Figures of numbers: what stands where."""

import re

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from tiny_project import ROOT

from nandlib.errors import DataError
from nandlib.evaluation.statistics import rank_correlation
from nandlib.show.charts import delta_heatmap
from nandlib.show.condition_charts import robustness_curves
from nandlib.show.contest_charts import kshot_curves
from nandlib.show.contests import write_contests
from nandlib.show.pictures import show_image
from nandlib.show.report import _MATH, _disarm, _mathml
from nandlib.show.style import CONTEST, MINUS, level, signed


def table(*rows):
    return pd.DataFrame(rows, columns=["class", "group", "delta"])


def cells(ax):
    """(class, column) → text, of the cells of a panel that are not empty."""
    names = [label.get_text() for label in ax.get_yticklabels()]
    return {(names[int(text.get_position()[1])], int(text.get_position()[0])): text.get_text() for text in ax.texts}


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_the_legend_of_contests_names_what_any_panel_shows():
    columns = {"k": 1, "auroc_after": 60.0, "auroc_others": 70.0, "n_groups": 2, "low": 50.0, "high": 65.0}
    few, more = (pd.DataFrame([{"method": method, **columns} for method in names]) for names in (("text",), ("text", "bank")))
    figure = kshot_curves({"a": few, "b": more}, {"a": few, "b": more})
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "good against the others alone (to be reached)",
        CONTEST["text"],
        CONTEST["bank"],
    ]
    with pytest.raises(DataError, match="no contest has run"):
        kshot_curves({}, {})


def test_many_groups_have_room():
    wide = delta_heatmap(table(*(("grid", f"a_long_name_{k}", -0.01) for k in range(30))))
    assert wide.get_figwidth() == 27 and cells(wide.axes[0])["grid", 0].endswith("+0.0")


def test_what_acts_is_disarmed_and_a_dollar_is_no_equation():
    links = ("java\tscript:alert(1)", " javascript:x", "vbscript:x", "data:text/html,x", "JAVASCRIPT&#58;x")
    kept = ("https://a.b/c:d", "#part", "figures/a.png?x=1:2", "mailto:a@b.c", "a.html")
    soup = BeautifulSoup("".join(f'<a href="{link}" onclick="x">l</a>' for link in (*links, *kept)), "html.parser")
    _disarm(soup)
    assert [link.get("href") for link in soup.find_all("a")] == [*[None] * len(links), *kept]
    assert not any(link.get("onclick") for link in soup.find_all("a"))
    assert re.sub(r"\$(.+?)\$", lambda match: _mathml(_MATH.match(match.group(0))), r"a$b_$ and $x$").startswith("a$b_$ and <math")


def test_both_panels_of_the_heatmap_have_the_papers_order():
    ours = table(("grid", "bent", 1.0), ("grid", "thread", 2.0), ("grid", "glue", 3.0), ("carpet", "own", 4.0), ("carpet", "hole", 5.0))
    paper = table(
        ("carpet", "cut", -1.0), ("carpet", "hole", -2.0), ("grid", "glue", -3.0), ("grid", "bent", -4.0), ("grid", "thread", -5.0)
    )
    upper, lower = delta_heatmap(ours, paper).axes[:2]
    assert cells(upper) == {
        ("grid", 0): "glue\n+3.0", ("grid", 1): "bent\n+1.0", ("grid", 2): "thread\n+2.0",
        ("carpet", 1): "hole\n+5.0", ("carpet", 2): "own\n+4.0",
    }  # fmt: skip
    assert cells(lower) == {
        ("grid", 0): f"glue\n{MINUS}3.0", ("grid", 1): f"bent\n{MINUS}4.0", ("grid", 2): f"thread\n{MINUS}5.0",
        ("carpet", 0): f"cut\n{MINUS}1.0", ("carpet", 1): f"hole\n{MINUS}2.0",
    }  # fmt: skip


def test_bold_marks_the_group_whose_interval_leaves_out_zero():
    ours = table(("grid", "bent", 1.0), ("grid", "glue", 3.0)).assign(ci_low=[-1.0, 1.0], ci_high=[2.0, 4.0], p_holm=[1.0, 0.01])
    paper = table(("grid", "glue", np.nan), ("grid", "bent", 2.0))
    upper, lower = delta_heatmap(ours, paper).axes[:2]
    assert [(text.get_text(), text.get_fontweight()) for text in upper.texts] == [("glue\n+3.0*", "bold"), ("bent\n+1.0", "normal")]
    assert [text.get_text() for text in lower.texts] == ["bent\n+2.0"]


def test_without_the_paper_the_order_is_the_studys_own():
    assert [text.get_text() for text in delta_heatmap(table(("a", "z", 1.0), ("a", "b", 2.0))).axes[0].texts] == ["z\n+1.0", "b\n+2.0"]


def test_the_contests_of_all_studies_are_one_figure(tmp_path, monkeypatch):
    (tmp_path / "studies").symlink_to(ROOT / "studies")
    (tmp_path / "figures").mkdir()
    for study in ("mini", "bottle", "pcb"):
        (tmp_path / "figures" / study).symlink_to(ROOT / "figures" / study)
    drawn = []
    monkeypatch.setattr("nandlib.show.style.save", lambda figure, path, *_: drawn.append((figure, path)))
    assert write_contests(tmp_path) == tmp_path / "figures/kshot.png" == drawn[0][1]
    panels = [ax for ax in drawn[0][0].axes if ax.get_title()]
    assert [ax.get_title() for ax in panels] == ["drawn images", "MVTec AD's bottle", "circuit boards"]  # as pages order and name them
    assert all(len(ax.lines) == 6 and len(ax.collections) == 5 for ax in panels)  # five methods and the others alone; intervals


def test_what_ties_all_images_is_hollow_and_named():
    rows = [("blur", strength, "pbas", 50.0 + 10 * (strength < 2), 0.5, 70, 70 if strength < 2 else 1) for strength in range(4)]
    table = pd.DataFrame(rows, columns=["perturbation", "strength", "detector", "auroc", "delta", "n_images", "n_scores"])
    figure = robustness_curves(table)
    hollow = [line for line in figure.axes[0].lines if line.get_markerfacecolor() == "white"]
    assert [list(line.get_xdata()) for line in hollow] == [[2, 3]]
    assert figure.legends[0].get_texts()[-1].get_text() == "one score for all images before a text: 50 by ties"
    figure = robustness_curves(table[table["strength"] < 2])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["PBAS"]


def test_panels_on_one_scale_show_all_and_nothing_beyond_a_hundred_percent():
    _figure, axes = plt.subplots(1, 3)
    given = [(80.0, 101.0), (40.0, 80.0), (97.0, 100.0)]
    for ax, limits in zip(axes, given, strict=True):
        ax.set_ylim(limits)
    level(axes, "y")
    found = [ax.get_ylim() for ax in axes]
    assert np.ptp(found, axis=1) == pytest.approx([40.0] * 3)
    assert all(low <= own[0] and own[1] <= high <= 101 for (low, high), own in zip(found, given, strict=True))


def test_points_have_one_minus_sign_and_zero_has_none():
    assert [signed(value) for value in (-1.25, -0.01, 0.0, 3.0)] == [f"{MINUS}1.2", "+0.0", "+0.0", "+3.0"]


def test_an_outline_leaves_what_it_surrounds_to_be_seen():
    mask = np.zeros((256, 256), bool)
    mask[128, 50:200] = True  # a thread one pixel thin
    _figure, ax = plt.subplots()
    show_image(ax, np.zeros((256, 256, 3)), mask)
    rim = np.concatenate([path.vertices for path in ax.collections[0].get_paths()])
    middle = rim[(rim[:, 0] > 0.3) & (rim[:, 0] < 0.7), 1] * 255
    assert np.abs(middle - 128).min() > 3
    _figure, ax = plt.subplots()
    show_image(ax, np.zeros((8, 8, 3)), np.ones((8, 8), bool))
    assert not ax.collections


def test_the_interval_of_a_rank_correlation_covers_what_it_should():
    rng, inside = np.random.default_rng(0), 0
    for _ in range(400):  # of normal pairs with correlation 0.5 the rank correlation is 6/pi asin(1/4)
        x, noise = rng.normal(size=(2, 40))
        _, low, high = rank_correlation(x, 0.5 * x + np.sqrt(0.75) * noise)
        inside += low <= 6 / np.pi * np.arcsin(0.25) <= high
    assert 0.92 < inside / 400 < 0.98
    assert rank_correlation([1, 2, 3, 4], [2, 4, 6, 8]) == (1.0, 1.0, 1.0)
    assert rank_correlation([1, 2, 3], [3, 1, 2])[1:] == (-1.0, 1.0)
