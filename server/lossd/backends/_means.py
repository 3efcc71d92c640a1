"""Means of numbers that add up to more than their type holds, or to less."""

from typing import Any

import numpy as np
import numpy.typing as npt

# A power of 2, which loses no digit, by which the largest numbers become small enough to add up.
_POWER = 64
_SHRINK = 2.0**-_POWER
_LARGE = 2.0**900  # numbers that are no larger are so
# The largest one that a divisor is multiplied by, since it has to stay a number.
_MOST_POWER = 1000
# Below this some terms of a sum may have lost digits, if weights are below the other.
_FAINT_SUM, _FAINT_WEIGHT = 2.0**-900, 2.0**-100


def shrunk_means(values: Any, elements: int) -> Any:
    """Returns the sums of rows of large numbers over ``elements``; the arrays may be CuPy's."""
    shrink = values.dtype.type(_SHRINK)
    return (values * shrink).sum(axis=-1) / elements / shrink


def shrunk_totals(
    values: npt.NDArray[Any], weights: npt.NDArray[Any] | None, divisor: float
) -> tuple[float, float]:
    """Returns the weighted sum of values, and what it is over a divisor.

    Of finite values each is infinite only where it is too large itself, and the mean has its
    digits however small the weights are.
    """
    counts = values != 0  # the weight of an excluded example may be any number
    own = np.ones(np.count_nonzero(counts)) if weights is None else weights[counts]
    largest, of_divisor = (int(np.frexp(number)[1]) for number in (own.max(initial=0.0), divisor))
    power = max(largest, of_divisor - _MOST_POWER)
    shrink = _POWER if float(abs(values).max(initial=0)) > _LARGE else 0
    own, divisor = np.ldexp(own, -power), float(np.ldexp(divisor, -power))
    # A divisor that is nothing beside the weights is 0 there, and the mean is infinite anyway.
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        total = (np.ldexp(values[counts].astype(np.float64), -shrink) * own).sum()
        loss_sum, mean = np.ldexp(total, shrink + power), np.ldexp(total / divisor, shrink)
    # Rounding alone makes no mean larger than the largest value.
    if np.isinf(mean) and own.sum() <= divisor * (1 + 1e-12):
        mean = np.copysign(abs(values).max(), mean)
    return float(loss_sum), float(mean)


def are_faint(loss_sum: float, weights: npt.NDArray[Any] | None) -> bool:
    """Returns whether weights are so small that a sum of so little may lack digits."""
    if weights is None or abs(loss_sum) >= _FAINT_SUM:
        return False
    return bool(0 < weights.max(initial=0) < _FAINT_WEIGHT)
