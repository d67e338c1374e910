"""AUROC against the number of examples, for studies of other kinds than images."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from nandlib.show.style import LABELS, OURS, PAPER, parted


def contest_figure(summary: pd.DataFrame, intervals: pd.DataFrame, things: str) -> Figure:
    """AUROC after against the number of examples, a panel a detector, with 95 % intervals over what is tested; lines join means over
    the same groups.

    Args:
        summary: ``summary.csv`` of `nandlib.stages.signals` or `nandlib.stages.surfaces`.
        intervals: ``intervals.csv`` of it.
        things: What is shown, in the plural.
    """
    ways = {
        "nothing": ("nothing added", "0.45", "o"),
        "examples": ("k examples", OURS, "s"),
        "bank": (f"k {things} into the memory", PAPER, "D"),
    }
    detectors = list(dict.fromkeys(summary["detector"]))
    figure, axes = plt.subplots(1, len(detectors), figsize=(4 * len(detectors), 3.2), sharey=True, squeeze=False)
    for ax, detector in zip(axes.flat, detectors, strict=True):
        table, ends = (frame[frame["detector"] == detector] for frame in (summary, intervals))
        alone = table.drop_duplicates("k").sort_values("k")
        ax.plot(*parted(range(len(alone)), alone["auroc_others"], alone["n_groups"]), ":_", color="0.3", label="others alone")
        for shift, (method, (label, colour, marker)) in zip((-0.1, 0.0, 0.1), ways.items(), strict=True):
            own = table[table["method"] == method].sort_values("k")
            if len(own):
                x, bars = np.arange(len(own)) + shift, ends[ends["method"] == method].sort_values("k")
                ax.plot(*parted(x, own["auroc_after"], own["n_groups"]), f"{marker}-", color=colour, ms=5, lw=1.2, label=label)
                ax.vlines(x, bars["low"], bars["high"], color=colour, lw=1, alpha=0.6)
        counts = [f"{k}\n({n})" for k, n in zip(alone["k"], alone["n_groups"], strict=True)]
        ax.set(xticks=range(len(alone)), xticklabels=counts, xlabel="examples k (groups)", title=LABELS[detector])
    axes[0, 0].set_ylabel("AUROC after (%)")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4, fontsize=8, frameon=False)
    sns.despine(figure)
    return figure
