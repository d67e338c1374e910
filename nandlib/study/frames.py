"""The frames that pass from stage to stage: their schema, and how result files are read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pandera.pandas as pa
import pyarrow
from pyarrow import parquet

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


def write_scores(scores: pd.DataFrame, path: Path) -> None:
    """Image scores, all that tables are made of: parquet whose numbers are float32, as maps are.

    Names by dictionary and floats byte by byte (byte stream split) take far less room than a compressed csv.
    """
    numbers = ["before", "after"]
    table = pyarrow.Table.from_pandas(scores.astype(dict.fromkeys(numbers, np.float32)), preserve_index=False)
    names = [column for column in scores.columns if column not in numbers]
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(
        table.replace_schema_metadata(None),  # which holds the version of pandas
        path,
        compression="zstd",
        compression_level=19,
        use_dictionary=names,
        use_byte_stream_split=numbers,
    )


def read_scores(path: Path) -> pd.DataFrame:
    """What `write_scores` wrote; numbers as float64, exactly."""
    return pd.read_parquet(path).astype({"before": float, "after": float})
