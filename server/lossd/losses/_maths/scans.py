"""Running sums in an order that is always the same."""

from typing import Any

import numpy as np

from lossd.schema import Array


def running_sum(xp: Any, values: Array) -> Array:
    """Returns the sums of the first 1, 2, 3, ... numbers along the last axis.

    CuPy's own function may use a library that adds floating-point numbers in whatever order its
    blocks run.  On CuPy the sums of 2, 4, 8, ... neighbours are built up instead.
    """
    if xp is np:
        return np.cumsum(values, axis=-1)
    sums, reach = values.copy(), 1
    while reach < values.shape[-1]:
        sums[..., reach:] = sums[..., reach:] + sums[..., :-reach]
        reach *= 2
    return sums


def running_minimum(xp: Any, values: Array) -> Array:
    """Returns the smallest of the first 1, 2, 3, ... numbers along the last axis."""
    if xp is np:
        return np.minimum.accumulate(values, axis=-1)
    found, reach = values.copy(), 1
    while reach < values.shape[-1]:
        found[..., reach:] = xp.minimum(found[..., reach:], found[..., :-reach])
        reach *= 2
    return found
