"""Means of numbers that add up to more than their type holds."""

from typing import Any

import numpy as np
import numpy.typing as npt

# A power of 2, which loses no digit, by which the largest numbers become small enough to add up.
_POWER = 64
_SHRINK = 2.0**-_POWER


def shrunk_means(values: Any, elements: int) -> Any:
    """Returns the sums of rows of large numbers over ``elements``; the arrays may be CuPy's."""
    shrink = values.dtype.type(_SHRINK)
    return (values * shrink).sum(axis=-1) / elements / shrink


def shrunk_totals(
    values: npt.NDArray[Any], weights: npt.NDArray[Any] | None, divisor: float
) -> tuple[float, float]:
    """Returns the weighted sum of values, and what it is over a divisor.

    Of finite values each is infinite only where it is too large itself.
    """
    counts = values != 0  # the weight of an excluded example may be any number
    own = np.ones(np.count_nonzero(counts)) if weights is None else weights[counts]
    power = max(0, int(np.frexp(own.max(initial=0.0))[1]))
    own, divisor = np.ldexp(own, -power), float(np.ldexp(divisor, -power))
    # A divisor that is nothing beside the weights is 0 there, and the mean is infinite anyway.
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        total = (values[counts].astype(np.float64) * _SHRINK * own).sum()
        loss_sum, mean = np.ldexp(total, _POWER + power), np.ldexp(total / divisor, _POWER)
    # Rounding alone makes no mean larger than the largest value.
    if np.isinf(mean) and own.sum() <= divisor * (1 + 1e-12):
        mean = np.copysign(abs(values).max(), mean)
    return float(loss_sum), float(mean)
