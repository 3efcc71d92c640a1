"""Arrays whose numbers lie across the bounds of their type."""

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def misaligned(array: Array) -> Array:
    """A copy that begins one byte after such a bound."""
    raw = np.zeros(array.nbytes + 1, np.uint8)
    raw[1:] = np.frombuffer(array.tobytes(), np.uint8)
    return raw[1:].view(array.dtype).reshape(array.shape)
