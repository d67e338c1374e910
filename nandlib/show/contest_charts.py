"""AUROC against the number of examples: the contests' figures, with one set of marks for images, surfaces and signals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nandlib.errors import DataError
from nandlib.show.style import CONTEST, LABELS, OURS, PAPER, level, parted

MARKS = {  # method of the contest → colour, marker and line
    "nothing": ("0.6", "s-"),
    "text": ("0.2", "D--"),
    "examples": (OURS, "o-"),
    "both": ("#56B4E9", "o--"),
    "bank": (PAPER, "^-"),
}


def kshot_curves(summaries: Mapping[str, pd.DataFrame], intervals: Mapping[str, pd.DataFrame]) -> Figure:
    """AUROC after against the number of examples k, a panel a study; 95 % intervals over images; lines join means over the same groups.

    Args:
        summaries: Title → `nandlib.evaluation.result_tables.kshot_summary`.
        intervals: Title → `nandlib.evaluation.kshot.KShot.intervals`.

    Raises:
        DataError: If there is none.
    """
    if not summaries:
        raise DataError("no contest has run: 'nand kshot NAME' runs one")
    columns = min(2, len(summaries))
    rows = -(-len(summaries) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(4.2 * columns if columns > 1 else 5.6, 3.1 * rows), squeeze=False)
    for ax, (title, table) in zip(axes.flat, summaries.items(), strict=False):
        _panel(ax, table, intervals[title], CONTEST, title)
    level([ax for ax, _ in zip(axes.flat, summaries, strict=False)], "y")
    for ax in axes.flat[len(summaries) :]:
        ax.set_axis_off()
    return _finished(figure, 3 if columns > 1 else 2)


def contest_figure(summary: pd.DataFrame, intervals: pd.DataFrame, things: str) -> Figure:
    """The same for a study of another kind than images, a panel a detector.

    Args:
        summary: ``summary.csv`` of `nandlib.stages.signals` or `nandlib.stages.surfaces`.
        intervals: ``intervals.csv`` of it.
        things: What is shown, in the plural.
    """
    labels = CONTEST | {"bank": f"k {things} into the memory"}
    detectors = list(dict.fromkeys(summary["detector"]))
    figure, axes = plt.subplots(1, len(detectors), figsize=(4 * len(detectors), 3.2), sharey=True, squeeze=False)
    for ax, detector in zip(axes.flat, detectors, strict=True):
        own, ends = (frame[frame["detector"] == detector] for frame in (summary, intervals))
        _panel(ax, own, ends, labels, LABELS[detector])
    return _finished(figure, 4)


def _panel(ax: Axes, summary: pd.DataFrame, intervals: pd.DataFrame, labels: Mapping[str, str], title: str) -> None:
    """A line a method, and that of the others alone; the methods that the summary lacks are left out."""
    alone = summary.drop_duplicates("k").sort_values("k")
    goal = "good against the others alone (to be reached)"
    ax.plot(*parted(range(len(alone)), alone["auroc_others"], alone["n_groups"]), ":.", color="0.3", ms=4, lw=1.4, label=goal)
    for shift, (method, (colour, marker)) in zip(np.linspace(-0.12, 0.12, len(MARKS)), MARKS.items(), strict=True):
        own, ends = (frame[frame["method"] == method].sort_values("k") for frame in (summary, intervals))
        if len(own):
            x = np.searchsorted(alone["k"], own["k"]) + shift
            ax.plot(*parted(x, own["auroc_after"], own["n_groups"]), marker, color=colour, ms=5, lw=1.5, label=labels[method])
            ax.vlines(x, ends["low"], ends["high"], color=colour, lw=1, alpha=0.6)
    counts = [f"{k}\n({n})" for k, n in zip(alone["k"], alone["n_groups"], strict=True)]
    ax.set(xticks=range(len(alone)), xticklabels=counts, xlabel="examples k (number of groups)", title=title)


def _finished(figure: Figure, columns: int) -> Figure:
    """With one legend of all that any panel shows."""
    shown = {label: handle for ax in figure.axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    place: dict[str, Any] = {"loc": "outside upper center", "ncols": columns, "frameon": False}
    figure.legend(shown.values(), shown.keys(), title="upright lines: 95 % intervals", fontsize=8, title_fontsize=8, **place)
    figure.supylabel("AUROC (%),\nof what was not shown", fontsize="medium", ma="center")
    sns.despine(figure)
    return figure
