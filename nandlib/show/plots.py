"""Figures: one style, a colour-blind-safe palette, and every map on a scale that the figure states."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

MAP_COLOURS = "inferno"  # anomaly maps
SUPPRESSION_COLOURS = "viridis"  # suppression maps, always on [0, 1]
DELTA_COLOURS = "PuOr"  # losses orange-brown, gains purple, symmetric about 0
OURS, PAPER = "#0072B2", "#D55E00"  # Okabe-Ito blue and vermilion
WIDTH = 7.2  # of the widest figures, in inches: at half the width of a page their text is still readable
OUTLINE = "#00E5FF"  # of ground-truth masks
LABELS = {
    "aprilgan": "APRIL-GAN",
    "aprilgan_1": "APRIL-GAN-1",
    "aprilgan_5": "APRIL-GAN-5",
    "winclip_0": "WinCLIP-0",
    "winclip_1": "WinCLIP-1",
    "winclip_5": "WinCLIP-5",
    "patchcore": "PatchCore",
}


def use_style() -> None:
    """The style of every figure of the study."""
    sns.set_theme(style="white", context="notebook", palette="colorblind", font_scale=0.8)
    mpl.rcParams.update(
        {"figure.dpi": 100, "savefig.dpi": 110, "savefig.bbox": "tight", "axes.titlesize": 9.5, "figure.constrained_layout.use": True}
    )


def pretty(name: str) -> str:
    """A class or group name for a title: underscores to spaces."""
    return name.replace("_", " ")


def mark(figure: Figure, watermark: str) -> Figure:
    """The figure with a word across it, unless the word is empty."""
    if watermark:
        place = {"ha": "center", "va": "center", "rotation": 25, "zorder": 10, "in_layout": False}
        figure.text(0.5, 0.5, watermark, color="#CC0000", alpha=0.45, fontsize=26, fontweight="bold", **place)
    return figure


def save(figure: Figure, path: Path, watermark: str = "") -> None:
    """Write a PNG without anything that differs from run to run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mark(figure, watermark).savefig(path, metadata={"Software": None})


def nothing(text: str) -> Figure:
    """In place of a figure that would have nothing to show."""
    figure, ax = plt.subplots(figsize=(4, 2))
    ax.text(0.5, 0.5, text, ha="center", va="center")
    ax.set_axis_off()
    return figure


def show_image(ax: Axes, image: np.ndarray, mask: np.ndarray | None = None, title: str = "") -> None:
    """An image with the outline of its ground-truth mask."""
    ax.imshow(image, extent=(0, 1, 1, 0))
    if mask is not None and mask.any() and not mask.all():
        ax.contour(np.linspace(0, 1, mask.shape[1]), np.linspace(0, 1, mask.shape[0]), mask, levels=[0.5], colors=OUTLINE, linewidths=1.0)
    _frame(ax, title)


def show_map(
    ax: Axes, anomaly_map: np.ndarray, *, vmax: float, vmin: float = 0, colours: str = MAP_COLOURS, title: str = ""
) -> mpl.image.AxesImage:
    """A map on a stated scale."""
    shown = ax.imshow(anomaly_map, cmap=colours, vmin=vmin, vmax=vmax, extent=(0, 1, 1, 0))
    _frame(ax, title)
    return shown


def _frame(ax: Axes, title: str) -> None:
    ax.set(xticks=[], yticks=[], aspect="equal")
    ax.set_title(title)


def _row_label(ax: Axes, text: str) -> None:
    ax.set_ylabel(text, rotation=0, ha="right", va="center", fontsize=9, labelpad=6)


def before_after(rows: Sequence[dict], suppression: bool = True) -> Figure:
    """Image, map before, suppression map, map after; one row an image, one scale for all anomaly maps.

    Args:
        rows: Each has ``label``, ``image``, ``mask`` (or None), ``before``, ``after`` and, with `suppression`,
            ``suppression``; maps ``(H, W)``.
        suppression: Show the suppression map.
    """
    columns = ["image", "before", "suppression", "after"] if suppression else ["image", "before", "after"]
    titles = {"image": "image", "before": "$A$: before", "suppression": "$A_{sup}$", "after": "$A_{final}$: after"}
    figure, axes = plt.subplots(
        len(rows), len(columns), figsize=(WIDTH, (WIDTH - 1) / len(columns) * len(rows) + 0.35 * len(rows) + 0.55), squeeze=False
    )
    vmin = min(float(row["before"].min()) for row in rows)
    vmin, vmax = min(vmin, 0), max(float(row["before"].max()) for row in rows)
    for k, row in enumerate(rows):
        _row_label(axes[k, 0], row["label"])
        for ax, column in zip(axes[k], columns, strict=True):
            head = titles[column] if k == 0 else ""
            if column == "image":
                show_image(ax, row["image"], row["mask"], head)
            elif column == "suppression":
                shown_sup = show_map(ax, row[column], vmax=1, colours=SUPPRESSION_COLOURS, title=head)
                ax.set_xlabel(f"max {row[column].max():.2f}", fontsize=9)
            else:
                shown = show_map(ax, row[column], vmin=vmin, vmax=vmax, title=head)
                ax.set_xlabel(f"score {row[column].max():.2f}", fontsize=9)
    for k, column in enumerate(columns[1:], start=1):
        image, label = (shown_sup, "suppression") if column == "suppression" else (shown, "anomaly")
        figure.colorbar(image, ax=axes[:, k], location="bottom", shrink=0.85, aspect=18, pad=0.01, label=label)
    return figure


def pairs(blocks: Sequence[dict], columns: int = 2) -> Figure:
    """Figure 5: per class an image of the added type and one of another type, before and after, side by side.

    Args:
        blocks: Each has ``title``, ``rows`` (as for `before_after`), and is scaled by its own largest map value.
        columns: Blocks next to each other.
    """
    n_rows = -(-len(blocks) // columns)
    figure = plt.figure(figsize=(WIDTH / 2 * columns, 2.45 * n_rows))
    for block, sub in zip(blocks, figure.subfigures(n_rows, columns, squeeze=False).flat, strict=False):
        sub.suptitle(block["title"], fontsize=9)
        axes = sub.subplots(len(block["rows"]), 3, squeeze=False)
        vmin = min(0.0, *(float(row["before"].min()) for row in block["rows"]))
        vmax = max(float(row["before"].max()) for row in block["rows"])
        for k, row in enumerate(block["rows"]):
            show_image(axes[k, 0], row["image"], row["mask"])
            _row_label(axes[k, 0], row["label"])
            show_map(axes[k, 1], row["before"], vmin=vmin, vmax=vmax, title="before" if k == 0 else "")
            show_map(axes[k, 2], row["after"], vmin=vmin, vmax=vmax, title="after" if k == 0 else "")
            axes[k, 1].set_xlabel(f"{row['before'].max():.2f}", fontsize=8)
            axes[k, 2].set_xlabel(f"{row['after'].max():.2f}", fontsize=8)
    return figure


def image_grid(cells: Sequence[Sequence[dict | None]]) -> Figure:
    """Images with mask outlines in a ragged grid; a cell has ``image``, ``mask``, ``title``, or is None: a gap."""
    width = max(len(row) for row in cells)
    figure, axes = plt.subplots(len(cells), width, figsize=(WIDTH / 5 * width, 1.95 * len(cells)), squeeze=False)
    for row, axs in zip(cells, axes, strict=True):
        for k, ax in enumerate(axs):
            cell = row[k] if k < len(row) else None
            if cell is None:
                ax.set_axis_off()
            else:
                show_image(ax, cell["image"], cell["mask"], cell["title"])
                ax.title.set_fontsize(8)
    return figure


def map_strip(panels: Sequence[dict]) -> Figure:
    """Panels in a row: images, anomaly maps and suppression maps, each with its own colour bar and title.

    Args:
        panels: Each has ``title`` and either ``image`` (and ``mask``) or ``map`` with ``vmax`` and ``colours``.
    """
    columns = min(len(panels), 4)
    n_rows = -(-len(panels) // columns)
    figure, axes = plt.subplots(n_rows, columns, figsize=(WIDTH / 4 * columns, 2.1 * n_rows), squeeze=False)
    for ax, panel in zip(axes.flat, panels, strict=False):
        if "image" in panel:
            show_image(ax, panel["image"], panel.get("mask"), panel["title"])
            continue
        shown = show_map(ax, panel["map"], vmax=panel["vmax"], colours=panel.get("colours", MAP_COLOURS), title=panel["title"])
        figure.colorbar(shown, ax=ax, orientation="horizontal", shrink=0.8, pad=0.02)
    for ax in axes.flat[len(panels) :]:
        ax.set_axis_off()
    return figure


def delta_heatmap(ours: pd.DataFrame, paper: pd.DataFrame | None = None) -> Figure:
    """Δ AUROC of every group, one row a class; below it the paper's, where the classes are the same.

    Args:
        ours: class, group, delta, ci_low, ci_high, p_holm. A group is in bold where the 95 % interval of its Δ leaves out 0, and
            has a star where it stands after Holm's correction over all groups.
        paper: class, group, delta, or None.
    """
    panels = [("this study", ours)] + ([] if paper is None else [("paper, Table 2", paper)])
    classes = list(dict.fromkeys(ours["class"]))
    width = max(max(frame.groupby("class").size()) for _, frame in panels)
    limit = max(5.0, float(np.ceil(max(frame["delta"].abs().quantile(0.95) for _, frame in panels))))
    height = 0.5 * len(classes) + 0.6
    figure, axes = plt.subplots(len(panels), 1, figsize=(WIDTH, height * len(panels)), squeeze=False)
    for ax, (title, frame) in zip(axes[:, 0], panels, strict=True):
        values, words = np.full((len(classes), width), np.nan), np.full((len(classes), width), "", object)
        sure = np.zeros((len(classes), width), bool)
        for r, class_name in enumerate(classes):
            for c, row in enumerate(frame[frame["class"] == class_name].itertuples()):
                values[r, c] = row.delta
                words[r, c] = f"{pretty(row.group)}\n{row.delta:+.1f}" + ("*" if getattr(row, "p_holm", 1) < 0.05 else "")
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
            cbar_kws={"label": "Δ AUROC (points)", "extend": "both", "pad": 0.01, "aspect": 30},
            yticklabels=[pretty(c) for c in classes],
            xticklabels=False,
        )
        shown = np.argwhere(np.isfinite(values))
        for (r, c), text in zip(shown, ax.texts, strict=True):
            if sure[r, c]:
                text.set_fontweight("bold")
        ax.set_title(f"{title}: mean Δ {frame.groupby('class')['delta'].mean().mean():+.1f}", fontsize=10)
        ax.tick_params(axis="y", rotation=0)
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
    """Ours against the paper's for AUROC before, after and Δ: a point a group; on the line they agree.

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
        rank = f"rank correlation {x.corr(y, method='spearman'):+.2f}" if len(x) > 2 else f"{len(x)} groups"
        ax.set(xlabel=f"paper: {unit}", ylabel=f"this study: {unit}", title=rank, aspect="equal")
    sns.despine(figure)
    return figure


def control_bars(table: pd.DataFrame) -> Figure:
    """Mean Δ AUROC of the text, of its controls and of the mask oracle, a panel a detector.

    Args:
        table: `nandlib.evaluation.measure.control_table`.
    """
    detectors = list(dict.fromkeys(table["detector"]))
    figure, axes = plt.subplots(1, len(detectors), figsize=(WIDTH / 2 * min(len(detectors), 2), 3.0), sharey=True, squeeze=False)
    for ax, detector in zip(axes[0], detectors, strict=True):
        part = table[table["detector"] == detector]
        colours = [OURS if c == "its text" else PAPER if c == "mask oracle" else "0.7" for c in part["control"]]
        bars = ax.barh(part["control"], part["delta"], color=colours)
        ax.bar_label(bars, fmt="%+.1f", fontsize=8, padding=3)
        ax.axvline(0, color="0.4", lw=0.8)
        ax.margins(x=0.22)
        ax.set(xlabel="mean Δ AUROC (points)", title=LABELS.get(detector, detector))
    axes[0, 0].invert_yaxis()
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
        ax.scatter(row.delta, place, s=34, color=OURS if row.is_default else "white", edgecolor=OURS, zorder=3)
        side = -1 if row.delta < own else 1  # the number on the far side of the line
        place_text = {"xytext": (7 * side, 0), "textcoords": "offset points", "ha": "right" if side < 0 else "left"}
        ax.annotate(f"{row.delta:+.1f}", (row.delta, place), va="center", fontsize=8, **place_text)
    labels = [f"{row.choice}: {row.value}" for row in table.itertuples()]
    ax.set(yticks=y, yticklabels=labels, xlabel="mean Δ AUROC (points)")
    ax.tick_params(axis="y", labelsize=8)
    ax.margins(x=0.12, y=0.02)
    ax.invert_yaxis()
    sns.despine(figure, left=True)
    return figure


def ablation_steps(table: pd.DataFrame) -> Figure:
    """Mean Δ AUROC with its 95 % interval for every step from `nand` to `nand_plus`, a panel a detector.

    Args:
        table: `nandlib.evaluation.ablation.ablation`; its frontier is not shown.
    """
    shown = table[table["kind"] != "frontier"]
    detectors = list(dict.fromkeys(shown["detector"]))
    figure, axes = plt.subplots(1, len(detectors), figsize=(WIDTH, 3.6), sharey=True, squeeze=False)
    colours = {"nand": "0.2", "path": OURS, "plus": OURS, "without": "0.6", "known": PAPER}
    for ax, detector in zip(axes[0], detectors, strict=True):
        for k, row in enumerate(shown[shown["detector"] == detector].itertuples()):
            ax.plot([row.delta_low, row.delta_high], [k, k], color=colours[row.kind], lw=2)
            ax.plot(row.delta, k, "o", color=colours[row.kind], ms=7)
            ax.annotate(f"{row.share:.0f}%", (row.delta, k), (0, 6), textcoords="offset points", ha="center", fontsize=8)
        names = shown.loc[shown["detector"] == detector, "step"].tolist()
        ax.set_yticks(range(len(names)), names)
        ax.axvline(0, color="0.4", lw=0.8)
        ax.set(xlabel="mean Δ AUROC (points)", title=LABELS.get(detector, detector), ylim=(len(names) - 0.5, -0.7))
    sns.despine(figure, left=True)
    return figure


def frontier(table: pd.DataFrame) -> Figure:
    """What more suppression brings and costs: share of the achievable gain against the score removed from other types.

    Args:
        table: `nandlib.evaluation.ablation.ablation`.
    """
    detectors = list(dict.fromkeys(table["detector"]))
    figure, axes = plt.subplots(1, len(detectors), figsize=(WIDTH, 3.7), squeeze=False)
    for ax, detector in zip(axes[0], detectors, strict=True):
        own = table[table["detector"] == detector]
        line = own[own["kind"].isin(["frontier", "plus"])].sort_values("removed_other")
        ax.plot(line["removed_other"], line["share"], "o-", color=OURS, mfc="white", label="nand_plus, other priors")
        for kind, colour, marker, label in (
            ("plus", OURS, "o", "nand_plus"),
            ("nand", "0.3", "s", "nand (the paper's)"),
            ("known", PAPER, "D", "nand_plus, other types known"),
        ):
            point = own[own["kind"] == kind]
            ax.plot(point["removed_other"], point["share"], marker, color=colour, ms=8, label=label, zorder=3)
        ax.axhline(0, color="0.4", lw=0.8)
        ax.set(xlabel="score removed from other types (%)", ylabel="share of the achievable gain (%)", title=LABELS.get(detector, detector))
    handles, labels = axes[0, -1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2, fontsize=8, frameon=False)
    sns.despine(figure)
    return figure


def detector_bars(table: pd.DataFrame) -> Figure:
    """Table 3 as bars: AUROC before, after (with the 95 % interval of the gain) and the ceiling for every detector.

    Args:
        table: `nandlib.evaluation.uncertainty.detector_summary`.
    """
    figure, ax = plt.subplots(figsize=(6.4, 3.2))
    x = np.arange(len(table))
    for shift, column, colour, label in ((-0.2, "auroc_before", "0.65", "before"), (0.2, "auroc_after", OURS, "after adding")):
        bars = ax.bar(x + shift, table[column], 0.38, color=colour, label=label)
        ax.bar_label(bars, fmt="%.1f", fontsize=8, label_type="center", color="white" if shift > 0 else "black")
    gain = table["auroc_after"] - table["auroc_before"]
    error = np.stack([gain - table["delta_low"], table["delta_high"] - gain]).clip(0)
    ax.errorbar(x + 0.2, table["auroc_after"], error, fmt="none", ecolor="black", elinewidth=1, capsize=3)
    ax.hlines(table["auroc_ceiling"], x - 0.4, x + 0.4, color=PAPER, lw=1.6, label="ceiling")
    low = max(0, table[["auroc_before", "auroc_after"]].min().min() - 10)
    ax.set(xticks=x, xticklabels=[LABELS.get(d, d) for d in table["detector"]], ylim=(low, 102), ylabel="AUROC (%)")
    figure.legend(loc="outside upper center", frameon=False, ncols=3, fontsize=8)
    sns.despine(figure)
    return figure
