"""Means of rows that add up to more than their type holds."""

from typing import Any

# A power of 2, which loses no digit, by which the largest numbers become small enough to add up.
_SHRINK = 2.0**-64


def shrunk_means(values: Any, elements: int) -> Any:
    """Returns the sums of rows of large numbers over ``elements``; the arrays may be CuPy's."""
    shrink = values.dtype.type(_SHRINK)
    return (values * shrink).sum(axis=-1) / elements / shrink
