"""The numbers that an input may hold, as a kernel compares them: by their bits.

Kernels may take numbers below the smallest normal one for 0 where they compare them as floats, so
-1e-40 would be no less than 0.  Bits, read as integers, have the same order as the numbers.
"""

from typing import Any

import numpy as np

from lossd.losses import Choices, Interval

Domain = Interval | Choices | None

_INTEGERS = {4: np.int32, 8: np.int64}


def bounds(domain: Interval, dtype: np.dtype[Any]) -> tuple[float, float]:
    """Returns the first and the last number of a type within an interval."""
    low, high = dtype.type(domain.low), dtype.type(domain.high)
    if domain.low_open:
        low = np.nextafter(low, dtype.type(np.inf))
    if domain.high_open:
        high = np.nextafter(high, dtype.type(-np.inf))
    return float(low), float(high)


def outside(domain: Domain, dtype: np.dtype[Any]) -> str:
    """Returns the CUDA expression for whether a number, ``x``, is outside."""
    if domain is None:
        return "false"
    if isinstance(domain, Choices):
        return " && ".join(f"order_of(x) != {_order(n, dtype)}" for n in domain.numbers)
    low, high = (_order(number, dtype) for number in bounds(domain, dtype))
    beyond = f"(order_of(x) < {low} || order_of(x) > {high})"
    return f"x == x && {beyond}" if domain.has_nan else beyond


def _order(number: float, dtype: np.dtype[Any]) -> str:
    """Returns what ``order_of`` of common.cuh does."""
    bits = int(dtype.type(number).view(_INTEGERS[dtype.itemsize]))
    sign = 1 << (8 * dtype.itemsize - 1)
    found = bits if bits >= 0 else -(bits + sign)
    return f"{found}{'LL' if dtype.itemsize > 4 else ''}"
