"""The frames that pass from stage to stage: their schema, and how result files are read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pandera.pandas as pa

SCORES = pa.DataFrameSchema(
    {
        "detector": pa.Column(str),
        "class": pa.Column(str),
        "image": pa.Column(str),
        "group": pa.Column(str, description="the image's own group, 'good', or '' (always abnormal)"),
        "added": pa.Column(str, description="the group added as normal"),
        "before": pa.Column(float, pa.Check(lambda s: np.isfinite(s)), description="max A"),
        "after": pa.Column(float, pa.Check(lambda s: np.isfinite(s)), description="max A_final with the text of `added`"),
    },
    strict=True,
    ordered=True,
)

TEXT_COLUMNS = (
    "detector",
    "class",
    "image",
    "group",
    "weights",
    "added",
    "text",
    "control",
    "step",
    "kind",
    "first",
    "second",
    "origin",
    "perturbation",
    "changed",
)


def read_table(path: Path) -> pd.DataFrame:
    """A result file: names stay text, numbers keep every digit, an empty number is NaN."""
    numbers = [column for column in pd.read_csv(path, nrows=0).columns if column not in TEXT_COLUMNS]
    return pd.read_csv(
        path,
        float_precision="round_trip",
        keep_default_na=False,
        na_values=dict.fromkeys(numbers, ""),
        dtype=dict.fromkeys(TEXT_COLUMNS, str),
    )
