"""Values in another precision."""

from typing import Any

import numpy as np
import numpy.typing as npt


def with_floats(value: Any, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Returns floats in a type, and integers as they are: they are classes."""
    array = np.asarray(value)
    return array.astype(dtype) if array.dtype.kind == "f" else array
