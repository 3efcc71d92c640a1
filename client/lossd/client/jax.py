"""lossd's losses as differentiable functions of JAX: ``pip install '.[jax]'``.

The call leaves JAX through ``pure_callback``, which brings everything to the host.  What runs there
computes with NumPy alone: a callback that asks JAX for anything can wait for itself.  Only where
JAX traces nothing, arrays on a GPU go to the server as they are.
"""

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero

from lossd import tensors
from lossd.client import arguments, kinds
from lossd.client.arrays import Array, to_array, unknown_type
from lossd.client.declared import DeclaredInputs
from lossd.client.device_arrays import Movable, is_on_device
from lossd.client.differentiability import Differentiability
from lossd.client.errors import InvalidRequestError
from lossd.client.hints import AnyLoss, EmptyPolicy, NonfinitePolicy, Reduction
from lossd.client.jax_shardings import alike, placed_as
from lossd.client.mapped import Problem, examples_of
from lossd.client.reaching import Allowance, client_of
from lossd.client.sync import LossClient

# Computes a loss from inputs, extras, and the names of inputs whose gradients are wanted.
Outside = Callable[[Any, Any, tuple[str, ...]], tuple[Any, Any]]

# What makes constants of arrays.
_REMEDY = "jax.lax.stop_gradient"
# What a call takes beside inputs, and what ``remote_loss`` does.
_BESIDE = ("weights", "mask", "cotangent", "normalizer")
_BEFORE = ("reduction", "empty", "nonfinite", "lint", "timeout")


def remote_loss(
    loss: AnyLoss,
    client: str | LossClient = "localhost:50051",
    *,
    reduction: Reduction = "mean",
    normalizer: float | None = None,
    empty: EmptyPolicy = "zero",
    nonfinite: NonfinitePolicy = "propagate",
    lint: bool = False,
    timeout: float | None = None,
) -> Callable[..., jax.Array]:
    """Returns a function that computes a loss on a lossd server, differentiably.

        loss_fn = remote_loss(CrossEntropy(label_smoothing=0.1), "localhost:50051")
        loss, gradient = jax.value_and_grad(loss_fn)(logits, labels)

    The function takes the inputs of the loss in order or by name, ``weights`` and ``mask``, a
    ``cotangent`` that gradients are multiplied by besides the upstream gradient, one number or one
    for each example, and a ``normalizer`` for this batch.
    It works under ``jit``, ``grad``, ``value_and_grad`` and ``vmap``; the elements of a mapped axis
    leave JAX together, in one call where the examples of the loss know nothing of each other, and
    otherwise side by side, a call each.
    One call gives the loss and the gradients with respect to those inputs that are differentiated;
    under "none" the backward pass makes a second one, with the upstream gradient of each example.
    The loss is float32, or float64 if an input is; gradients have the type of their input, and
    float16 is sent as float32, so that a gradient is rounded after it was multiplied.
    Second derivatives are refused, and JAX refuses forward mode; a gradient may be part of what is
    differentiated if it is behind ``stop_gradient``.

    Args:
        loss: The loss with its parameters, or the name of one with its defaults.
        client: A client, or the address for one.
        reduction: "mean", "batch_mean" or "sum", or "none" for a vector of the losses of the
            examples, as for ``LossClient.compute``.
        normalizer: Divisor in place of the one that a mean would use.
        empty: How to handle a batch without examples: "zero", "nan" or "error".
        nonfinite: How to handle examples that are not finite: "propagate", "zero" or "error".
        lint: Whether to look for common mistakes in each batch, as for ``LossClient.compute``.
        timeout: Seconds that a call may take, retries included; None for the client's.

    Raises:
        InvalidRequestError: if it is no loss, or an option breaks its rule; from the function, when
            it is traced, if an input is missing, or one is given that the loss has not, or a
            gradient is wanted with respect to one that has none.
    """
    arguments.member("reduction", arguments.reductions, reduction)
    arguments.member("empty", arguments.empty_policies, empty)
    arguments.member("nonfinite", arguments.nonfinite_policies, nonfinite)
    kinds.loss_names(kinds.spec_of(loss))
    loss = kinds.message_of(loss)
    remote = client_of(client, timeout)
    declared = DeclaredInputs(remote, loss, beside=_BESIDE, before=_BEFORE, timeout=timeout)
    looks = arguments.flag("lint", lint)
    problem = Problem(
        compute=functools.partial(remote.compute, lint=looks, timeout=timeout),
        loss=loss,
        reduction=reduction,
        normalizer=arguments.divisor(normalizer, reduction),
        empty=empty,
        nonfinite=nonfinite,
        looks=looks,
    )
    possible = Differentiability(remote, loss, remedy=_REMEDY, timeout=timeout)
    value = _differentiable(problem, possible)

    def computed(
        *inputs: Any,
        weights: Any = None,
        mask: Any = None,
        cotangent: Any = None,
        normalizer: Any = None,
        **named_inputs: Any,
    ) -> jax.Array:
        names = (
            Allowance(timeout).names_of(remote, loss, len(inputs), named_inputs) if inputs else ()
        )
        given = _present(arguments.bind(names, inputs, named_inputs))
        declared.check(given)
        extras = {"weights": weights, "mask": mask, "cotangent": cotangent}
        beside = {name: _array(name, one) for name, one in _present(extras).items()}
        arrays = {name: _arrays(name, one) for name, one in given.items()}
        found: jax.Array = value(*alike((arrays, beside | _divisor(normalizer, reduction))))
        return found

    return computed


def _divisor(normalizer: Any, reduction: Reduction) -> dict[str, Any]:
    """Returns the normalizer of a call, of which JAX may not know more than the shape yet."""
    if normalizer is None:
        return {}
    arguments.check_mean(reduction)
    if not _is_of_jax(normalizer):
        normalizer = arguments.divisor(normalizer, reduction)
    found = _array("normalizer", normalizer)
    if found.ndim:
        raise InvalidRequestError(
            f"normalizer must be a number, got the shape {list(found.shape)}", field="normalizer"
        )
    return {"normalizer": found}


def _present(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value is not None}


def _arrays(name: str, value: Any) -> Any:
    """Returns a value as an array of JAX, or as a list of them."""
    several = isinstance(value, list | tuple) and all(getattr(one, "ndim", 0) for one in value)
    if not several or not value:
        return _array(name, value)
    return [_array(f"{name}[{position}]", one) for position, one in enumerate(value)]


def _array(name: str, value: Any) -> jax.Array:
    """Returns a value as an array of JAX.

    Raises:
        InvalidRequestError: if it is no array, of a type that the wire lacks, or has whole numbers
            that JAX would cut to its 32 bits, so that different labels become the same.
    """
    is_there = _is_of_jax(value) or is_on_device(value)
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


def _is_of_jax(value: Any) -> bool:
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


def _differentiable(problem: Problem, possible: Differentiability) -> Callable[..., Any]:
    """Returns the function from inputs and extras to the loss, with its derivative."""
    is_vector = problem.reduction == "none"
    # Compiled once for inputs of a kind, so that a call without ``jit`` is not compiled each time.
    compiled = jax.jit(functools.partial(_called, problem), static_argnames="wanted")
    outside = _first_derivative(functools.partial(_outside, problem, compiled))

    @jax.custom_vjp
    def value(inputs: Any, extras: Any) -> Any:
        return outside(inputs, extras, ())[0]

    def forward(inputs: Any, extras: Any) -> Any:
        for name, given in extras.items():
            if _is_perturbed(given):
                raise arguments.undifferentiated(name, _REMEDY)
        wanted = tuple(name for name, given in inputs.items() if _is_perturbed(given))
        possible.check(wanted)
        inputs, extras = _primals(inputs), _primals(extras)
        if is_vector:  # its gradients need the upstream ones
            found, gradients = value(inputs, extras), dict.fromkeys(wanted)
        else:
            found, gradients = outside(inputs, extras, wanted)
        return found, (inputs, extras, gradients)

    def backward(kept: Any, upstream: Any) -> Any:
        inputs, extras, gradients = kept
        if isinstance(upstream, SymbolicZero):
            gradients = {}
        elif is_vector and gradients:
            scaled = {**extras, "cotangent": _times(upstream, extras.get("cotangent"))}
            gradients, upstream = outside(inputs, scaled, tuple(gradients))[1], 1
        rounded = {
            name: jax.tree.map(lambda g, x: (upstream * g).astype(x.dtype), found, inputs[name])
            for name, found in gradients.items()
        }
        nothing = jax.tree.map(lambda _: None, (inputs, extras))
        return {**nothing[0], **rounded}, nothing[1]

    value.defvjp(forward, backward, symbolic_zeros=True)
    return value


def _times(upstream: Any, cotangent: Any) -> Any:
    """Returns the upstream gradient of each example times the cotangent of a call.

    Raises:
        InvalidRequestError: if it is neither one number nor one for each example.
    """
    if cotangent is None:
        return upstream
    if cotangent.shape not in ((), upstream.shape):  # JAX would spread it over the examples
        raise InvalidRequestError(
            f"cotangent must have the shape {list(upstream.shape)} of the examples, "
            f"got {list(cotangent.shape)}",
            field="cotangent",
        )
    return upstream * cotangent


def _is_perturbed(given: Any) -> bool:
    return any(leaf.perturbed for leaf in jax.tree.leaves(given, is_leaf=_is_primal))


def _primals(given: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.value, given, is_leaf=_is_primal)


def _is_primal(leaf: Any) -> bool:
    return hasattr(leaf, "perturbed")


def _first_derivative(outside: Outside) -> Outside:
    """Returns what computes a loss and its gradients, which may be part of what is differentiated.

    JAX differentiates a callback as soon as it meets it, also where no gradient goes through it, as
    behind ``stop_gradient``; this one is differentiated only where a gradient does.  A backward
    pass that comes to it raises TypeError.
    """

    @functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
    def once(inputs: Any, extras: Any, wanted: tuple[str, ...]) -> Any:
        return outside(inputs, extras, wanted)

    def forward(inputs: Any, extras: Any, wanted: tuple[str, ...]) -> Any:
        return once(inputs, extras, wanted), None

    def backward(_: tuple[str, ...], __: None, ___: Any) -> Any:
        raise TypeError(
            "the gradient of a loss of lossd must not be differentiated again: the server computes "
            "first derivatives only"
        )

    once.defvjp(forward, backward)
    return once


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
        _Call(problem, wanted, np.dtype(dtype), shape, axes),
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
class _Call:
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
