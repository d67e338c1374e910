"""The style of all figures: colours, names, and how a figure is written so that two runs give the same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.rcsetup import cycler
from numpy.typing import ArrayLike

from nandlib.data.held import written

MAP_COLOURS = "inferno"  # anomaly maps
SUPPRESSION_COLOURS = "viridis"  # suppression maps, always on [0, 1]
DELTA_COLOURS = "PuOr"  # losses orange-brown, gains purple, symmetric about 0
OURS, PAPER = "#0072B2", "#D55E00"  # Okabe-Ito blue and vermilion
WIDTH = 7.2  # of the widest figures, in inches: at half the width of a page their text is still readable
MINUS = "\N{MINUS SIGN}"  # as on axes
OUTLINE = "#00E5FF"  # of ground-truth masks
LABELS = {
    "aprilgan": "APRIL-GAN",
    "aprilgan_1": "APRIL-GAN-1",
    "aprilgan_5": "APRIL-GAN-5",
    "winclip_0": "WinCLIP-0",
    "winclip_1": "WinCLIP-1",
    "winclip_5": "WinCLIP-5",
    "patchcore": "PatchCore",
    "uniad": "UniAD",
    "onenip": "OneNIP",
    "pbas": "PBAS",
    "pradot": "PRADOT",
    "hetnet_style": "HetNet-style",
    "fader_style": "FADeR-style",
    "nearest_records": "nearest normal beats",
    "mmae_ecg_style": "MMAE-ECG-style",
    "point_histograms": "point histograms",
}
COLOURS = {  # of detectors, in every figure that tells them by colour (`colour_of`)
    "aprilgan": "black",
    "winclip_0": "#6A3D9A",
    "winclip_1": "#949494",
    "winclip_5": "#9A9000",
    "patchcore": "#0173B2",
    "uniad": "#DE8F05",
    "onenip": "#029E73",
    "pbas": "#D55E00",
    "pradot": "#CC78BC",
    "hetnet_style": "#CA9161",
    "fader_style": "#56B4E9",
}
IMAGES = {  # of studies whose results are committed, as figures and pages name and order them
    "mini": "drawn images",
    "mini_detectors": "drawn images",
    "magnetic_tile": "Magnetic Tile",
    "bottle": "MVTec AD's bottle",
    "pcb": "circuit boards",
}
WRITTEN = {"r_on_t": "R-on-T"}  # names that readers know in another form
CONTEST = {  # methods of `nandlib.evaluation.contest`
    "nothing": "nothing added",
    "text": "text",
    "examples": "k examples",
    "both": "text and k examples",
    "bank": "k images into PatchCore's memory",
}


_COLOUR_BLIND_SAFE = ("#0173B2", "#DE8F05", "#029E73", "#D55E00", "#CC78BC", "#CA9161", "#FBAFE4", "#949494", "#ECE133", "#56B4E9")
_INK, _THIN = ".15", 1.25
_STYLE: dict[Any, Any] = {  # seaborn's "white" style at 0.8 of its notebook context (a test compares), without needing seaborn
    "axes.axisbelow": True,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "axes.labelsize": 9.6,
    "axes.linewidth": _THIN,
    "axes.prop_cycle": cycler(color=_COLOUR_BLIND_SAFE),
    "axes.titlesize": 9.5,
    "figure.constrained_layout.use": True,
    "figure.dpi": 100,
    "font.family": ["sans-serif"],
    "font.sans-serif": ["Arial", "DejaVu Sans", "Liberation Sans", "Bitstream Vera Sans", "sans-serif"],
    "font.size": 9.6,
    "grid.color": ".8",
    "grid.linewidth": 1.0,
    "legend.fontsize": 8.8,
    "legend.title_fontsize": 9.6,
    "lines.solid_capstyle": "round",
    "patch.edgecolor": "w",
    "patch.force_edgecolor": True,
    "savefig.bbox": "tight",
    "savefig.dpi": 110,
    "text.color": _INK,
    **{f"{axis}tick.color": _INK for axis in "xy"},
    **{f"{axis}tick.labelsize": 8.8 for axis in "xy"},
    **{f"{axis}tick.{kind}.size": size for axis in "xy" for kind, size in (("major", 6.0), ("minor", 4.0))},
    **{f"{axis}tick.{kind}.width": width for axis in "xy" for kind, width in (("major", _THIN), ("minor", 1.0))},
    "xtick.bottom": False,
    "ytick.left": False,
}


def colour_of(detector: str) -> str:
    """In figures that tell detectors by colour; grey for one that has none in `COLOURS`."""
    return COLOURS.get(detector, "#555555")


def use_style() -> None:
    """The style of every figure of the study."""
    mpl.rcParams.update(_STYLE)


def pretty(name: str) -> str:
    """A class or group name for a title: underscores to spaces, unless it is written otherwise (`WRITTEN`)."""
    return WRITTEN.get(name, name.replace("_", " "))


def signed(value: float) -> str:
    """Points gained or lost, to a tenth, with the minus sign of the axes."""
    return f"{value:+z.1f}".replace("-", MINUS)


def mark(figure: Figure, watermark: str) -> Figure:
    """The figure with a word across it, unless the word is empty."""
    if watermark:
        place: dict[str, Any] = {"ha": "center", "va": "center", "rotation": 25, "zorder": 10, "in_layout": False}
        figure.text(0.5, 0.5, watermark, color="#CC0000", alpha=0.45, fontsize=26, fontweight="bold", **place)
    return figure


def level(panels: Sequence[Axes], axis: str, top: float = 101) -> None:
    """As many points to an inch in all panels of percentages: no difference looks larger in one than in another.

    Each panel keeps its own middle, unless it would then reach beyond `top`.
    """
    limits = [getattr(ax, f"get_{axis}lim")() for ax in panels]
    reach = max(abs(high - low) for low, high in limits) / 2
    for ax, (low, high) in zip(panels, limits, strict=True):
        middle = min((low + high) / 2, max(high, top) - reach)
        ax.set(**{f"{axis}lim": (middle - reach, middle + reach)})


def parted(x: ArrayLike, y: ArrayLike, counts: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """A line with a gap wherever `counts`, of what each point is a mean of, changes: means over other groups are not joined."""
    cuts = np.flatnonzero(np.diff(np.asarray(counts))) + 1
    return np.insert(np.asarray(x, float), cuts, np.nan), np.insert(np.asarray(y, float), cuts, np.nan)


def save(figure: Figure, path: Path, watermark: str = "") -> None:
    """Write a PNG without anything that differs from run to run.

    Raises:
        DataError: If it cannot be written.
    """
    written(path, lambda partial: mark(figure, watermark).savefig(partial, format="png", metadata={"Software": None}))


def nothing(text: str) -> Figure:
    """In place of a figure that would have nothing to show."""
    figure, ax = plt.subplots(figsize=(4, 2))
    ax.text(0.5, 0.5, text, ha="center", va="center")
    ax.set_axis_off()
    return figure
