"""Values as arrays of JAX."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lossd import tensors
from lossd.client.arrays import Array, to_array, unknown_type
from lossd.client.device_arrays import is_on_device
from lossd.client.errors import InvalidRequestError


def arrays_of(name: str, value: Any) -> Any:
    """Returns a value as an array of JAX, or as a list of them."""
    several = isinstance(value, list | tuple) and all(getattr(one, "ndim", 0) for one in value)
    if not several or not value:
        return array_of(name, value)
    return [array_of(f"{name}[{position}]", one) for position, one in enumerate(value)]


def array_of(name: str, value: Any) -> jax.Array:
    """Returns a value as an array of JAX.

    Raises:
        InvalidRequestError: if it is no array, of a type that the wire lacks, or has whole numbers
            that JAX would cut to its 32 bits, so that different labels become the same.
    """
    is_there = is_of_jax(value) or is_on_device(value)
    given = value if is_there else _in_native_order(to_array(name, value))
    try:
        found = jnp.asarray(given)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        got = f"{type(value).__name__}: {error}"
        raise InvalidRequestError(
            f"{name} must be an array that JAX takes, got {got}", field=name
        ) from error
    if found.dtype not in tensors.type_of_dtype:
        raise unknown_type(name, found.dtype)
    if found.dtype.kind in "iu" and not is_there:
        _check_whole(name, given, found.dtype)
    return found


def _in_native_order(array: Array) -> Array:
    """Returns numbers in the order of this machine, the only one that JAX takes."""
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def is_of_jax(value: Any) -> bool:
    """Returns whether a value is an array of JAX, or holds some."""
    leaves = jax.tree.leaves(value)
    return any(isinstance(leaf, jax.Array) or hasattr(leaf, "__jax_array__") for leaf in leaves)


def _check_whole(name: str, own: Array, dtype: np.dtype[Any]) -> None:
    bounds = np.iinfo(dtype)
    if own.size and not bounds.min <= own.min() <= own.max() <= bounds.max:
        worst = own.min() if own.min() < bounds.min else own.max()
        raise InvalidRequestError(
            f"{name} must be whole numbers of {dtype.name} unless JAX has 64 bits "
            f"(jax_enable_x64), got {worst}",
            field=name,
        )
