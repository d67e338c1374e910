"""Figures of numbers: AUROC before and after, by group, detector, control, choice and step."""

from __future__ import annotations

from typing import Any, cast

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from seaborn.utils import relative_luminance

from nandlib.evaluation.statistics import rank_correlation
from nandlib.show.style import DELTA_COLOURS, LABELS, MINUS, OURS, PAPER, SUPPRESSION_COLOURS, WIDTH, pretty, signed

OVER_CLASSES = "mean Δ AUROC over classes (points)"
MID = 0.2  # luminance of a ground on which black and white are read alike


def delta_heatmap(ours: pd.DataFrame, paper: pd.DataFrame | None = None, detector: str = "") -> Figure:
    """Δ AUROC of every group, one row a class; below it the paper's, where the classes are the same.

    Both panels have the same order of classes and groups, cell by cell: the paper's where it has the class. A group that one of
    them lacks leaves its cell empty.

    Args:
        ours: class, group, delta, ci_low, ci_high, p_holm. A group is in bold where the 95 % interval of its Δ leaves out 0, and
            has a star where it stands after Holm's correction over all groups.
        paper: class, group, delta, or None.
        detector: Whose Δ it is, for the title.
    """
    panels = [(f"this study{f', {LABELS[detector]}' if detector else ''}", ours)] + ([] if paper is None else [("paper, Table 2", paper)])
    classes = list(dict.fromkeys(ours["class"]))
    columns = {c: list(dict.fromkeys(g for _, frame in reversed(panels) for g in frame.loc[frame["class"] == c, "group"])) for c in classes}
    width = max(map(len, columns.values()))
    limit = max(5.0, float(np.ceil(max(frame["delta"].abs().quantile(0.95) for _, frame in panels))))
    size = max(WIDTH, 0.9 * width), (0.5 * len(classes) + 0.4) * len(panels) + 1.1
    figure, axes = plt.subplots(len(panels), 1, figsize=size, squeeze=False)
    for ax, (title, frame) in zip(axes[:, 0], panels, strict=True):
        values, words = np.full((len(classes), width), np.nan), np.full((len(classes), width), "", object)
        sure = np.zeros((len(classes), width), bool)
        for r, class_name in enumerate(classes):
            for row in frame[frame["class"] == class_name].itertuples():
                c = columns[class_name].index(row.group)
                values[r, c] = row.delta
                words[r, c] = f"{pretty(row.group)}\n{signed(row.delta)}" + ("*" if getattr(row, "p_holm", 1) < 0.05 else "")
                sure[r, c] = getattr(row, "ci_low", 0) > 0 or getattr(row, "ci_high", 0) < 0
        sns.heatmap(
            values,
            ax=ax,
            annot=words,
            fmt="",
            cmap=DELTA_COLOURS,
            center=0,
            vmin=-limit,
            vmax=limit,
            linewidths=1,
            annot_kws={"fontsize": 7},
            cbar=False,
            yticklabels=[pretty(c) for c in classes],
            xticklabels=False,
        )
        shown = np.argwhere(np.isfinite(values))
        for (r, c), text in zip(shown, ax.texts, strict=True):
            if sure[r, c]:
                text.set_fontweight("bold")
        for text, colour in zip(ax.texts, ax.collections[0].get_facecolors()[np.isfinite(values).ravel()], strict=True):
            text.set_color(".1" if relative_luminance(colour) > MID else "white")
        ax.set_title(f"{title}: mean of the classes' mean Δ {signed(frame.groupby('class')['delta'].mean().mean())}", fontsize=10)
        ax.tick_params(axis="y", rotation=0)
        ax.set_facecolor("0.92")  # where a class has no more groups
    bar: dict[str, Any] = {"location": "bottom", "shrink": 0.5, "aspect": 35, "pad": 0.06 / size[1], "extend": "both"}
    meaning = "Δ AUROC (points); bold: its 95 % interval leaves out 0, *: after Holm's correction"
    figure.colorbar(axes[0, 0].collections[0], ax=axes, label=meaning, **bar)
    return figure


def before_after_scatter(frame: pd.DataFrame, title: str) -> Figure:
    """AUROC after against before, a point a group; above the diagonal is a gain."""
    figure, ax = plt.subplots(figsize=(4.6, 4.4))
    ax.plot([0, 100], [0, 100], color="0.6", lw=1)
    ax.scatter(frame["auroc_before"], frame["auroc_after"], s=22, color=OURS, alpha=0.8, edgecolor="white", linewidth=0.5)
    low = max(0, min(frame["auroc_before"].min(), frame["auroc_after"].min()) - 5)
    ax.set(xlim=(low, 101), ylim=(low, 101), xlabel="AUROC before (%)", ylabel="AUROC after (%)", title=title)
    sns.despine(figure)
    return figure


def agreement_scatter(compared: pd.DataFrame) -> Figure:
    """Ours against the paper's for AUROC before, after and Δ: a point a group; on the line they agree. In brackets 95 % intervals, as if
    groups were independent.

    Args:
        compared: Rows of Table 2 of `nandlib.evaluation.paper.comparison`.
    """
    figure, axes = plt.subplots(1, 3, figsize=(WIDTH, 2.8))
    for ax, what in zip(axes, ("before", "after", "delta"), strict=True):
        x, y = compared[f"paper_{what}"], compared[f"ours_{what}"]
        low, high = min(x.min(), y.min()), max(x.max(), y.max())
        margin = 0.05 * (high - low)
        ax.plot([low - margin, high + margin], [low - margin, high + margin], color="0.6", lw=1)
        if what == "delta":
            ax.axhline(0, color="0.8", lw=0.8, zorder=0)
            ax.axvline(0, color="0.8", lw=0.8, zorder=0)
        ax.scatter(x, y, s=20, color=OURS, alpha=0.75, edgecolor="white", linewidth=0.5)
        unit = "Δ AUROC (points)" if what == "delta" else f"AUROC {what} (%)"
        title = f"{len(x)} groups"
        if len(x) > 3:
            title = "rank correlation {:+.2f}\n[{:+.2f}, {:+.2f}]".format(*rank_correlation(x, y)).replace("-", MINUS)
        ax.set(xlabel=f"paper: {unit}", ylabel=f"this study: {unit}", title=title, aspect="equal")
        ax.xaxis.set_major_locator(MaxNLocator(4))
        ax.yaxis.set_major_locator(MaxNLocator(4))
    sns.despine(figure)
    return figure


def _panels(count: int, size: tuple[float, float]) -> tuple[Figure, list[Axes]]:
    """One panel for each of several detectors, in rows of at most three, with the same axes; `size` of one or two panels in inches."""
    columns = count if count <= 2 else 3
    rows = -(-count // columns)
    width, height = size if columns <= 2 else (9.0, rows * size[1])
    figure, axes = plt.subplots(rows, columns, figsize=(width, height), sharex=True, sharey=True, squeeze=False)
    if rows > 1:
        figure.get_layout_engine().set(h_pad=0.12)  # type: ignore[call-arg, union-attr]  # a label of one row is no title of the next
    for ax in axes.flat:
        ax.xaxis.set_tick_params(labelbottom=True)
    for ax in axes.flat[count:]:
        ax.set_axis_off()
    return figure, list(axes.flat[:count])


def control_bars(table: pd.DataFrame) -> Figure:
    """Mean Δ AUROC of the text, of its controls and of the mask oracle, a panel a detector.

    Args:
        table: `nandlib.evaluation.controls.control_table`.
    """
    detectors = list(dict.fromkeys(table["detector"]))
    figure, axes = _panels(len(detectors), (WIDTH / 2 * min(len(detectors), 2), 3.0))
    for ax, detector in zip(axes, detectors, strict=True):
        part = table[table["detector"] == detector]
        colours = [OURS if c == "its text" else PAPER if c == "mask oracle" else "0.7" for c in part["control"]]
        bars = ax.barh(part["control"], part["delta"], color=colours)
        ax.bar_label(bars, [signed(delta) for delta in part["delta"]], fontsize=8, padding=3)
        ax.axvline(0, color="0.4", lw=0.8)
        ax.margins(x=0.3)
        ax.set(title=LABELS.get(detector, detector))
    axes[0].invert_yaxis()
    figure.supxlabel(OVER_CLASSES, fontsize="medium")
    sns.despine(figure, left=True)
    return figure


def confusion(selectivity: pd.DataFrame, title: str) -> Figure:
    """How much of the anomaly score inside the masks of each group each text removes: text × group, in percent.

    Args:
        selectivity: text, group, removed, of one class and detector.
        title: Over the figure.
    """
    order = list(dict.fromkeys(selectivity["text"]))
    table = selectivity.pivot_table(index="text", columns="group", values="removed").reindex(index=order, columns=order)
    figure, ax = plt.subplots(figsize=(0.85 * len(order) + 2.4, 0.6 * len(order) + 1.6))
    sns.heatmap(
        table, ax=ax, annot=True, fmt=".0f", cmap=SUPPRESSION_COLOURS, vmin=0, vmax=100, linewidths=1, cbar_kws={"label": "removed (%)"}
    )
    ax.set(xlabel="inside masks of", ylabel="text added", title=title)
    ax.set_xticklabels([pretty(g) for g in order], rotation=30, ha="right")
    ax.set_yticklabels([pretty(g) for g in order], rotation=0)
    return figure


def choice_dots(table: pd.DataFrame) -> Figure:
    """Mean Δ of every value of every choice, grouped by choice; the study's own value filled, its Δ as a line.

    Args:
        table: From `nandlib.evaluation.sensitivity.sensitivity`.
    """
    own = table.loc[table["is_default"], "delta"].iloc[0]
    figure, ax = plt.subplots(figsize=(WIDTH, 0.25 * len(table) + 0.8))
    ax.axvline(own, color="0.75", lw=1, zorder=0)
    gaps = (table["choice"] != table["choice"].shift()).cumsum() - 1
    y = np.arange(len(table)) + 0.6 * gaps
    for place, row in zip(y, table.itertuples(), strict=True):
        ax.plot([own, row.delta], [place, place], color=OURS, lw=1.2, alpha=0.5)
        ax.scatter(cast(float, row.delta), place, s=34, color=OURS if row.is_default else "white", edgecolor=OURS, zorder=3)
        side = -1 if row.delta < own else 1  # the number on the far side of the line
        place_text: dict[str, Any] = {"xytext": (7 * side, 0), "textcoords": "offset points", "ha": "right" if side < 0 else "left"}
        ax.annotate(signed(cast(float, row.delta)), (row.delta, place), va="center", fontsize=8, **place_text)
    labels = [f"{row.choice}: {row.value}" for row in table.itertuples()]
    ax.set(yticks=y, yticklabels=labels, xlabel="mean Δ AUROC (points)")
    ax.tick_params(axis="y", labelsize=8)
    ax.margins(x=0.12, y=0.02)
    ax.invert_yaxis()
    sns.despine(figure, left=True)
    return figure


def ablation_steps(table: pd.DataFrame) -> Figure:
    """Mean Δ AUROC with its 95 % interval for every step from `nand` to `nand_plus`, a panel a detector; beside it how much of the gap is
    closed.

    Args:
        table: `nandlib.evaluation.ablation.ablation`; its frontier is not shown.
    """
    shown = table[table["kind"] != "frontier"]
    detectors = list(dict.fromkeys(shown["detector"]))
    figure, axes = _panels(len(detectors), (WIDTH, 3.6))
    colours = {"nand": "0.2", "path": OURS, "plus": OURS, "without": "0.6", "known": PAPER, "open": PAPER}
    kinds = {"nand": "the paper's rule", "plus": "on the way to nand_plus", "without": "less one part", "known": "names of all other types"}
    for ax, detector in zip(axes, detectors, strict=True):
        for k, row in enumerate(shown[shown["detector"] == detector].itertuples()):
            ax.plot([row.delta_low, row.delta_high], [k, k], color=colours[row.kind], lw=2)
            ax.plot(row.delta, k, "o", color=colours[row.kind], ms=7, label=kinds.get(row.kind))
            closed = "" if np.isnan(row.gap_closed) else f"{round(row.gap_closed)} %".replace("-", MINUS)
            ax.annotate(closed, (max(row.delta, row.delta_high, 0), k), (8, 0), textcoords="offset points", va="center", fontsize=8)
        names = shown.loc[shown["detector"] == detector, "step"].tolist()
        ax.set_yticks(range(len(names)), names)
        ax.axvline(0, color="0.4", lw=0.8)
        ax.set(title=LABELS.get(detector, detector), ylim=(len(names) - 0.5, -0.7))
        ax.margins(x=0.25)
    shown_once = {label: handle for handle, label in zip(*axes[0].get_legend_handles_labels(), strict=True)}
    title = "with 95 % intervals; numbers: share of the gap to good against the others alone that is closed, where there is one"
    place: dict[str, Any] = {"loc": "outside upper center", "ncols": 4, "frameon": False}
    figure.supxlabel(OVER_CLASSES, fontsize="medium")
    figure.legend(shown_once.values(), shown_once.keys(), title=title, fontsize=8, title_fontsize=8, **place)
    sns.despine(figure, left=True)
    return figure


def frontier(table: pd.DataFrame) -> Figure:
    """Selectivity at equal strength: what is removed of other types against what is removed of the added type.

    Args:
        table: `nandlib.evaluation.ablation.ablation_tables`' ``ablation``.
    """
    detectors = list(dict.fromkeys(table["detector"]))
    figure, axes = _panels(len(detectors), (WIDTH, 3.7))
    for ax, detector in zip(axes, detectors, strict=True):
        own = table[table["detector"] == detector]
        line = own[own["kind"].isin(["frontier", "plus"])].sort_values("removed_own")
        reach = max(line["removed_own"].max(), own["removed_own"].max())
        paper = own[own["kind"] == "nand"].iloc[0]
        slope = paper["removed_other"] / paper["removed_own"]
        ax.plot([0, reach], [0, reach * slope], "--", color="0.3", lw=1.2, label="the paper's rule, scaled")
        ax.plot(line["removed_own"], line["removed_other"], "o-", color=OURS, mfc="white", label="nand_plus, other priors")
        for kind, colour, marker, inside, label in (
            ("nand", "0.3", "s", "0.3", "the paper's rule"),
            ("plus", OURS, "o", OURS, "nand_plus"),
            ("known", PAPER, "D", "none", "closed world"),
            ("open", PAPER, "X", PAPER, "half of the names wrong"),
        ):
            point, size = own[own["kind"] == kind], 10 if inside == "none" else 7  # it goes around what lies in the same place
            ax.plot(
                point["removed_own"],
                point["removed_other"],
                marker,
                color=colour,
                mfc=inside,
                ms=size,
                label=label,
                zorder=3,
                clip_on=False,
            )
        ax.set(xlabel="removed of the added type (%)", title=LABELS.get(detector, detector))
    axes[0].set(xlim=(0, None), ylim=(0, None))  # of all panels, once all are drawn
    figure.supylabel("removed of other types (%)", fontsize="medium")
    handles, labels = axes[-1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, fontsize=8, frameon=False)
    sns.despine(figure)
    return figure


def detector_bars(table: pd.DataFrame) -> Figure:
    """Table 3 as bars: AUROC before, after (with the 95 % interval of the gain) and good against the others alone for every detector.

    Args:
        table: `nandlib.evaluation.uncertainty.detector_summary`.
    """
    figure, ax = plt.subplots(figsize=(max(6.4, 0.95 * len(table)), 3.2))
    x = np.arange(len(table))
    for shift, column, colour, label in ((-0.2, "auroc_before", "0.65", "before"), (0.2, "auroc_after", OURS, "after adding")):
        bars = ax.bar(x + shift, table[column], 0.38, color=colour, label=label)
        ax.bar_label(bars, fmt="%.1f", fontsize=8, label_type="center", color="white" if shift > 0 else "black")
    gain = table["auroc_after"] - table["auroc_before"]
    error = np.stack([gain - table["delta_low"], table["delta_high"] - gain]).clip(0)
    ax.errorbar(x + 0.2, table["auroc_after"], error, fmt="none", ecolor="black", elinewidth=1, capsize=3)
    ax.hlines(table["auroc_others"], x - 0.4, x + 0.4, color=PAPER, lw=1.6, label="others alone")
    ax.set(xticks=x, xticklabels=[LABELS.get(d, d) for d in table["detector"]], ylim=(0, 102), ylabel="AUROC (%)")
    figure.legend(loc="outside upper center", frameon=False, ncols=3, fontsize=8)
    sns.despine(figure)
    return figure
