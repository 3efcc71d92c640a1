"""Arrays of JAX on several devices: axes of a ``shard_map``, and explicit shardings.

The types of older releases have neither, and their arrays are left as they are.
"""

from typing import Any

import jax

Axes = frozenset[str]


def alike(given: Any) -> Any:
    """Returns arrays of which all differ from device to device where one of them does.

    So the gradients do too, which come from one call; JAX adds them up for an array that was the
    same on all devices.
    """
    axes = Axes().union(*map(_varying, jax.tree.leaves(given)))
    return jax.tree.map(lambda array: _spread(array, axes), given) if axes else given


def placed_as(array: Any, other: Any) -> Any:
    """Returns an array with the sharding of another of its shape, where that is explicit."""
    place = getattr(other.aval, "sharding", None)
    if place is None or all(axis is None for axis in place.spec):
        return array
    return jax.sharding.reshard(array, place)  # type: ignore[no-untyped-call]


def _spread(array: Any, axes: Axes) -> Any:
    missing = tuple(sorted(axes - _varying(array)))
    return jax.lax.pcast(array, missing, to="varying") if missing else array


def _varying(array: Any) -> Axes:
    """Returns the axes along which an array differs from device to device."""
    kind = getattr(array.aval, "manual_axis_type", None)
    return Axes(getattr(kind, "varying", ()))
