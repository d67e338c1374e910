"""Figures of images and maps, every map on a scale that the figure states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.ndimage import binary_dilation

from nandlib.show.style import MAP_COLOURS, OUTLINE, SUPPRESSION_COLOURS, WIDTH

MARGIN = 0.015  # of an image's side, between a mask and its outline


def show_image(ax: Axes, image: np.ndarray, mask: np.ndarray | None = None, title: str = "") -> None:
    """An image with its ground-truth mask outlined at a little distance: an outline on its rim would hide a thread."""
    ax.imshow(image, extent=(0, 1, 1, 0))
    if mask is not None and mask.any():
        around = binary_dilation(mask, iterations=max(1, round(MARGIN * max(mask.shape))))
        if not around.all():
            ax.contour(*(np.linspace(0, 1, side) for side in mask.shape[::-1]), around, levels=[0.5], colors=OUTLINE, linewidths=0.6)
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


def _score(anomaly_map: np.ndarray) -> str:
    """Its maximum, in so many digits that a change which turns the order is seen."""
    return f"{anomaly_map.max():#.4g}"


def _row_label(ax: Axes, text: str) -> None:
    ax.set_ylabel(text, rotation=0, ha="right", va="center", fontsize=9, labelpad=6)


def before_after(rows: Sequence[dict[str, Any]], suppression: bool = True) -> Figure:
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
                ax.set_xlabel(f"score {_score(row[column])}", fontsize=9)
    for k, column in enumerate(columns[1:], start=1):
        image, label = (shown_sup, "suppression") if column == "suppression" else (shown, "anomaly")
        pad = 0.01 if len(rows) > 1 else 0.12  # of the height of all rows: below a single one its score is as high
        figure.colorbar(image, ax=axes[:, k], location="bottom", shrink=0.85, aspect=18, pad=pad, label=label, panchor=False)
    return figure


def pairs(blocks: Sequence[dict[str, Any]], columns: int = 2) -> Figure:
    """Figure 5: per class an image of the added type and one of another type, before and after, side by side, with their scores.

    Args:
        blocks: Each has ``title``, ``rows`` (as for `before_after`), and is scaled by its own largest map value.
        columns: Blocks next to each other.
    """
    columns = min(columns, len(blocks))
    n_rows = -(-len(blocks) // columns)
    figure = plt.figure(figsize=(WIDTH / 2 * columns, 2.6 * n_rows))
    for block, sub in zip(blocks, figure.subfigures(n_rows, columns, squeeze=False).flat, strict=False):
        axes = sub.subplots(len(block["rows"]), 3, squeeze=False)
        vmin = min(0.0, *(float(row["before"].min()) for row in block["rows"]))
        vmax = max(float(row["before"].max()) for row in block["rows"])
        sub.suptitle(f"{block['title']}\nmaps from {vmin:.3g} to {vmax:.3g}", fontsize=9)
        for k, row in enumerate(block["rows"]):
            show_image(axes[k, 0], row["image"], row["mask"])
            _row_label(axes[k, 0], row["label"])
            show_map(axes[k, 1], row["before"], vmin=vmin, vmax=vmax, title="before" if k == 0 else "")
            show_map(axes[k, 2], row["after"], vmin=vmin, vmax=vmax, title="after" if k == 0 else "")
            axes[k, 1].set_xlabel(f"score {_score(row['before'])}", fontsize=8)
            axes[k, 2].set_xlabel(f"score {_score(row['after'])}", fontsize=8)
    return figure


def image_grid(cells: Sequence[Sequence[dict[str, Any] | None]]) -> Figure:
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


def map_strip(panels: Sequence[dict[str, Any]]) -> Figure:
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
