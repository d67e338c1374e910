"""Arrays of real numbers, out of whatever a user gives."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from nandlib.errors import DataError


def as_numbers(values: ArrayLike, source: str) -> np.ndarray:
    """An array of truths, integers or floats as it is; of what numpy can turn into numbers float64; masked values become no numbers.

    Args:
        values: Of any shape.
        source: What they are, for messages.

    Raises:
        DataError: If they are no numbers, complex ones, or times.
    """
    try:
        found = np.asanyarray(values)
        if found.dtype.kind in "cmM":
            raise TypeError("complex ones, or times")
        if found.dtype.kind not in "biuf" or (found.dtype.kind != "f" and isinstance(found, np.ma.MaskedArray)):
            found = found.astype(np.float64)
        return np.ma.filled(found, np.nan) if isinstance(found, np.ma.MaskedArray) else np.asarray(found)
    except (ValueError, TypeError) as error:
        raise DataError(f"{source}: no numbers ({error})") from error
