"""How the parameters of `nand_plus` are chosen: one number over the validation products, one change at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from nandlib.evaluation.ablation import ablation
from nandlib.evaluation.protocol import class_averages, delta_table
from nandlib.evaluation.steps import Step
from nandlib.method.config import NandConfig, PlusConfig
from nandlib.study.open_study import OpenStudy

START = {"prior": 0.3, "sharpness": 0.7, "synonym": 0.4, "focus": 8.0, "peak_distance": 1 / 16, "regions": True, "calibrate": True}
VALUES: dict[str, tuple[Any, ...]] = {
    "prior": (0.1, 0.2, 0.3, 0.5, 1.0),
    "sharpness": (0.5, 0.7, 1.0),
    "synonym": (0.3, 0.4, 0.5, 1.0),
    "focus": (4.0, 8.0),
    "peak_distance": (1 / 32, 1 / 16),
    "regions": (True, False),
    "calibrate": (True, False),
}
KNOWN_PRIORS = (0.3, 0.5, 1.0, 2.0, 4.0)
LEAST_GAIN = 0.1  # points by which the best change must raise the criterion; candidates nearer to it than this are its equals
MOST_ROUNDS = 6
AS_IT_IS = "as it is"
COLUMNS = ["round", "parameter", "value", "criterion", "removed_other", "chosen"]


def select(study: OpenStudy, progress: bool = True) -> pd.DataFrame:
    """Every value that was considered, and what was chosen.

    The *criterion* is the mean of Δ AUROC over the detectors and classes of the study. In every round each parameter is set to each of
    its other `VALUES`, all else as it stands. If the change that raises the criterion most raises it by `LEAST_GAIN`, then it is made, or
    of its equals that which removes least of the score inside the masks of other types (and may raise it by less); until none does. The
    prior against named types (``known_prior``) is chosen last, likewise.

    Args:
        study: The validation products; never one whose results are reported.
        progress: Show a progress bar.

    Returns:
        `COLUMNS`, a row a candidate, and ``delta_<detector>``; value as text. `chosen_values` reads it.
    """
    state, rows = dict(START), []
    for number in range(1, MOST_ROUNDS + 1):
        changes = [(AS_IT_IS, None), *((key, value) for key, values in VALUES.items() for value in values if value != state[key])]
        table = _round(study, number, [(key, value, state | ({} if value is None else {key: value})) for key, value in changes], progress)
        rows.append(table)
        best = table.loc[table["chosen"]].iloc[0]
        if best["parameter"] == AS_IT_IS:
            break
        state[best["parameter"]] = dict(zip(table.index, (value for _, value in changes), strict=True))[best.name]
    known = [("known_prior", value, state | {"competitors": "types", "known_prior": value}) for value in KNOWN_PRIORS]
    return pd.concat([*rows, _round(study, number + 1, known, progress)], ignore_index=True)


def _round(study: OpenStudy, number: int, candidates: list[tuple[str, Any, dict[str, Any]]], progress: bool) -> pd.DataFrame:
    nand = study.config.nand
    every = [Step("selection", f"{key}: {value}", _configured(nand, values)) for key, value, values in candidates]
    found, rows = ablation(study, every, progress), []
    for (key, value, _), step in zip(candidates, every, strict=True):
        deltas = class_averages(delta_table(found.scores[found.scores["step"] == step.name].drop(columns="step"), precision=False))
        by_detector = deltas.groupby("detector", sort=False)["delta"].mean()
        cut = found.removed[(found.removed["step"] == step.name) & ~found.removed["own"]]
        other = cut.groupby("detector")["removed"].mean().mean()
        shown = "" if value is None else format(value, ".4g") if isinstance(value, float) else str(value)
        rows.append({"round": number, "parameter": key, "value": shown, "criterion": by_detector.mean(), "removed_other": other})
        rows[-1] |= {f"delta_{name}": delta for name, delta in by_detector.items()}
    table = pd.DataFrame(rows)
    table["chosen"] = np.arange(len(table)) == best_candidate(table)
    return table[[*COLUMNS, *(column for column in table.columns.astype(str) if column.startswith("delta_"))]]


def _configured(nand: NandConfig, values: dict[str, Any]) -> NandConfig:
    return nand.model_copy(update={"method": "nand_plus", "plus": PlusConfig(**values)})


def best_candidate(table: pd.DataFrame) -> int:
    """Position of the candidate of one round that is chosen, by the rule of `select`."""
    criterion = table["criterion"].to_numpy()
    standing = np.flatnonzero((table["parameter"] == AS_IT_IS).to_numpy())
    if len(standing) and criterion.max() < criterion[standing[0]] + LEAST_GAIN:
        return int(standing[0])
    equals = np.flatnonzero(criterion > criterion.max() - LEAST_GAIN)
    moves = [k for k in equals if k not in standing] or list(equals)
    return int(moves[int(np.argmin(table["removed_other"].to_numpy()[moves]))])


def chosen_values(selection: pd.DataFrame) -> dict[str, float | bool]:
    """The parameters that a table of `select` leads to: `START`, and the change of every round."""
    values: dict[str, float | bool] = dict(START)
    for _, table in selection.groupby("round", sort=True):
        best = table.iloc[best_candidate(table)]
        if best["parameter"] != AS_IT_IS:
            text = str(best["value"])
            values[best["parameter"]] = text == "True" if text in ("True", "False") else float(text)
    return values
