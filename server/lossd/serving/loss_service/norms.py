"""The Euclidean norm of gradients, whatever the size of their numbers."""

import math
from collections.abc import Callable, Iterable

import numpy as np

from lossd.backends import Array, Resident

Norm = Callable[[Array], float]

_BLOCK = 1 << 15  # numbers that stay in the cache as float64
# Of a lower sum, squares that were rounded to 0 may be a part that shows.
_LEAST_SQUARE = 1e-280


def euclidean_norm(arrays: Iterable[Array], on_device: Norm = lambda _: 0.0) -> float:
    """Returns the Euclidean norm of all numbers together, added up in float64.

    ``on_device`` returns that of an array on a device.
    """
    found = 0.0
    for array in arrays:
        if isinstance(array, Resident):
            found = math.hypot(found, on_device(array))
            continue
        flat = array.reshape(-1)
        for start in range(0, flat.size, _BLOCK):
            found = math.hypot(found, _norm(flat[start : start + _BLOCK].astype(np.float64)))
    return found


def _norm(block: Array) -> float:
    """Returns the norm of some numbers, whose squares may be beyond any number, or below."""
    with np.errstate(over="ignore", under="ignore"):
        square = float(block @ block)
    if _LEAST_SQUARE <= square < math.inf:
        return math.sqrt(square)
    largest = float(np.abs(block).max())
    if not 0 < largest < math.inf:
        return largest
    scaled = block / largest
    return largest * math.sqrt(float(scaled @ scaled))
