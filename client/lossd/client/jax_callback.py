"""Calls from JAX: through ``pure_callback``, which brings everything to the host.

What runs there computes with NumPy alone: a callback that asks JAX for anything can wait for
itself.  Only where JAX traces nothing, arrays on a GPU go to the server as they are.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lossd.client.arrays import Array
from lossd.client.device_arrays import Movable, is_on_device
from lossd.client.example_axes import examples_of
from lossd.client.jax_shardings import placed_as
from lossd.client.mapped import Problem

# Computes a loss from inputs, extras, and the names of inputs whose gradients are wanted.
Outside = Callable[[Any, Any, tuple[str, ...]], tuple[Any, Any]]


def outside_of(problem: Problem) -> Outside:
    """Returns what computes a loss and its gradients outside of JAX."""
    # Compiled once for inputs of a kind, so that a call without ``jit`` is not compiled each time.
    compiled = jax.jit(functools.partial(_called, problem), static_argnames="wanted")
    return functools.partial(_outside, problem, compiled)


def _outside(
    problem: Problem,
    compiled: Callable[..., Any],
    inputs: Any,
    extras: Any,
    wanted: tuple[str, ...],
) -> tuple[Any, Any]:
    """Returns the loss and the gradients with respect to some inputs, from outside of JAX."""
    leaves = jax.tree.leaves(inputs)
    if not problem.looks and _are_at_hand(leaves) and any(map(is_on_device, leaves)):
        return _beside(problem, inputs, extras, wanted)
    found: tuple[Any, Any] = compiled(inputs, extras, wanted=wanted)
    return found


def _called(problem: Problem, inputs: Any, extras: Any, wanted: tuple[str, ...]) -> tuple[Any, Any]:
    """Returns what ``_outside`` does, within a compiled function."""
    leaves = jax.tree.leaves(inputs)
    dtype = jnp.float64 if any(leaf.dtype == jnp.float64 for leaf in leaves) else jnp.float32
    shape = examples_of(problem.loss, inputs) if problem.reduction == "none" else ()
    gradients = {name: jax.tree.map(_widened, inputs[name]) for name in wanted}
    axes = jax.tree.map(lambda leaf: leaf.ndim, (inputs, extras))
    found: tuple[Any, Any] = jax.pure_callback(
        _Callback(problem, wanted, np.dtype(dtype), shape, axes),
        (_shape(shape, dtype), gradients),
        inputs,
        extras,
        vmap_method="expand_dims",
    )
    # Where several devices have a share of the inputs, what the call gives lies on the one that
    # made it, which no other step could use; behind a barrier with all it is as the others are.
    barrier: Any = jax.lax.optimization_barrier
    value, gradients = barrier((found, (inputs, extras)))[0]
    given = {name: inputs[name] for name in wanted}
    return value, jax.tree.map(placed_as, gradients, given)


def _are_at_hand(leaves: Any) -> bool:
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in leaves)


def _beside(problem: Problem, inputs: Any, extras: Any, wanted: tuple[str, ...]) -> tuple[Any, Any]:
    """Returns what ``_outside`` does for arrays that need not leave the GPU.

    JAX has no stream to wait for, nor does it say when it has done with memory of others: it is
    waited for before, and gets copies of the gradients.
    """
    leaves = jax.tree.leaves(inputs)
    dtype = jnp.float64 if any(leaf.dtype == jnp.float64 for leaf in leaves) else jnp.float32
    place = next(leaf.sharding for leaf in leaves if is_on_device(leaf))
    wide = jax.tree.map(lambda x: x.astype(jnp.float32) if x.dtype == jnp.float16 else x, inputs)
    jax.block_until_ready(wide)  # type: ignore[no-untyped-call]
    given = jax.tree.map(_lent, wide)
    value, found = problem.one(given, jax.tree.map(_on_host, extras), wanted)
    gradients = {
        name: jax.tree.map(lambda leaf, array: _taken(array, leaf.sharding), wide[name], arrays)
        for name, arrays in found.items()
    }
    return jax.device_put(value.astype(dtype), place), gradients


def _lent(leaf: Any) -> Any:
    """Returns an array of JAX as an input of a call; on the host if it is there."""
    if not is_on_device(leaf) or not leaf.size:
        return np.asarray(leaf)
    return Movable(leaf, functools.partial(np.asarray, leaf))


def _taken(array: Any, place: Any) -> Any:
    """Returns an array of a result as one of JAX."""
    if not is_on_device(array):
        return jax.device_put(array, place)
    array.device.synchronize()
    return jnp.array(jax.dlpack.from_dlpack(array), copy=True).block_until_ready()


def _widened(leaf: Any) -> jax.ShapeDtypeStruct:
    return _shape(leaf.shape, jnp.float32 if leaf.dtype == jnp.float16 else leaf.dtype)


def _shape(shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True, eq=False)  # JAX wants it to have a hash
class _Callback:
    """The callback outside of JAX.  ``axes`` are those of each array before axes are mapped."""

    problem: Problem
    wanted: tuple[str, ...]
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    axes: Any

    def __call__(self, inputs: Any, extras: Any) -> Any:
        """Computes the batch, or each of those along mapped axes."""
        given: Any = jax.tree.map(_on_host, (inputs, extras))
        arrays = zip(jax.tree.leaves(given), jax.tree.leaves(self.axes), strict=True)
        mapped = np.broadcast_shapes(*(_mapped(array, axes) for array, axes in arrays))
        if not mapped:
            value, gradients = self.problem.one(given[0], given[1], self.wanted)
            return value.astype(self.dtype), gradients
        flat: Any = jax.tree.map(functools.partial(_flat, mapped), given, self.axes)
        values, gradients = self.problem.each(flat[0], flat[1], self.wanted)
        unflat = functools.partial(_unflat, mapped)
        found = values.astype(self.dtype).reshape(*mapped, *self.shape)
        return found, jax.tree.map(unflat, gradients)


def _mapped(array: Array, axes: int) -> tuple[int, ...]:
    """Returns the sizes of the mapped axes, which come before the others."""
    return array.shape[: array.ndim - axes]


def _flat(mapped: tuple[int, ...], array: Array, axes: int) -> Array:
    """Returns an array with one axis in place of the mapped ones."""
    rest = array.shape[array.ndim - axes :]
    return np.broadcast_to(array, mapped + rest).reshape(math.prod(mapped), *rest)


def _unflat(mapped: tuple[int, ...], array: Array) -> Array:
    return array.reshape(*mapped, *array.shape[1:])


def _on_host(array: Any) -> Array:
    found = np.asarray(array)
    return found.astype(np.float32) if found.dtype == np.float16 else found
