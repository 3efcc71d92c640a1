"""Sums of floating-point numbers without rounding, so that no order of adding changes a bit.

Every finite float64 is a multiple of 2^-1074, so a sum is one large integer.  Python's integers add
exactly and divide with one correct rounding; NumPy first does the many small additions: mantissas
are split into halves of 26 and 27 bits, and 2^26 halves of one exponent add up exactly in a
float64.

Reference: U. Kulisch, Computer Arithmetic and Validity, 2008, section 8.3 (a long accumulator).
"""

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

# frexp writes the smallest number as 0.5 * 2^-1073, and 53 bits of it end at 2^-1126.
UNIT_EXPONENT = 1127
UNIT = 1 << UNIT_EXPONENT
_CHUNK = 1 << 22  # at most 2^26; the temporaries of this many stay small
_HALF = float(1 << 27)


def exact_sums(values: Floats, groups: Integers | None = None) -> dict[int, int]:
    """Adds finite values, group by group.

    Returns:
        For each group that occurs (0 without groups) the sum in units of 2^-1127.
    """
    totals: dict[int, int] = {}
    for start in range(0, len(values), _CHUNK):
        part = slice(start, start + _CHUNK)
        _add_chunk(totals, values[part], None if groups is None else groups[part])
    return totals


def _add_chunk(totals: dict[int, int], values: Floats, groups: Integers | None) -> None:
    mantissas, exponents = np.frexp(values)
    mantissas = np.ldexp(mantissas, 53)  # exact integers
    high = np.floor(mantissas / _HALF)
    low = mantissas - high * _HALF
    lowest = int(exponents.min())
    span = int(exponents.max()) - lowest + 1
    keys = (exponents - lowest).astype(np.int64)
    if groups is not None:
        keys += groups * span
    names, keys = _compressed(keys)
    highs = np.bincount(keys, high, len(names))
    lows = np.bincount(keys, low, len(names))
    used = np.flatnonzero((highs != 0) | (lows != 0))
    for key, upper, lower in zip(
        names[used].tolist(), highs[used].tolist(), lows[used].tolist(), strict=True
    ):
        group, exponent = divmod(key, span)
        shift = exponent + lowest - 53 + UNIT_EXPONENT
        total = ((int(upper) << 27) + int(lower)) << shift
        totals[group] = totals.get(group, 0) + total


def _compressed(keys: Integers) -> tuple[Integers, Integers]:
    """Returns a compact table of keys, and the keys as indices of it."""
    most = int(keys.max())
    if most < 4 * len(keys) + 65536:
        return np.arange(most + 1), keys
    names, indices = np.unique(keys, return_inverse=True)
    return names, indices


def product(left: Floats, right: Floats) -> tuple[Floats, Floats]:
    """Returns the product as two numbers that add up to it exactly: rounded, and the error.

    This holds unless something overflows or underflows.

    Reference: T. J. Dekker, A floating-point technique for extending the available precision, 1971.
    """
    rounded = left * right
    left_high, left_low = _halves(left)
    right_high, right_low = _halves(right)
    lost = left_high * right_high - rounded
    lost += left_high * right_low
    lost += left_low * right_high
    lost += left_low * right_low
    return rounded, lost


def _halves(values: Floats) -> tuple[Floats, Floats]:
    scaled = values * (_HALF + 1)
    high = scaled - (scaled - values)
    return high, values - high


def rounded(units: int) -> float:
    """Returns the float64 nearest to an integer number of units; infinite where it overflows."""
    try:
        return units / UNIT
    except OverflowError:
        return float(np.copysign(np.inf, units))


def signed_bytes(value: int) -> bytes:
    """Returns an integer in two's complement, little endian."""
    return value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)


def from_signed_bytes(data: bytes) -> int:
    """Returns the integer of ``signed_bytes``."""
    return int.from_bytes(data, "little", signed=True)


Array = npt.NDArray[Any]
