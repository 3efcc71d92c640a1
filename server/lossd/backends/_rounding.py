"""Rounds results to the type that is sent."""

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

SMALLEST_NORMAL = 2.0**-14  # of float16
# Numbers whose last digit is that of float16's smallest number, 2^-24.
ANCHORS = {np.dtype(np.float32): np.float32(0.75), np.dtype(np.float64): np.float64(1.5 * 2.0**28)}


def round_into(found: Array, out: Array) -> None:
    """Writes ``found`` to ``out``, rounded to its type.

    Each number that loses digits because it is below float16's smallest normal one makes NumPy
    raise a flag, which takes thirty times as long as another number.  So these are first rounded to
    float16's digits, by adding a number that leaves room for no others and subtracting it again.
    """
    anchor = ANCHORS.get(found.dtype) if out.dtype == np.float16 else None
    if anchor is not None:
        is_small = abs(found) < SMALLEST_NORMAL
        if is_small.any():
            rounded = np.copysign((found + anchor) - anchor, found)
            found = np.where(is_small, rounded, found)
    out[...] = found
