"""lossd's losses as differentiable functions of JAX: ``pip install '.[jax]'``.

``jax_arrays`` reads what is given, and ``jax_callback`` takes it to the server.
"""

import functools
from collections.abc import Callable
from typing import Any

from lossd.client.extras import missing

try:
    import jax
    import jax.numpy as jnp
    from jax.custom_derivatives import SymbolicZero
except ModuleNotFoundError as error:
    raise missing(error, "jax") from error

from lossd.client import arguments, kinds
from lossd.client.declared import DeclaredInputs
from lossd.client.differentiability import Differentiability
from lossd.client.errors import InvalidRequestError
from lossd.client.hints import AnyLoss, EmptyPolicy, NonfinitePolicy, Reduction
from lossd.client.jax_arrays import array_of, arrays_of, is_of_jax
from lossd.client.jax_callback import Outside, outside_of
from lossd.client.jax_shardings import alike
from lossd.client.mapped import Problem
from lossd.client.reaching import Allowance, client_of
from lossd.client.sync import LossClient

# What makes constants of arrays.
_REMEDY = "jax.lax.stop_gradient"
# What a call takes beside inputs, and what ``remote_loss`` does.
_BESIDE = ("weights", "mask", "cotangent", "normalizer")
_BEFORE = ("reduction", "empty", "nonfinite", "lint", "timeout")


def remote_loss(
    loss: "AnyLoss",
    client: str | LossClient = "localhost:50051",
    *,
    reduction: "Reduction" = "mean",
    normalizer: float | None = None,
    empty: "EmptyPolicy" = "zero",
    nonfinite: "NonfinitePolicy" = "propagate",
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
        given = arguments.present(arguments.bind(names, inputs, named_inputs))
        declared.check(given)
        extras = {"weights": weights, "mask": mask, "cotangent": cotangent}
        beside = {name: array_of(name, one) for name, one in arguments.present(extras).items()}
        arrays = {name: arrays_of(name, one) for name, one in given.items()}
        found: jax.Array = value(*alike((arrays, beside | _divisor(normalizer, reduction))))
        return found

    return computed


def _divisor(normalizer: Any, reduction: Reduction) -> dict[str, Any]:
    """Returns the normalizer of a call, of which JAX may not know more than the shape yet."""
    if normalizer is None:
        return {}
    arguments.check_mean(reduction)
    if not is_of_jax(normalizer):
        normalizer = arguments.divisor(normalizer, reduction)
    found = array_of("normalizer", normalizer)
    if found.ndim:
        raise InvalidRequestError(
            f"normalizer must be a number, got the shape {list(found.shape)}", field="normalizer"
        )
    return {"normalizer": found}


def _differentiable(problem: Problem, possible: Differentiability) -> Callable[..., Any]:
    """Returns the function from inputs and extras to the loss, with its derivative."""
    is_vector = problem.reduction == "none"
    outside = _first_derivative(outside_of(problem))

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
            gradients, upstream = outside(inputs, scaled, tuple(gradients))[1], None
        rounded = {
            name: jax.tree.map(
                lambda g, x: _product(upstream, g).astype(x.dtype), found, inputs[name]
            )
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
    return _product(upstream, cotangent)


def _product(upstream: Any, factor: Any) -> Any:
    """Returns a product, in float64 if one of both is; ``upstream`` is None for 1.

    The types are told to JAX, which may have been forbidden to find a common one itself.
    """
    if upstream is None:
        return factor
    dtype = jnp.float64 if jnp.float64 in (upstream.dtype, factor.dtype) else jnp.float32
    return upstream.astype(dtype) * factor.astype(dtype)


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
