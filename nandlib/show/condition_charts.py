"""Figures of harder conditions: worse images, smaller devices."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nandlib.show.style import LABELS, colour_of


def edge_scatter(table: pd.DataFrame) -> Figure:
    """Image AUROC of any defect against multiplications an image; beside the names milliseconds, of one image at a time on one thread, and
    parameters.

    Args:
        table: `nandlib.benchmarks.edge.edge_cost`.
    """
    figure, ax = plt.subplots(figsize=(7, 3.6))
    for row in table.to_dict("records"):
        colour = colour_of(row["detector"])
        label = f"{LABELS[row['detector']]} ({row['image_ms']:.0f} ms, {row['parameters'] / 1e6:.1f} M parameters)"
        ax.scatter(row["mflops"], row["auroc"], 70, color=colour, edgecolor="white", label=label)
    ax.set_xscale("log", subs=[])
    ticks = [
        tick for tick in (50, 100, 200, 500, 1000, 2000, 5000, 10_000) if 0.7 * table["mflops"].min() < tick < 1.4 * table["mflops"].max()
    ]
    ax.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    ax.set(
        xlabel="million multiplications and additions an image (logarithmic),\nwithout the search in a memory",
        ylabel="AUROC, any defect (%)",
    )
    ax.axhline(50, color="0.6", lw=0.8, ls=":", zorder=0)
    title = "one image at a time, one thread;\ndotted: chance"
    figure.legend(loc="outside right upper", title=title, fontsize=8, title_fontsize=8, alignment="left", frameon=False)
    sns.despine(figure)
    return figure


def robustness_curves(table: pd.DataFrame) -> Figure:
    """Ordinary AUROC, and what a text gains, against the strength of every perturbation: a column each, a line a detector. Hollow: all
    images have one score before a text, AUROC is 50 by ties, and Δ tells how the text parts them.

    Args:
        table: `nandlib.evaluation.robustness.robustness`.
    """
    names, detectors = list(dict.fromkeys(table["perturbation"])), list(dict.fromkeys(table["detector"]))
    figure, axes = plt.subplots(2, len(names), figsize=(2.7 * len(names), 6.6), sharex=True, sharey="row", squeeze=False)
    for column, name in zip(axes.T, names, strict=True):
        own = table[table["perturbation"] == name]
        for detector, marker in zip(detectors, "osD^vP<>*Xhdp", strict=False):
            line = own[own["detector"] == detector].sort_values("strength")
            how = {"ls": "--", "lw": 0.9} if detector.startswith("winclip") else {"ls": "-", "lw": 1.4}
            tied = line[line["n_scores"] == 1]
            for ax, value in zip(column, ("auroc", "delta"), strict=True):
                ax.plot(line["strength"], line[value], marker, color=colour_of(detector), ms=5, label=LABELS[detector], **how)
                ax.plot(tied["strength"], tied[value], marker, color=colour_of(detector), mfc="white", ms=5, ls="")
        column[0].axhline(50, color="0.6", lw=0.8, ls=":")
        column[1].axhline(0, color="0.6", lw=0.8)
        column[0].set_title(name)
        column[1].set_xlabel("strength")
    axes[0, 0].set_ylabel("AUROC, any defect (%)")
    axes[1, 0].set_ylabel("Δ AUROC of a text (points)")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    if (table["n_scores"] == 1).any():
        handles.append(Line2D([], [], ls="", marker="o", color="0.3", mfc="white"))
        labels.append("one score for all images before a text: 50 by ties")
    title = f"{table['n_images'].max()} images in every point, the same at every strength"
    figure.legend(handles, labels, title=title, loc="outside upper center", ncols=4, fontsize=8, title_fontsize=8, frameon=False)
    sns.despine(figure)
    return figure
