"""Pictures of signals: beats and their maps before and after, and AUROC against the number of examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from nandlib.show.style import LABELS, OURS, PAPER, pretty
from nandlib.signals.records import GOOD

WAYS = {"nothing": ("nothing added", "0.45", "o"), "examples": ("k examples", OURS, "s"), "bank": ("k beats into the memory", PAPER, "D")}


def groups_figure(signals: np.ndarray, groups: Sequence[str], maps: Mapping[str, np.ndarray]) -> Figure:
    """Mean and deviation of the records of every group over those of good ones; below, the mean map of every detector.

    Args:
        signals: ``(N, Q)``, one lead.
        groups: ``(N,)``.
        maps: Detector → A ``(N, Q)``.
    """
    every = np.array(groups)
    names = [name for name in dict.fromkeys(groups) if name != GOOD]
    figure, axes = plt.subplots(2, len(names), figsize=(2.5 * len(names), 4.2), sharex=True, sharey="row", squeeze=False)
    good, time = signals[every == GOOD], np.arange(signals.shape[1])
    for column, name in zip(axes.T, names, strict=True):
        own = signals[every == name]
        column[0].fill_between(time, *(good.mean(0) + sign * good.std(0) for sign in (-1, 1)), color="0.85", label="good beats, ± sd")
        column[0].plot(time, good.mean(0), color="0.5", lw=1)
        column[0].plot(time, own.mean(0), color=PAPER, lw=1.5, label="beats of the type, mean")
        column[0].set_title(f"{pretty(name)} ({len(own)})")
        for (detector, found), style in zip(maps.items(), ("-", "--"), strict=False):
            mean = found[every == name].mean(0) / found[every != GOOD].mean(0).max()
            column[1].plot(time, mean, style, color=OURS, lw=1.4, label=f"A of {LABELS[detector]}")
        column[1].set_xlabel("sample")
    axes[0, 0].set_ylabel("signal")
    axes[1, 0].set_ylabel("mean A (largest = 1)")
    handles = [pair for ax in axes[:, 0] for pair in zip(*ax.get_legend_handles_labels(), strict=True)]
    figure.legend([h for h, _ in handles], [label for _, label in handles], loc="outside upper center", ncols=2, fontsize=8, frameon=False)
    sns.despine(figure)
    return figure


def before_and_after(signals: np.ndarray, groups: Sequence[str], before: np.ndarray, after: Mapping[str, np.ndarray]) -> Figure:
    """One record of every group, that of median score: the signal; A, and A_final with each normality added.

    Args:
        signals: ``(N, Q)``, one lead.
        groups: ``(N,)``.
        before: A ``(N, Q)``.
        after: Added group → A_final ``(N, Q)``.
    """
    every, names = np.array(groups), [name for name in dict.fromkeys(groups) if name]
    figure, axes = plt.subplots(2, len(names), figsize=(2.3 * len(names), 3.9), sharex=True, sharey="row", squeeze=False)
    for column, name in zip(axes.T, names, strict=True):
        own = np.flatnonzero(every == name)
        number = own[np.argsort(before[own].max(1))[len(own) // 2]]
        column[0].plot(signals[number], color="0.2", lw=1.2)
        column[0].set_title(pretty(name))
        column[1].fill_between(np.arange(before.shape[1]), before[number], color="0.85", label="A")
        for (added, final), colour in zip(after.items(), (OURS, PAPER, "#009E73", "#CC78BC"), strict=False):
            column[1].plot(final[number], color=colour, lw=1.2, label=f"A_final, {pretty(added)} added")
        column[1].set_xlabel("sample")
    axes[0, 0].set_ylabel("signal")
    axes[1, 0].set_ylabel("A")
    figure.legend(*axes[1, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3, fontsize=8, frameon=False)
    sns.despine(figure)
    return figure


def contest_figure(summary: pd.DataFrame, intervals: pd.DataFrame) -> Figure:
    """AUROC after against the number of examples, a panel a detector, with 95 % intervals over records.

    Args:
        summary: ``summary.csv`` of `nandlib.stages.signals`.
        intervals: ``intervals.csv`` of it.
    """
    detectors = list(dict.fromkeys(summary["detector"]))
    figure, axes = plt.subplots(1, len(detectors), figsize=(4 * len(detectors), 3.2), sharey=True, squeeze=False)
    for ax, detector in zip(axes.flat, detectors, strict=True):
        table, ends = (frame[frame["detector"] == detector] for frame in (summary, intervals))
        alone = table.drop_duplicates("k").sort_values("k")
        ax.plot(range(len(alone)), alone["auroc_others"], ":", color="0.3", label="others alone")
        for shift, (method, (label, colour, marker)) in zip((-0.1, 0.0, 0.1), WAYS.items(), strict=True):
            own = table[table["method"] == method].sort_values("k")
            if len(own):
                x, bars = np.arange(len(own)) + shift, ends[ends["method"] == method].sort_values("k")
                ax.plot(x, own["auroc_after"], f"{marker}-", color=colour, ms=5, lw=1.2, label=label)
                ax.vlines(x, bars["low"], bars["high"], color=colour, lw=1, alpha=0.6)
        counts = [f"{k}\n({n})" for k, n in zip(alone["k"], alone["n_groups"], strict=True)]
        ax.set(xticks=range(len(alone)), xticklabels=counts, xlabel="examples k (groups)", title=LABELS[detector])
    axes[0, 0].set_ylabel("AUROC after (%)")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4, fontsize=8, frameon=False)
    sns.despine(figure)
    return figure
