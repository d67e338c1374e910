"""Pictures of surfaces: points seen from where the fault is, coloured by the map, before and after; and AUROC tuned and untuned.

The pictures are still: a viewer that turns them needs a bundle of several megabytes in every notebook, or a network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_rgba
from matplotlib.figure import Figure

from nandlib.show.style import MAP_COLOURS, OURS, PAPER, WIDTH, pretty

FRONT = np.array([0.6, -1.0, 0.8])  # from where a surface is seen that has no fault
MOST = 1300  # points of a panel
POOLED = "all faults, pooled"
SIDES = {"front": (0.6, -1.0, 0.8), "right": (1.0, 0.6, 0.5), "back": (-0.6, 1.0, 0.8), "above": (0.05, -0.1, 1.0)}


def seen(points: np.ndarray, view: Sequence[float] | np.ndarray) -> np.ndarray:
    """Points ``(P, 3)`` as seen from a direction: right, up and towards the eye ``(P, 3)``."""
    eye = np.asarray(view, float) / np.linalg.norm(view)
    right = np.cross([0.0, 0.0, 1.0], eye)
    right = np.array([1.0, 0.0, 0.0]) if np.linalg.norm(right) < 1e-6 else right / np.linalg.norm(right)
    found: np.ndarray = (points - points.mean(0)) @ np.stack([right, np.cross(eye, right), eye], 1)
    return found


def towards(points: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A direction ``(3,)`` from which what is marked is seen: `FRONT`, turned to the side of the body that it lies on, never from below."""
    if not mask.any() or mask.mean() > 0.2:
        return FRONT
    away = points[mask].mean(0) - points.mean(0)
    away[2] = abs(away[2]) + 0.4 * np.linalg.norm(away[:2])
    return FRONT if np.linalg.norm(away) < 1e-9 else away / np.linalg.norm(away)


def draw(ax: Axes, points: np.ndarray, colours: np.ndarray, view: Sequence[float] | np.ndarray, kept: np.ndarray | None = None) -> None:
    """Points in one panel, about `MOST` and all that are to be kept, the nearest to the eye last.

    Args:
        ax: The panel.
        points: ``(P, 3)``.
        colours: ``(P, 4)``.
        view: From where.
        kept: ``(P,)`` bool.
    """
    place = seen(points, view)
    order = place[:, 2].argsort()
    few = np.arange(len(order)) % max(1, len(order) // MOST) == 0
    order = order[few if kept is None else few | kept[order]]
    ax.scatter(place[order, 0], place[order, 1], c=colours[order], s=4.5, lw=0, rasterized=True)
    ax.set(xticks=[], yticks=[])
    ax.set_aspect("equal", adjustable="datalim")  # panels, and so their titles, keep one height
    sns.despine(ax=ax, left=True, bottom=True)


def faults_figure(maps: Mapping[str, np.ndarray], parts: Sequence[str], groups: Sequence[str]) -> Figure:
    """Two rows a part: what is at fault, and A; a column a type of fault.

    Args:
        maps: ``<part>/<group>/points``, ``mask``, ``maps``, of one surface each.
        parts: Rows.
        groups: Columns.
    """
    figure, axes = plt.subplots(2 * len(parts), len(groups), figsize=(WIDTH, 1.15 * 2 * len(parts)), squeeze=False)
    for row, name in enumerate(parts):
        own = [group for group in groups if f"{name}/{group}/maps" in maps]  # a part may lack a type
        scale = _scale(max(float(maps[f"{name}/{group}/maps"].max()) for group in own))
        for column, group in enumerate(groups):
            upper, lower = axes[2 * row, column], axes[2 * row + 1, column]
            if row == 0:
                upper.set_title(pretty(group))
            if group not in own:
                upper.set_axis_off()
                lower.set_axis_off()
                continue
            points, mask, anomaly = (maps[f"{name}/{group}/{key}"] for key in ("points", "mask", "maps"))
            view = towards(points, mask)
            near = seen(points, view)[:, 2]
            grey = plt.get_cmap("Greys")(0.6 - 0.4 * (near - near.min()) / np.ptp(near))
            draw(upper, points, np.where(mask[:, None], to_rgba(PAPER), grey), view, mask)
            draw(lower, points, scale.to_rgba(anomaly), view, mask)
        axes[2 * row, 0].set_ylabel(pretty(name), fontsize=8.5)
        axes[2 * row + 1, 0].set_ylabel(f"A, 0 to {scale.get_clim()[1]:.2f}", fontsize=8.5)
    return figure


def _scale(top: float) -> ScalarMappable:
    """Of anomaly maps, from 0."""
    return ScalarMappable(Normalize(0, top), MAP_COLOURS)


def before_and_after(maps: Mapping[str, np.ndarray], part: str, added: str, groups: Sequence[str]) -> Figure:
    """One surface of every type from several sides: A, and A_final with one type added.

    Args:
        maps: As in `faults_figure`, and ``<part>/<group>/final/<added>``.
        part: Which.
        added: The type.
        groups: Rows.
    """
    sides = len(SIDES)
    figure, axes = plt.subplots(len(groups), 2 * sides, figsize=(WIDTH, 1.05 * len(groups)), squeeze=False)
    scale = _scale(max(float(maps[f"{part}/{group}/maps"].max()) for group in groups))
    for row, group in zip(axes, groups, strict=True):
        points = maps[f"{part}/{group}/points"]
        for place, key in enumerate(("maps", f"final/{added}")):
            for ax, view in zip(row[place * sides :], SIDES.values(), strict=False):
                draw(ax, points, scale.to_rgba(maps[f"{part}/{group}/{key}"]), view)
        row[0].set_ylabel(pretty(group), fontsize=8.5)
    for place, title in enumerate(("$A$", f"$A_{{final}}$, {pretty(added)} added")):
        for ax, side in zip(axes[0, place * sides :], SIDES, strict=False):
            ax.set_title(f"{title}\n{side}" if side == "front" else side, fontsize=8, loc="left", y=1.0)
    figure.colorbar(scale, ax=axes, location="bottom", shrink=0.4, aspect=40, pad=0.02, label="anomaly")
    return figure


def areas_figure(objects: pd.DataFrame, types: pd.DataFrame) -> Figure:
    """AUROC per object and per point, untuned and tuned: means over parts of every type of fault, and over all.

    Args:
        objects: ``objects.csv`` of `nandlib.stages.surfaces`.
        types: ``types.csv`` of it.
    """
    means = types.groupby(["group", "detector"], sort=False)[["auroc_object", "auroc_point"]].mean()
    every = objects.groupby("detector")[["auroc_object", "auroc_point"]].mean()
    names = [*dict.fromkeys(types["group"]), POOLED]
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 2.6), sharey=True, sharex=True)
    for ax, column, title in zip(axes, ("auroc_object", "auroc_point"), ("per object", "per point"), strict=True):
        for y, name in enumerate(names):
            untuned, tuned = ((every if name == POOLED else means.loc[name]).loc[own, column] for own in ("untuned", "tuned"))
            ax.plot([untuned, tuned], [y, y], color="0.75", lw=1.5, zorder=1)
            ax.plot(untuned, y, "o", mfc="white", color=PAPER, label="untuned" if y == 0 else None)
            ax.plot(tuned, y, "o", color=OURS, label="tuned on Perlin anomalies" if y == 0 else None)
        ax.set(title=f"AUROC {title} (%)", yticks=range(len(names)), yticklabels=[pretty(name) for name in names])
        ax.grid(axis="x", lw=0.5)
        ax.axhline(len(names) - 1.5, color="0.6", lw=0.8)  # above the row that all types share
    axes[0].invert_yaxis()
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2, fontsize=8, frameon=False)
    sns.despine(figure)
    return figure
