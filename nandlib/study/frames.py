"""The frames that pass from stage to stage: their schema, and how result files are read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pandera.pandas as pa
import pyarrow
from pyarrow import parquet

from nandlib.data.held import written
from nandlib.errors import DataError

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

MERGE = "<<<<<<< "
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
    """A result file: names stay text, numbers keep every digit, an empty number is NaN.

    Raises:
        DataError: If it is no such file, as one with the marks of a merge.
    """
    try:
        columns = pd.read_csv(path, nrows=0).columns
        if MERGE in path.read_text(encoding="utf-8"):
            raise ValueError("a merge has left its marks in it")
        return pd.read_csv(
            path,
            float_precision="round_trip",
            keep_default_na=False,
            na_values={column: "" for column in columns if column not in TEXT_COLUMNS},
            dtype=dict.fromkeys(TEXT_COLUMNS, str),
        )
    except ValueError as error:
        raise DataError(f"{path} is damaged ({error}): bring it back ('git checkout {path}'), or run the study again") from error


def write_scores(scores: pd.DataFrame, path: Path) -> None:
    """Image scores, all that tables are made of: parquet whose numbers are float32, as maps are.

    Names by dictionary and floats byte by byte (byte stream split) take far less room than a compressed csv.
    """
    numbers = ["before", "after"]
    table = pyarrow.Table.from_pandas(scores.astype(dict.fromkeys(numbers, np.float32)), preserve_index=False)
    names = [column for column in scores.columns if column not in numbers]
    packed = {"compression": "zstd", "compression_level": 19, "use_dictionary": names, "use_byte_stream_split": numbers}
    bare = table.replace_schema_metadata(None)  # which holds the version of pandas
    written(path, lambda partial: parquet.write_table(bare, partial, **packed))


def read_parquet(path: Path) -> pd.DataFrame:
    """A parquet file.

    Raises:
        DataError: If it is damaged.
    """
    try:
        return pd.read_parquet(path)
    except pyarrow.ArrowException as error:
        raise DataError(f"{path} is damaged ({error}): remove it, and run the study again") from error


def read_scores(path: Path) -> pd.DataFrame:
    """What `write_scores` wrote; numbers as float64, exactly."""
    return read_parquet(path).astype({"before": float, "after": float})
