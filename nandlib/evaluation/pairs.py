"""Two normalities at once: every pair of groups of a class added together."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd

from nandlib.evaluation.protocol import auroc
from nandlib.evaluation.scope import measured
from nandlib.method.operators import suppress
from nandlib.study.class_maps import ClassMaps
from nandlib.study.open_study import OpenStudy

COLUMNS = [
    "detector",
    "class",
    "first",
    "second",
    "n_normal",
    "n_other",
    "auroc_before",
    "auroc_first",
    "auroc_second",
    "auroc_after",
    "delta",
]


def pair_table(study: OpenStudy, class_name: str) -> pd.DataFrame:
    """AUROC (percent) of good images and two groups against all others, `COLUMNS`: before, with one text each, with both.

    A_final = A ⊙ (1 - A_sup,1) ⊙ (1 - A_sup,2), in either order. Classes of two groups have no pair: nothing would stay abnormal.
    """
    maps, rows = ClassMaps.of(study, class_name), []
    always = (study.rows(class_name)["group"] == "").any()
    if len(maps.groups) < 3 and not always:
        return pd.DataFrame(columns=COLUMNS)
    group = study.rows(class_name)["group"].to_numpy()
    pairs = list(combinations(maps.groups, 2))
    for detector in measured(study):
        before: list[float] = []
        single: dict[str, list[float]] = {name: [] for name in maps.groups}
        both: dict[tuple[str, str], list[float]] = {pair: [] for pair in pairs}
        for batch in maps.batches():
            before += batch.score_before(detector)
            finals = {name: batch.final(f"+{name}", detector) for name in maps.groups}
            for name, final in finals.items():
                single[name] += maps.score(final, batch.rows, f"+{name}")
            for first, second in pairs:
                final = suppress(finals[first], batch.suppression(f"+{second}", detector))
                both[first, second] += maps.score(final, batch.rows, f"+{first}", f"+{second}")
        for first, second in pairs:
            label = ~np.isin(group, ["good", first, second])
            values = [auroc(label, scores) for scores in (before, single[first], single[second], both[first, second])]
            counts = int((~label).sum()), int(label.sum())
            rows.append((detector, class_name, first, second, *counts, *values, values[-1] - values[0]))
    return pd.DataFrame(rows, columns=COLUMNS)
