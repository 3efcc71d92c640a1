"""Products of shares and costs, in which 0 times infinity is 0."""

from typing import Any

from lossd.schema import Array


def selected(xp: Any, shares: Array, costs: Array) -> Array:
    """Shares times costs, where a share of 0 takes nothing, also of infinity and NaN."""
    return xp.where(shares == 0, 0, shares * costs)


def by_scale(xp: Any, scales: Array, slopes: Array) -> Array:
    """Slopes times the one scale of a set, which takes nothing if it is 0."""
    return slopes * scales if bool(scales[0]) else xp.zeros_like(slopes)


def weighed(xp: Any, shares: Array, costs: Array) -> Array:
    """The same but for the sign of a zero, which is the product's, and quicker where all is finite.

    What a product is does not depend on the others, not even the sign of a zero.
    """
    products = shares * costs
    if not xp.isfinite(products).all():
        products[(shares == 0) & xp.isnan(products)] = 0
    return products
