"""Rounds results to the type that is sent."""

from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

SMALLEST_NORMAL = 2.0**-14  # of float16
# Numbers whose last digit is that of float16's smallest number, 2^-24.
ANCHORS = {np.dtype(np.float32): np.float32(0.75), np.dtype(np.float64): np.float64(1.5 * 2.0**28)}


BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


def round_into(found: Array, out: Array) -> None:
    """Writes ``found`` to ``out``, rounded to its type.

    Each number that loses digits because it is below float16's smallest normal one makes NumPy
    raise a flag, which takes thirty times as long as another number.  So these are first rounded to
    float16's digits, by adding a number that leaves room for no others and subtracting it again.

    NumPy goes from float64 to bfloat16 through float32, where a number may become a tie.
    """
    if out.dtype == BFLOAT16 and found.dtype == np.float64:
        found = _rounded_to_odd(found)
    anchor = ANCHORS.get(found.dtype) if out.dtype == np.float16 else None
    if anchor is not None:
        is_small = abs(found) < SMALLEST_NORMAL
        if is_small.any():
            rounded = np.copysign((found + anchor) - anchor, found)
            found = np.where(is_small, rounded, found)
    out[...] = found


def _rounded_to_odd(found: Array) -> Array:
    """Returns numbers in float32, the last digit 1 where digits are lost: no tie is made of one."""
    with np.errstate(all="ignore"):
        narrow = found.astype(np.float32)
        is_lost = (narrow != found) & ~np.isnan(found)
        bits = narrow.view(np.uint32)
        bits -= abs(narrow) > abs(found)  # towards 0
        bits |= is_lost
    return narrow
