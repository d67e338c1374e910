"""Pictures of signals: beats and their maps before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure

from nandlib.data.groups import GOOD, groups_of
from nandlib.show.style import LABELS, OURS, PAPER, nothing, pretty


def groups_figure(signals: np.ndarray, groups: Sequence[str], maps: Mapping[str, np.ndarray]) -> Figure:
    """Mean and deviation of the records of every group over those of good ones; below, the mean map of every detector.

    Args:
        signals: ``(N, Q)``, one lead.
        groups: ``(N,)``.
        maps: Detector → A ``(N, Q)``.
    """
    every = np.array(groups)
    names = groups_of(groups)
    if not names or GOOD not in groups:
        return nothing("no types, or no good records")
    figure, axes = plt.subplots(2, len(names), figsize=(2.5 * len(names), 4.2), sharex=True, sharey="row", squeeze=False)
    good, time = signals[every == GOOD], np.arange(signals.shape[1])
    for column, name in zip(axes.T, names, strict=True):
        own = signals[every == name]
        column[0].fill_between(time, *(good.mean(0) + sign * good.std(0) for sign in (-1, 1)), color="0.85", label="good beats, ± sd")
        column[0].plot(time, good.mean(0), color="0.5", lw=1)
        column[0].plot(time, own.mean(0), color=PAPER, lw=1.5, label="beats of the type, mean")
        column[0].set_title(f"{pretty(name)} ({len(own)} beats)")
        for (detector, found), (colour, line) in zip(maps.items(), cycle(((OURS, "-"), ("#009E73", "--"))), strict=False):
            mean = found[every == name].mean(0) / max(found[every == one].mean(0).max() for one in names)
            column[1].plot(time, mean, line, color=colour, lw=1.4, label=f"A of {LABELS[detector]}")
        column[1].set_xlabel(f"sample (of {signals.shape[1]})")
    axes[0, 0].set_ylabel("signal (as scaled)")
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
        for (added, final), colour in zip(after.items(), cycle((OURS, PAPER, "#009E73", "#CC78BC")), strict=False):
            column[1].plot(final[number], color=colour, lw=1.2, label=f"A_final, {pretty(added)} added")
        column[1].set_xlabel("sample")
    axes[0, 0].set_ylabel("signal")
    axes[1, 0].set_ylabel("A")
    figure.legend(*axes[1, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3, fontsize=8, frameon=False)
    sns.despine(figure)
    return figure
