"""Where adding a normality costs more than it brings, and what in the maps explains it."""

from __future__ import annotations

import pandas as pd

WEAK = 30.0  # percent of its own score that a text must at least remove
PICTURED = -1.0  # points: groups that lose less are not shown
SELECTIVE = 2.0  # times as much of its own score as of the others'
COLUMNS = ["detector", "class", "group", "delta", "removed_own", "removed_other", "most_damped", "retrieval_auroc", "why"]
REASONS = {
    "others": "damps other types more than its own",
    "weak": "hardly finds its own type",
    "spread": "finds its own type, but damps others nearly as much",
    "residue": "damps its own type, yet what is left of it ranks among the others",
}


def judged(selectivity: pd.DataFrame) -> pd.DataFrame:
    """The rows of `selectivity` in which a text meets its own group, where another group has masks too: what a reason needs.

    Masks inside which A is 0 everywhere are as good as none.
    """
    selectivity = selectivity.dropna(subset="removed")
    others = selectivity.groupby(["detector", "class", "text"])["group"].transform("size") > 1
    return selectivity[others & (selectivity["text"] == selectivity["group"])]


def failure_table(deltas: pd.DataFrame, selectivity: pd.DataFrame, retrieval: pd.DataFrame) -> pd.DataFrame:
    """Every group that loses (Δ < 0), worst first, with a reason; of those with masks (`judged`).

    Args:
        deltas: `nandlib.evaluation.protocol.delta_table`.
        selectivity: By detector, class, text and group the share of the score that the text removes (`nandlib.evaluation.selectivity`).
        retrieval: By detector, class and text the pixel AUROC of A_sup inside its own masks against all others'
            (`nandlib.evaluation.selectivity`).

    Returns:
        `COLUMNS`. ``removed_own`` and ``removed_other`` (mean over the other groups) in percent; ``most_damped``: the other group that
        loses most; ``why``: a value of `REASONS`, by fixed rules on these numbers.
    """
    rows = []
    auroc = retrieval.set_index(["detector", "class", "text"])["retrieval_auroc"]
    changes = dict(zip(deltas[["detector", "class", "group"]].itertuples(index=False, name=None), deltas["delta"], strict=True))
    for (detector, class_name, text), part in selectivity.groupby(["detector", "class", "text"], sort=False):
        delta = changes.get((detector, class_name, text), 0.0)
        removed = part.set_index("group")["removed"].dropna()  # where A is 0 inside all masks nothing can be removed
        if delta >= 0 or text not in removed or len(removed) < 2:
            continue
        others = removed.drop(text)
        found = (removed[str(text)], others.mean(), others.idxmax())
        rows.append((detector, class_name, text, delta, *found, auroc.get((detector, class_name, text)), REASONS[_reason(*found[:2])]))
    return pd.DataFrame(rows, columns=COLUMNS).sort_values("delta", kind="stable", ignore_index=True)


def _reason(own: float, other: float) -> str:
    if other >= own:
        return "others"
    if own < WEAK:
        return "weak"
    return "spread" if own < SELECTIVE * other else "residue"
