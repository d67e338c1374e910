"""Figures of numbers: what stands where."""

import re

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from tiny_project import ROOT

from nandlib.errors import DataError
from nandlib.show.charts import delta_heatmap
from nandlib.show.contest_charts import kshot_curves
from nandlib.show.contests import write_contests
from nandlib.show.report import _MATH, _disarm, _mathml
from nandlib.show.style import CONTEST


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
        ("grid", 0): "glue\n-3.0", ("grid", 1): "bent\n-4.0", ("grid", 2): "thread\n-5.0",
        ("carpet", 0): "cut\n-1.0", ("carpet", 1): "hole\n-2.0",
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
