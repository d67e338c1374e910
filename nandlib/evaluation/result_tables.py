"""The tables of controls, of the ablation, of the contest and of what is shown, from scores alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from nandlib.evaluation.protocol import check_identity, class_averages, delta_table, identity_residuals
from nandlib.evaluation.statistics import interval
from nandlib.evaluation.steps import Step
from nandlib.evaluation.uncertainty import (
    delta_samples,
    detector_summary,
    gap_closed,
    origin_table,
    protocol_tables,
    resample,
    uncertainty,
)
from nandlib.study.frames import SCORES

CONTROL_COLUMNS = ["detector", "control", "auroc_before", "auroc_after", "delta", "gap_closed", "n_improved", "n_groups"]
ABLATION_COLUMNS = [
    "kind", "step", "detector", "auroc_before", "auroc_after", "delta", "delta_low", "delta_high", "auroc_others", "gap_closed",
    "gap_closed_low", "gap_closed_high", "gain", "gain_low", "gain_high", "over_nand", "over_nand_low", "over_nand_high", "n_improved",
    "n_better", "n_worse", "n_groups", "worst", "removed_own", "removed_other", "removed_other_nand",
]  # fmt: skip


def control_table(scores: pd.DataFrame) -> pd.DataFrame:
    """Means over classes by detector and control, `CONTROL_COLUMNS`; AUROC and the share of the gap that is closed in percent.

    Args:
        scores: Of all classes, from `control_scores`. A row without some groups (the oracle's, where masks are missing) has
            means over the others, which ``n_groups`` counts.
    """
    rows = []
    for (detector, control), part in scores.groupby(["detector", "control"], sort=False):
        deltas = delta_table(part.drop(columns="control"), precision=False)
        means = class_averages(deltas)[["auroc_before", "auroc_after", "auroc_others"]].mean()
        before, after, others = means
        closed = gap_closed(before, after, others)
        rows.append((detector, control, before, after, after - before, closed, int((deltas["delta"] > 0).sum()), len(deltas)))
    return pd.DataFrame(rows, columns=CONTROL_COLUMNS)


def ablation_tables(scores: pd.DataFrame, removed: pd.DataFrame, every: Sequence[Step], origins: pd.Series) -> dict[str, pd.DataFrame]:
    """All tables of the ablation, from scores alone.

    Args:
        scores, removed: Of `nandlib.evaluation.ablation.Ablation`.
        every: Its steps.
        origins: By class and group (`nandlib.evaluation.origin.group_origins`).

    Returns:
        ``ablation``: `ABLATION_COLUMNS`, a row a step and detector: means over classes (AUROC and the share of the gap that is closed
        in percent, Δ in points, with 95 % intervals); what Δ gains (points, paired intervals) over the step before on the way to
        `nand_plus`, for all other kinds over `nand_plus` (``gain``), and over the paper's rule (``over_nand``); the worst Δ of a
        group; how much of the score inside masks of the added and of all other groups is removed (percent, means over classes with
        masks; NaN without any), and how much the paper's rule removes of the others if A_sup is scaled so that it removes as much
        of the added group.
        ``ablation_groups``: Δ of every group: step, detector, class, group, auroc_before, auroc_after, delta, auroc_others, origin.
        ``origins``: `nandlib.evaluation.uncertainty.origin_table` of every step, with intervals over images alone.
    """
    cut = removed.groupby(["step", "detector", "own"])["removed"].mean()
    tables, groups, by_origin = list[pd.DataFrame](), list[pd.DataFrame](), list[pd.DataFrame]()
    samples: dict[str, dict[str, np.ndarray]] = {}
    for step in every:
        frame = scores[scores["step"] == step.name].drop(columns="step")
        draws, deltas = resample(frame), delta_table(frame, precision=False)
        samples[step.name] = delta_samples(draws)
        tests, detectors = uncertainty(draws)
        deltas = deltas.merge(tests[["detector", "class", "group", "p_holm"]], on=["detector", "class", "group"], validate="one_to_one")
        deltas["origin"] = deltas[["class", "group"]].apply(tuple, axis=1).map(origins)
        table = detector_summary(deltas, detectors)
        worst = deltas.groupby("detector")["delta"].min()
        own, other = (table["detector"].map(lambda d, s=step.name, k=kind: cut.get((s, d, k), np.nan)) for kind in (True, False))
        tables.append(
            table.assign(kind=step.kind, step=step.name, worst=table["detector"].map(worst), removed_own=own, removed_other=other)
        )
        by_origin.append(origin_table(draws, deltas).drop(columns=["classes_low", "classes_high"]).assign(step=step.name))
        kept = ["detector", "class", "group", "auroc_before", "auroc_after", "delta", "auroc_others", "origin"]
        groups.append(deltas[kept].assign(step=step.name)[["step", *kept]])
    table = _compare(pd.concat(tables, ignore_index=True), every, samples)
    paper = table[table["step"] == every[0].name].set_index("detector")
    slope = table["detector"].map(paper["removed_other"] / paper["removed_own"])
    table["removed_other_nand"] = table["removed_own"] * slope
    origin_rows = pd.concat(by_origin, ignore_index=True)
    return {
        "ablation": table[ABLATION_COLUMNS],
        "ablation_groups": pd.concat(groups, ignore_index=True),
        "origins": origin_rows[["step", *origin_rows.columns.drop("step")]],
    }


def _compare(table: pd.DataFrame, every: Sequence[Step], samples: dict[str, dict[str, np.ndarray]]) -> pd.DataFrame:
    """`table` with ``gain`` and ``over_nand`` and their intervals: differences of Δ on the same resampled test sets."""
    reference: dict[str, dict[str, str | None]] = {"gain": {}, "over_nand": {}}
    first = every[0].name
    ours = next((step.name for step in every if step.kind == "plus"), first)
    for previous, step in zip([None, *every], every, strict=False):
        on_the_way = step.kind in ("path", "plus")
        reference["gain"][step.name] = None if previous is None else previous.name if on_the_way else ours
        reference["over_nand"][step.name] = None if previous is None else first
    deltas = table.set_index(["step", "detector"])["delta"]
    for column, against in reference.items():
        rows = []
        for step, detector in zip(table["step"], table["detector"], strict=True):
            other = against[step]
            if other is None:
                rows.append((np.nan, np.nan, np.nan))
            else:
                rows.append(
                    (deltas[step, detector] - deltas[other, detector], *interval(samples[step][detector] - samples[other][detector]))
                )
        table[[column, f"{column}_low", f"{column}_high"]] = rows
    return table


def kshot_summary(table: pd.DataFrame) -> pd.DataFrame:
    """The contest of `nandlib.evaluation.kshot`: mean over groups of every draw, then mean and sd over draws.

    Returns:
        k, method, auroc_before, auroc_after, sd (of auroc_after), auroc_others, gap_closed (percent, of the means), removed_own,
        removed_other, n_groups, n_draws.
    """
    columns = ["auroc_before", "auroc_after", "auroc_others", "removed_own", "removed_other"]
    by_draw = table.groupby(["k", "method", "draw"], sort=False)[columns].mean()
    means = by_draw.groupby(["k", "method"], sort=False)
    counts = table.drop_duplicates(["class", "group", "k"]).groupby("k").size()
    found = means.mean().assign(sd=means["auroc_after"].std(), n_draws=means.size()).reset_index()
    found["n_groups"] = found["k"].map(counts)
    found["gap_closed"] = [gap_closed(*row) for row in found[["auroc_before", "auroc_after", "auroc_others"]].itertuples(index=False)]
    return found[["k", "method", *columns[:2], "sd", "auroc_others", "gap_closed", *columns[3:], "n_groups", "n_draws"]]


def kshot_worth(table: pd.DataFrame) -> pd.DataFrame:
    """How many images the text of each group is worth: the least k at which examples, or a larger memory, do as well on the same images.

    Returns:
        class, group, delta_text (Δ of the text at the least k, points), examples, bank (k, by the means over draws; NaN: at no k that the
        group has images for), examples_draws, bank_draws (percent of the single draws of the least k in which they do).
    """
    keys = ["class", "group", "k", "draw", "method"]
    single = table.groupby(keys, sort=False)["auroc_after"].mean().unstack("method")  # noqa: PD010
    means = single.groupby(level=["class", "group", "k"], sort=False).mean()
    rows = []
    for (class_name, group), own in means.groupby(level=[0, 1], sort=False):
        ks, first = own.index.get_level_values("k").to_numpy(), own.iloc[0]
        worth = [ks[(own[method] >= own["text"]).to_numpy()].min(initial=np.iinfo(int).max) for method in ("examples", "bank")]
        least, draws = [k if k in ks else np.nan for k in worth], single.xs((class_name, group, ks.min()))
        shares = [100 * float((draws[method] >= draws["text"]).mean()) for method in ("examples", "bank")]
        rows.append((class_name, group, first["text"] - first["nothing"], *least, *shares))
    return pd.DataFrame(rows, columns=["class", "group", "delta_text", "examples", "bank", "examples_draws", "bank_draws"])


def shown_tables(scores: pd.DataFrame, origin: str) -> dict[str, pd.DataFrame]:
    """`nandlib.evaluation.uncertainty.protocol_tables` and ``identity`` (`nandlib.evaluation.protocol.identity_residuals`), checked.

    Args:
        scores: Of `nandlib.evaluation.shown.shown_scores`, of all classes and detectors.
        origin: Of all groups (`nandlib.evaluation.uncertainty.GIVEN` or another).

    Raises:
        DataError: If a *before* column breaks its identity.
    """
    SCORES.validate(scores)
    keys = pd.MultiIndex.from_frame(scores[["class", "added"]].drop_duplicates())
    tables = protocol_tables(scores, pd.Series(origin, keys))
    residuals = identity_residuals(tables["deltas"], tables["base_auroc"], scores)
    check_identity(residuals)
    return tables | {"identity": residuals}
