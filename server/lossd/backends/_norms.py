"""The Euclidean norm of an array on a device, which takes next to no memory beside it.

Nothing here imports CuPy; the caller passes it in.
"""

import math
from typing import Any

import numpy as np

# Numbers of a row of their own, of which there are many: one block of threads adds up one row.
_ROW = 1 << 15
_REAL = "static_cast<double>(x)"


class Norms:
    """Computes norms in float64, number by number as it reads them; for any number of threads."""

    def __init__(self, cupy: Any) -> None:
        self._cupy = cupy
        self._largest = cupy.ReductionKernel(
            "T x", "float64 y", f"fabs({_REAL})",
            "a >= b || isnan(a) ? a : b", "y = a", "0", "lossd_largest",
        )  # fmt: skip
        self._squares = cupy.ReductionKernel(
            "T x, float64 unit", "float64 y", f"({_REAL} / unit) * ({_REAL} / unit)",
            "a + b", "y = a", "0", "lossd_squares",
        )  # fmt: skip

    def of(self, array: Any) -> float:
        """Returns the norm of an array on the current device, on the current stream."""
        flat = array.reshape(-1)
        whole = flat.size // _ROW * _ROW
        parts = (flat[:whole].reshape(-1, _ROW), flat[whole:].reshape(1, -1))
        norms = [norm for part in parts if part.size for norm in self._of_rows(part)]
        # The hypotenuse of infinity and NaN would be infinity.
        return math.nan if any(map(math.isnan, norms)) else math.hypot(*norms)

    def _of_rows(self, rows: Any) -> list[float]:
        """Returns the norm of each row: squares are of shares of its largest number."""
        cupy = self._cupy
        largest = self._largest(rows, axis=1)
        is_usual = (largest > 0) & (largest < np.inf)
        squares = self._squares(rows, cupy.where(is_usual, largest, 1)[:, None], axis=1)
        found: list[float] = cupy.where(is_usual, largest * cupy.sqrt(squares), largest).tolist()
        return found
