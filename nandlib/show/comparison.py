"""Which detector? What several studies measured of PatchCore and the detectors that are trained, side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nandlib.errors import DataError
from nandlib.evaluation.paper import PUBLISHED_A0
from nandlib.show.style import LABELS, OURS, PAPER, colour_of, level
from nandlib.study.frames import read_table

WAYS = {  # column → name, colour and marker
    "auroc_after": ("a text, the paper's rule", PAPER, "s"),
    "auroc_plus": ("a text, nand_plus", OURS, "D"),
    "auroc_both": ("text and one example", "#009E73", "^"),
}
TABLE3 = {  # columns of `every_way` → heads
    "study": "images",
    "detector": "detector",
    "n_groups": "groups",
    "auroc_before": "before",
    "auroc_others": "others alone",
    "delta": "paper's rule",
    "delta_plus": "nand_plus",
    "before_one": "before, one shown",
    "delta_text": "text",
    "delta_examples": "example",
    "delta_both": "text and example",
    "removed": "of others: rule",
    "removed_plus": "of others: nand_plus",
    "removed_text": "of others: text",
    "removed_examples": "of others: example",
    "removed_both": "of others: both",
}
INTERVALS = {"auroc_after": "delta", "auroc_plus": "delta_plus"}  # of what these columns gain
COST = ["train_s", "peak_gb", "image_ms", "backbone_ratio", "state_mb"]


def comparison(figures: Path, studies: Sequence[str]) -> pd.DataFrame:
    """One row a study and detector, of the studies for which ``nand benchmark STUDY --detectors`` was run.

    Args:
        figures: The project's folder of results.
        studies: Their names.

    Returns:
        ``study``, ``detector``; any defect against normal images, by the map's maximum (``auroc_any``) and by the official score, and by
        what lies far from the defect alone (`nandlib.evaluation.background`; missing without masks), all image AUROC in percent, and the
        published value on MVTec AD; mean over groups before (``auroc_before``) and with a text by the paper's rule
        (``auroc_after``, ``delta`` with its interval) and by `nand_plus` (``auroc_plus``, ``delta_plus`` with its interval), and with text
        and one example
        (``auroc_both``, over ten draws); by how much less other groups score then (``removed_plus``, inside masks, ``removed_both``, of
        the image score, in percent); `COST` as in `nandlib.benchmarks.detectors.COLUMNS`.
    """
    ran = [study for study in studies if (figures / study / "model/detectors.csv").is_file()]
    return pd.DataFrame([{"study": study, **row} for study in ran for row in _rows(figures / study)])


def _rows(folder: Path) -> Iterator[dict[str, object]]:
    means, steps = read_table(folder / "detectors.csv").set_index("detector"), read_table(folder / "plus/ablation.csv")
    plus = steps[steps["kind"] == "plus"].set_index("detector")
    shown = read_table(folder / "kshot/detectors.csv").set_index(["detector", "method"])
    far = folder / "measure/background.csv"
    elsewhere = read_table(far).groupby("detector")["auroc_background"].mean() if far.is_file() else pd.Series(dtype=float)
    for cost in read_table(folder / "model/detectors.csv").to_dict("records"):
        name = cost["detector"]
        paper, own, both = means.loc[name], plus.loc[name], shown.loc[(name, "both")]
        yield {
            "detector": name,
            "auroc_any": cost["auroc_map"],
            "auroc_background": elsewhere.get(name, np.nan),
            "auroc_official": cost["auroc_official"],
            "published": PUBLISHED_A0.get(name, np.nan),
            **paper[["auroc_before", "auroc_after", "delta", "delta_low", "delta_high", "n_improved", "n_better", "n_worse", "n_groups"]],
            "auroc_plus": own["auroc_after"],
            "delta_plus": own["delta"],
            "delta_plus_low": own["delta_low"],
            "delta_plus_high": own["delta_high"],
            "removed_plus": own["removed_other"],
            "auroc_both": paper["auroc_before"] + both["auroc_after"] - both["auroc_before"],  # whose test set lacks the example
            "delta_both": both["auroc_after"] - both["auroc_before"],
            "removed_both": both["removed_other"],
            **{key: cost[key] for key in COST},
        }


def every_way(figures: Path, studies: Sequence[str]) -> pd.DataFrame:
    """Table 3 beyond the paper's rule: every detector of a study, and every way to say what is normal.

    Args:
        figures: The project's folder of results.
        studies: Names of those with ``detectors.csv``, ``plus/ablation.csv`` and ``kshot/detectors.csv``; others are left out.

    Returns:
        ``study``, ``detector``, ``n_groups``; AUROC in percent before (``auroc_before``), and against the other groups alone
        (``auroc_others``); points gained by a text with the paper's rule (``delta``, with its 95 % interval) and with `nand_plus`
        (``delta_plus``; missing for WinCLIP, which the ablation leaves out); on the images that are left when one is shown, mean over ten
        draws, ``before_one``, and the points gained there by the text alone (``delta_text``), the example alone (``delta_examples``) and
        both (``delta_both``); by how much less other groups score then, in percent: inside their masks by the rule and by `nand_plus`
        (``removed``, ``removed_plus``; missing without masks), of their image scores by the three others (``removed_text``, ...).

    Raises:
        DataError: If no study is whole.
    """
    needed = ("detectors.csv", "plus/ablation.csv", "kshot/detectors.csv")
    whole = [study for study in studies if all((figures / study / name).is_file() for name in needed)]
    if not whole:
        raise DataError(f"{figures}: none of {', '.join(studies)} has all of {', '.join(needed)}: run 'make detectors' first")
    return pd.concat([_ways(figures / study).assign(study=study) for study in whole]).set_index("study").reset_index()


def _ways(folder: Path) -> pd.DataFrame:
    means, steps = read_table(folder / "detectors.csv").set_index("detector"), read_table(folder / "plus/ablation.csv")
    rule, plus = (steps[steps["kind"] == kind].set_index("detector") for kind in ("nand", "plus"))
    table = means[["n_groups", "auroc_before", "auroc_others", "delta", "delta_low", "delta_high"]].copy()
    table["removed"] = rule["removed_other"]
    table[["delta_plus", "delta_plus_low", "delta_plus_high", "removed_plus"]] = plus[["delta", "delta_low", "delta_high", "removed_other"]]
    shown = read_table(folder / "kshot/detectors.csv")
    for method, own in shown[shown["method"] != "nothing"].groupby("method", sort=False):
        own = own.set_index("detector")
        table["before_one"] = own["auroc_before"]
        table[[f"delta_{method}", f"removed_{method}"]] = pd.DataFrame(
            {"delta": own["auroc_after"] - own["auroc_before"], "removed": own["removed_other"]}
        )
    return table.reset_index()


def gains_chart(table: pd.DataFrame, titles: dict[str, str]) -> Figure:
    """AUROC before and after for every detector, a panel a study; lines: 95 % intervals over images of what a text gains.

    Args:
        table: Of `comparison`.
        titles: Study → title.
    """
    studies = list(dict.fromkeys(table["study"]))
    columns = min(2, len(studies))
    rows = -(-len(studies) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(4.2 * columns, 0.9 + 2.1 * rows), squeeze=False)
    for ax, study in zip(axes.flat, studies, strict=False):
        own = table[table["study"] == study].reset_index(drop=True)
        y = np.arange(len(own))[::-1]
        ax.plot(own["auroc_before"], y, "|", color="0.4", ms=14, mew=1.5, label="nothing added")
        for shift, (column, (label, colour, marker)) in zip((0.2, 0.0, -0.2), WAYS.items(), strict=True):
            ax.plot(own[column], y + shift, marker, color=colour, ms=5, label=label)
            if column in INTERVALS:
                ends = (own["auroc_before"] + own[f"{INTERVALS[column]}_{end}"] for end in ("low", "high"))
                ax.hlines(y + shift, *ends, color=colour, lw=1)
        ax.set(yticks=y, yticklabels=[LABELS[name] for name in own["detector"]], ylim=(-0.6, len(own) - 0.4))
        ax.set(xlabel="AUROC (%)", title=titles[study])
    level([ax for ax, _ in zip(axes.flat, studies, strict=False)], "x")
    for ax in axes.flat[len(studies) :]:
        ax.set_axis_off()
    handles, labels = axes[0, 0].get_legend_handles_labels()
    place: dict[str, Any] = {"loc": "outside upper center", "ncols": 4 if columns > 1 else 2, "frameon": False}
    figure.legend(handles, labels, title="lines: 95 % intervals of a text's gain", fontsize=8, title_fontsize=8, **place)
    sns.despine(figure)
    return figure


def cost_chart(table: pd.DataFrame, titles: dict[str, str]) -> Figure:
    """What any defect's AUROC costs: seconds to fit, and milliseconds an image; a marker a study, a colour a detector."""
    figure, axes = plt.subplots(1, 2, figsize=(8.4, 3.6), sharey=True)
    markers = dict(zip(titles, "osD^vP", strict=False))
    names = {"train_s": "seconds to fit, all classes (logarithmic)", "image_ms": "milliseconds an image, in batches of eight"}
    for ax, (column, label) in zip(axes, names.items(), strict=True):
        for row in table.to_dict("records"):
            ax.plot(row[column], row["auroc_any"], markers[row["study"]], color=colour_of(row["detector"]), ms=7, mec="white", alpha=0.8)
        ax.set(xlabel=label)
    axes[0].set(xscale="log", ylabel="any defect: AUROC (%)")
    kinds = [Line2D([], [], ls="", marker="o", color=colour_of(name), label=LABELS[name]) for name in dict.fromkeys(table["detector"])]
    kinds += [Line2D([], [], ls="", marker=markers[name], color="0.4", label=titles[name]) for name in dict.fromkeys(table["study"])]
    figure.legend(handles=kinds, loc="outside upper center", ncols=5, fontsize=8, frameon=False)
    sns.despine(figure)
    return figure
