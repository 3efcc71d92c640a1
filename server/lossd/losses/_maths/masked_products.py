"""Products of shares and costs, in which 0 times infinity is 0."""

from typing import Any

from lossd.schema import Array


def selected(xp: Any, shares: Array, costs: Array) -> Array:
    """Returns shares times costs, where a share of 0 gives 0, even for infinity and NaN."""
    return xp.where(shares == 0, 0, shares * costs)


def quotients(xp: Any, shares: Array, divisors: Array) -> Array:
    """Returns shares over divisors, where a share of 0 gives 0, even over 0 and NaN.

    Neither is the inverse of a tiny divisor infinite, nor does a tiny share lose digits.
    """
    return xp.where(shares == 0, 0, shares / divisors)


def by_scale(xp: Any, scales: Array, derivatives: Array) -> Array:
    """Returns gradients times the one scale of a set; a scale of 0 gives 0 in any case."""
    return derivatives * scales if bool(scales[0]) else xp.zeros_like(derivatives)


def weighted(xp: Any, shares: Array, costs: Array) -> Array:
    """Returns the same as ``selected``, with the product's sign of a zero; faster for finite ones.

    No product depends on the others, not even in the sign of a zero.
    """
    products = shares * costs
    if not xp.isfinite(products).all():
        products[(shares == 0) & xp.isnan(products)] = 0
    return products


def product(xp: Any, ways: Array, sums: Array) -> Array:
    """Returns ways times sums, where 0 on either side gives 0: no way, or nobody who goes it."""
    products = ways * sums
    if not xp.isfinite(products).all():
        products[(ways == 0) | (sums == 0)] = 0
    return products
