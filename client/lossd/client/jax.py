"""lossd's losses as differentiable functions of JAX: ``pip install 'lossd[jax]'``.

The call leaves JAX through ``pure_callback``.  What runs there computes with NumPy alone: a
callback that asks JAX for anything can wait for itself.
"""

import functools
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.custom_derivatives import SymbolicZero

from lossd.client import arguments
from lossd.client.errors import InvalidRequestError
from lossd.client.hints import Aggregate, AnyLoss, EmptyPolicy, NonfinitePolicy
from lossd.client.sync import LossClient

Array = npt.NDArray[Any]
# Elements of a mapped axis that are computed at the same time.
_CALLS = 8


def remote_loss(
    loss: AnyLoss,
    client: str | LossClient = "localhost:50051",
    *,
    reduction: Aggregate = "mean",
    normalizer: float | None = None,
    empty: EmptyPolicy = "zero",
    nonfinite: NonfinitePolicy = "propagate",
    lint: bool = False,
    timeout: float | None = None,
) -> Callable[..., jax.Array]:
    """Returns a function that computes a loss on a lossd server, differentiably.

        loss_fn = remote_loss(CrossEntropy(label_smoothing=0.1), "localhost:50051")
        loss, gradient = jax.value_and_grad(loss_fn)(logits, labels)

    The function takes the inputs of the loss in order or by name, and ``weights`` and ``mask``.
    It works under ``jit``, ``grad``, ``value_and_grad`` and ``vmap``; the elements of a mapped axis
    leave JAX together and are computed side by side, a call each.
    One call gives the loss and the gradients with respect to those inputs that are differentiated.
    The loss is float32, or float64 if an input is; gradients have the type of their input, and
    float16 is sent as float32, so that a gradient is rounded after it was multiplied.
    JAX refuses second derivatives and forward mode.

    Args:
        loss: The loss with its parameters, or the name of one with its defaults.
        client: A client, or the address for one.
        reduction: "mean", "batch_mean" or "sum", as for ``LossClient.compute``.
        normalizer: Divisor in place of the one that a mean would use.
        empty: How to handle a batch without examples: "zero", "nan" or "error".
        nonfinite: How to handle examples that are not finite: "propagate", "zero" or "error".
        lint: Whether to look for common mistakes in each batch, as for ``LossClient.compute``.
        timeout: Seconds that a call may take, retries included; None for the client's.

    Raises:
        InvalidRequestError: for the reduction "none", whose shape JAX would have to know, or if no
            loss has the name.
    """
    if reduction not in ("mean", "batch_mean", "sum"):
        raise InvalidRequestError(
            f"reduction must be mean, batch_mean or sum under JAX, got {reduction}",
            field="reduction",
        )
    loss = arguments.message_of(loss)
    remote = LossClient(client) if isinstance(client, str) else client
    options: dict[str, Any] = {
        "reduction": reduction, "normalizer": normalizer, "empty": empty, "nonfinite": nonfinite,
        "lint": lint, "timeout": timeout,
    }  # fmt: skip
    compute = functools.partial(remote.compute, loss, per_example=False, **options)
    value = _differentiable(compute)

    def computed(
        *inputs: Any, weights: Any = None, mask: Any = None, **named_inputs: Any
    ) -> jax.Array:
        names = remote.input_names(loss) if inputs else ()
        given = arguments.bind(names, inputs, named_inputs)
        extras = {"weights": weights, "mask": mask}
        found: jax.Array = value(_present(given), _present(extras))
        return found

    return computed


def _present(given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what is given, as JAX's arrays or lists of them."""
    return {name: _arrays(value) for name, value in given.items() if value is not None}


def _arrays(value: Any) -> Any:
    several = isinstance(value, list | tuple) and all(hasattr(one, "shape") for one in value)
    return [jnp.asarray(one) for one in value] if several and value else jnp.asarray(value)


def _differentiable(compute: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the function from inputs and extras to the loss, with its derivative."""

    @jax.custom_vjp
    def value(inputs: Any, extras: Any) -> Any:
        return _outside(compute, inputs, extras, ())[0]

    def forward(inputs: Any, extras: Any) -> Any:
        wanted = tuple(name for name, given in inputs.items() if _is_perturbed(given))
        inputs, extras = _primals(inputs), _primals(extras)
        found, gradients = _outside(compute, inputs, extras, wanted)
        return found, (inputs, extras, gradients)

    def backward(kept: Any, upstream: Any) -> Any:
        inputs, extras, gradients = kept
        if isinstance(upstream, SymbolicZero):
            gradients = {}
        scaled = {
            name: jax.tree.map(lambda g, x: (upstream * g).astype(x.dtype), found, inputs[name])
            for name, found in gradients.items()
        }
        nothing = jax.tree.map(lambda _: None, (inputs, extras))
        return {**nothing[0], **scaled}, nothing[1]

    value.defvjp(forward, backward, symbolic_zeros=True)
    return value


def _is_perturbed(given: Any) -> bool:
    return any(leaf.perturbed for leaf in jax.tree.leaves(given, is_leaf=_is_primal))


def _primals(given: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.value, given, is_leaf=_is_primal)


def _is_primal(leaf: Any) -> bool:
    return hasattr(leaf, "perturbed")


def _outside(
    compute: Callable[..., Any], inputs: Any, extras: Any, wanted: tuple[str, ...]
) -> tuple[Any, Any]:
    """Returns the loss and the gradients with respect to some inputs, from outside of JAX."""
    leaves = jax.tree.leaves(inputs)
    dtype = jnp.float64 if any(leaf.dtype == jnp.float64 for leaf in leaves) else jnp.float32
    gradients = {name: jax.tree.map(_widened, inputs[name]) for name in wanted}
    call = _Call(
        compute,
        wanted,
        np.dtype(dtype),
        jax.tree.map(lambda leaf: leaf.ndim, (inputs, extras)),
    )
    found: tuple[Any, Any] = jax.pure_callback(
        call,
        (_shape((), dtype), gradients),
        inputs,
        extras,
        vmap_method="expand_dims",
    )
    return found


def _widened(leaf: Any) -> jax.ShapeDtypeStruct:
    return _shape(leaf.shape, jnp.float32 if leaf.dtype == jnp.float16 else leaf.dtype)


def _shape(shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True, eq=False)  # JAX wants it to have a hash
class _Call:
    """The callback outside of JAX.  ``axes`` are those of each array before axes are mapped."""

    compute: Callable[..., Any]
    wanted: tuple[str, ...]
    dtype: np.dtype[Any]
    axes: Any

    def __call__(self, inputs: Any, extras: Any) -> Any:
        """Computes the batch, or each of those along mapped axes."""
        given = jax.tree.map(_on_host, (inputs, extras))
        arrays = zip(jax.tree.leaves(given), jax.tree.leaves(self.axes), strict=True)
        shape = np.broadcast_shapes(*(_mapped(array, axes) for array, axes in arrays))
        if not shape:
            return self._computed(*given)
        batches = [self._element(given, index) for index in np.ndindex(*shape)]
        with ThreadPoolExecutor(min(_CALLS, max(len(batches), 1))) as pool:
            found = list(pool.map(lambda batch: self._computed(*batch), batches))
        return jax.tree.map(lambda *each: np.stack(each).reshape(*shape, *each[0].shape), *found)

    def _element(self, given: Any, index: tuple[int, ...]) -> Any:
        """Returns the arrays of one element of the mapped axes; some have one for all."""

        def at(array: Array, axes: int) -> Array:
            sizes = _mapped(array, axes)
            found: Array = array[tuple(i % n for i, n in zip(index, sizes, strict=True))]
            return found

        return jax.tree.map(at, given, self.axes)

    def _computed(self, inputs: Any, extras: Any) -> Any:
        result = self.compute(gradients=self.wanted, **extras, **inputs)
        gradients = {name: result.gradients[name] for name in self.wanted}
        return np.asarray(result.loss, self.dtype), gradients


def _mapped(array: Array, axes: int) -> tuple[int, ...]:
    """Returns the sizes of the mapped axes, which come before the others."""
    return array.shape[: array.ndim - axes]


def _on_host(array: Any) -> Array:
    found = np.asarray(array)
    return found.astype(np.float32) if found.dtype == np.float16 else found
