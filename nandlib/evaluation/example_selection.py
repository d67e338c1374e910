"""How the parameters of normality by example are chosen: two numbers over the validation products and the circuit boards.

The *criterion*: the share of the gap that examples close (from the means of AUROC before, after and of the others alone, over the groups
of a study), mean over k = 1, 4 and 8 as far as a study has groups of k + 4 images, then over the studies, with PatchCore. Of all positions
in which an example is shown, ways to take several, similarities and sharpnesses the best counts, and among those within `EQUAL` of it the
one that damps other defects least: by how much it lowers the scores of images of the other groups, mean over the same.

Then the weight of a text beside examples: the greatest one by which text and examples together are at no k and in no study more than
`WORSE` below the better of the two.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import product
from typing import Literal

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from nandlib.evaluation.contest import contest, draws_of
from nandlib.evaluation.protocol import auroc
from nandlib.evaluation.uncertainty import gap_closed
from nandlib.method.check import removed
from nandlib.method.config import ExampleConfig
from nandlib.study.open_study import OpenStudy

SIMILARITIES, SHARPNESSES = (0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7), (10.0, 20.0, 40.0)
SEVERAL: tuple[Literal["odds", "nearest"], ...] = ("nearest", "odds")
TEXT_WEIGHTS = (0.0, 0.1, 0.25, 0.5, 1.0)
KS, DRAWS = (1, 4, 8), 5
EQUAL, WORSE = 1.0, 0.5  # percent of the gap; points
TURNED: tuple[Literal["none", "mirrored", "all"], ...] = ("none", "mirrored", "all")
COLUMNS = ["turned", "several", "similarity", "sharpness", "text_weight", "criterion", "damped", "shortfall", "chosen"]
MEASURED = ["before", "after", "others", "damped"]


def candidates() -> list[ExampleConfig]:
    """All that are considered in the first step, without a text."""
    every = product(TURNED, SEVERAL, SIMILARITIES, SHARPNESSES)
    return [ExampleConfig(turned=turned, several=several, similarity=a, sharpness=b, text_weight=0) for turned, several, a, b in every]


def select_examples(studies: Sequence[OpenStudy], progress: bool = True) -> pd.DataFrame:
    """Every value that was considered, and what was chosen.

    Args:
        studies: The validation products and the circuit boards, whose example rows are then no held-out result; no other study.
        progress: Show a progress bar.

    Returns:
        `COLUMNS`, a row a candidate, and ``after_<study>_<k>`` (mean AUROC after; with a text, of both together). ``criterion`` and
        ``damped`` (percent) are those of the first step; ``shortfall``, of the second, how far text and examples together are below the
        better of the two where they are farthest below (points).
    """
    every = candidates()
    first = _measured(studies, [("examples", config) for config in every], progress)
    table = pd.DataFrame([_row(config, first[k], first[0]) for k, config in enumerate(every)])
    table["chosen"] = np.arange(len(table)) == best_candidate(table)
    best = every[best_candidate(table)]
    weighed = [best.model_copy(update={"text_weight": weight}) for weight in TEXT_WEIGHTS]
    second = _measured(studies, [("text", best), ("examples", best), *(("both", config) for config in weighed)], progress)
    better = np.maximum(second[0]["after"], second[1]["after"])
    rows = [
        _row(config, found, first[0], float((better - found["after"]).max())) for config, found in zip(weighed, second[2:], strict=True)
    ]
    told = pd.DataFrame(rows)
    told["chosen"] = np.arange(len(told)) == best_weight(told)
    table = pd.concat([table, told], ignore_index=True)
    return table[[*COLUMNS, *(name for name in table.columns.astype(str) if name.startswith("after_"))]]


def best_candidate(table: pd.DataFrame) -> int:
    """Position of what the first step chooses."""
    equals = table["criterion"] > table["criterion"].max() - EQUAL
    return int(np.argmin(table["damped"].where(equals, np.inf)))


def best_weight(table: pd.DataFrame) -> int:
    """Position of what the second step chooses; 0, a text that does not count, where no weight keeps to the rule."""
    kept = table["text_weight"].where(table["shortfall"] <= WORSE, -table["text_weight"])
    return int(np.argmax(kept.to_numpy()))


def _row(config: ExampleConfig, found: pd.DataFrame, before: pd.DataFrame, shortfall: float = np.nan) -> dict[str, float]:
    closed = [gap_closed(*row) for row in zip(before["before"], found["after"], before["others"], strict=True)]
    criterion, damped = found.assign(closed=closed)[["closed", "damped"]].groupby(level=0).mean().mean()
    after = {f"after_{study}_{k}": value for study, k, value in found["after"].reset_index().itertuples(index=False)}
    return {**config.model_dump(), "criterion": criterion, "damped": damped, "shortfall": shortfall, **after}


def _measured(studies: Sequence[OpenStudy], ways: Sequence[tuple[str, ExampleConfig]], progress: bool) -> list[pd.DataFrame]:
    """Of every way (method, parameters): by study and k, `MEASURED` in percent, means over groups and draws."""
    found: list[dict[tuple[str, int], list[tuple[float, ...]]]] = [defaultdict(list) for _ in ways]
    classes = [(study, name) for study in studies for name in study.classes()]
    for study, name in tqdm(classes, desc="examples", disable=not progress):
        one = contest(study, name)
        before = one.scores("nothing", "", ())
        for draw in draws_of(one, KS, DRAWS):
            first, alone = draw.areas(before)
            for rows, (method, config) in zip(found, ways, strict=True):
                after = one.scores(method, draw.group, draw.examples, config)[draw.keep]
                damped = removed(before[draw.keep], after)[draw.label].mean()
                rows[study.name, draw.k].append((first, auroc(draw.label, after), alone, damped))
    return [pd.DataFrame({key: np.mean(values, 0) for key, values in rows.items()}, index=MEASURED).T for rows in found]
