"""Powers of the shortfall from a margin."""

from typing import Any

from lossd.schema import Array


def powered(xp: Any, excess: Array, power: float) -> tuple[Array, Array]:
    """Returns the power of numbers of at least 0, and its derivative, which is 0 at 0.

    A NaN is NaN in both.
    """
    if power == 1:
        derivative = (excess > 0).astype(excess.dtype)
        if not xp.isfinite(excess).all():
            derivative[xp.isnan(excess)] = xp.nan
        return excess, derivative
    derivative = excess.copy() if power == 2 else xp.power(excess, power - 1)
    value = derivative * excess
    derivative *= power
    return value, derivative
