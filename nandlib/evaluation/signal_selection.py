"""How the settings of normality by example in time were chosen: on anomalies made on normal records (`nandlib.signals.made_up`).

The rule, stated beforehand: among candidates, the largest mean share of the gap closed with one and with four examples, by the plain
baseline; of those within one point of it the smallest window, then the smallest distance between peaks.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from nandlib.evaluation.kshot import KShot
from nandlib.evaluation.result_tables import kshot_summary
from nandlib.method.config import PlusConfig
from nandlib.signals.contest import SignalContest
from nandlib.signals.made_up import made_up
from nandlib.signals.nearest import NearestRecords

WINDOWS = (1 / 7, 2 / 7, 1 / 2, 1.0)  # of a record
PEAK_DISTANCES = (1 / 32, 1 / 8, 1 / 2)  # of a record
KS, DRAWS, NEAR = (1, 4), 5, 1.0
COLUMNS = ["window", "peak_distance", "share_1", "share_4", "share", "chosen"]


def select_signals(normals: np.ndarray, k: int, progress: bool = True) -> pd.DataFrame:
    """`COLUMNS`, a row a candidate: shares of the gap closed (percent) with one and four examples, their mean, and whether it is chosen.

    Args:
        normals: ``(N, K, Q)`` training-normal records.
        k: Of the baseline.
        progress: Show a bar.
    """
    split, rows = made_up(normals), []
    detector = NearestRecords.fit(torch.from_numpy(split.train.signals), k)
    for window, distance in tqdm(list(product(WINDOWS, PEAK_DISTANCES)), desc="candidates", disable=not progress):
        width = round(window * normals.shape[2])
        one = SignalContest(split, detector, width, PlusConfig(peak_distance=distance))
        found = KShot(KS, DRAWS, resamples=1, methods=("nothing", "examples"))
        found.add(one)
        summary = kshot_summary(found.table()).query("method == 'examples'").set_index("k")
        shares = [float(share) for share in summary["gap_closed"].loc[list(KS)]]
        rows.append((width, distance, *shares, float(np.mean(shares)), False))
    table = pd.DataFrame(rows, columns=COLUMNS)
    table.loc[best_signal_candidate(table), "chosen"] = True
    return table


def best_signal_candidate(table: pd.DataFrame) -> int:
    """Row of the candidate that the rule takes."""
    near = table[table["share"] >= table["share"].max() - NEAR]
    return int(near.sort_values(["window", "peak_distance"]).index[0])
