"""Several batches of one loss at a time, as ``jax.vmap`` makes them: in one call where possible.

It computes with NumPy alone, and knows of no framework.  Batches can share a call where examples
know nothing of each other: they lie behind one another, and each is divided by what it would have
been divided by alone.
"""

import functools
import math
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from lossd.client import cautions
from lossd.client.arrays import Array
from lossd.client.errors import InvalidRequestError
from lossd.client.example_axes import (
    INDEPENDENT,
    ROWS,
    Inputs,
    arrays_in,
    class_axis,
    examples_of,
    is_one_example,
    name_of,
)
from lossd.client.hints import EmptyPolicy, NonfinitePolicy, Reduction
from lossd.client.result import LossResult

# Values, and gradients by name, which have the shapes of their inputs.
Found = tuple[Array, dict[str, Any]]

# Batches that are computed at the same time where each needs a call.
_CALLS = 8

# Losses that multiply each example by a factor of their own before they average.
SCALED = frozenset({"ctc"})
# What may be one number for a whole batch.
_SINGLE = ("normalizer", "cotangent")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Problem:
    """A loss and how to compute it, for one batch or for several.

    Attributes:
        compute: ``LossClient.compute``, with its other options.
        loss: The loss.
        reduction: How the losses of a batch become one number.
        normalizer: Divisor in place of the one that a mean would use.
        empty: How to handle a batch without examples.
        nonfinite: How to handle examples that are not finite.
        looks: Whether the numbers of a batch are looked at here, which takes the host.
    """

    compute: Callable[..., LossResult[Any]]
    loss: Any
    reduction: Reduction
    normalizer: float | None
    empty: EmptyPolicy
    nonfinite: NonfinitePolicy
    looks: bool = False

    def one(self, inputs: Inputs, extras: Inputs, wanted: tuple[str, ...]) -> Found:
        """Returns the loss of one batch, of its examples under "none", and its gradients.

        Args:
            inputs: The inputs of the loss.
            extras: ``weights``, ``mask`` and ``cotangent``, as for ``LossClient.compute``, and a
                ``normalizer`` of this batch in place of that of all.
            wanted: The inputs whose gradients to return.

        Raises:
            LossdError: as ``LossClient.compute``.
        """
        result = self._asked(
            inputs, extras, wanted,
            reduction=self.reduction, normalizer=self.normalizer, empty=self.empty,
            per_example=self.reduction == "none",
        )  # fmt: skip
        is_vector = self.reduction == "none"
        value = self._vector(result, inputs, extras) if is_vector else result.loss
        return np.asarray(value), {name: result.gradients[name] for name in wanted}

    def each(self, inputs: Inputs, extras: Inputs, wanted: tuple[str, ...]) -> Found:
        """Returns what ``one`` does for each of several batches, which lie along axis 0.

        Raises:
            LossdError: as ``one``.
        """
        return self._together(inputs, extras, wanted) or self._side_by_side(inputs, extras, wanted)

    def _asked(
        self, inputs: Inputs, extras: Inputs, wanted: tuple[str, ...], **options: Any
    ) -> LossResult[Any]:
        given = {"nonfinite": self.nonfinite, **options, **extras, **inputs}
        return self.compute(self.loss, gradients=wanted, **given)

    def _vector(self, result: LossResult[Any], inputs: Inputs, extras: Inputs) -> Any:
        """Returns the weighted loss of each example, whose gradients are those of the result."""
        expected = examples_of(self.loss, inputs)
        found = None if result.per_example is None else result.per_example.shape
        if found != expected:
            raise InvalidRequestError(
                f"reduction must be mean, batch_mean or sum where losses of single examples have "
                f"not the shape {list(expected)}, got none",
                field="reduction",
            )
        return weighed(result.per_example, extras.get("weights", 1))

    def _side_by_side(self, inputs: Inputs, extras: Inputs, wanted: tuple[str, ...]) -> Found:
        """Returns what a call for each batch gives, some at a time."""
        count = len(next(arrays_in(inputs)))

        def call(index: int) -> Found:
            return self.one(_at(inputs, index), _at(extras, index), wanted)

        calls = [cautions.for_caller(functools.partial(call, index)) for index in range(count)]
        with ThreadPoolExecutor(min(_CALLS, max(count, 1))) as pool:
            found = list(pool.map(_called, calls))
        values = np.stack([value for value, _ in found])
        gradients = {name: _stacked([each[name] for _, each in found]) for name in wanted}
        return values, gradients

    def _together(self, inputs: Inputs, extras: Inputs, wanted: tuple[str, ...]) -> Found | None:
        """Returns what one call for all batches gives; None where the batches cannot share one."""
        single = {name: extras[name] for name in _SINGLE if name in extras}
        single = {name: numbers for name, numbers in single.items() if numbers.ndim == 1}
        extras = {name: array for name, array in extras.items() if name not in single}
        merged = self._merged({**inputs, **extras})
        if merged is None:
            return None
        given = {name: merged[name] for name in inputs}
        count = len(next(iter(inputs.values())))
        shape = examples_of(self.loss, given)
        if any(merged[name].shape != shape for name in extras):  # which the server refuses
            return None
        divisor = _Divisor(
            self, given, {name: merged[name] for name in extras}, count, shape,
            normalizer=single.get("normalizer", self.normalizer),
            scale=single.get("cotangent", 1.0),
        )  # fmt: skip
        if not divisor.is_known:
            return None
        result = self._asked(
            given, divisor.extras(), wanted, reduction="sum", empty="zero", per_example=True
        )
        if not divisor.is_confirmed(result):
            return None
        gradients = {name: result.gradients[name].reshape(inputs[name].shape) for name in wanted}
        return divisor.values(result), gradients

    def _merged(self, given: Inputs) -> dict[str, Array] | None:
        """Returns arrays with the examples of all batches behind one another on axis 0."""
        name = name_of(self.loss)
        if name not in INDEPENDENT or not all(
            isinstance(one, np.ndarray) for one in given.values()
        ):
            return None
        arrays: dict[str, Array] = dict(given)
        if 0 in (array.size for array in arrays.values()) or is_one_example(self.loss):
            return None
        if any(array.ndim == 1 for array in arrays.values()):  # a batch is a single example
            return arrays if name in ROWS and class_axis(self.loss) == -1 else None
        least = min(array.ndim for array in arrays.values())
        same = {array.shape[1] for array in arrays.values()}
        axis = class_axis(self.loss)
        if len(same) != 1 or axis == 0 or -axis >= least:  # classes on axis 0 of a batch
            return None
        return {key: array.reshape(-1, *array.shape[2:]) for key, array in arrays.items()}


class _Divisor:
    """By what each of several batches is divided, and how the server is told.

    Args:
        problem: The loss and how to compute it.
        inputs: All examples of all batches.
        extras: Their weights, mask and cotangent.
        count: The number of batches.
        shape: The shape of all examples.
        normalizer: What takes the place of the divisor, of all batches or of each.
        scale: What multiplies the gradients, of all batches or of each.
    """

    def __init__(
        self,
        problem: Problem,
        inputs: Mapping[str, Array],
        extras: Mapping[str, Array],
        count: int,
        shape: tuple[int, ...],
        *,
        normalizer: Any,
        scale: Any,
    ) -> None:
        self._problem = problem
        self._normalizer = normalizer
        self._scale = scale
        self._extras = extras
        self._count = count
        self._shape = shape
        self._kept = np.broadcast_to(extras.get("mask", np.True_), shape)
        loss: Any = problem.loss
        targets = inputs.get("targets")
        if "ignore_index" in loss.DESCRIPTOR.fields_by_name and loss.HasField("ignore_index"):
            is_index = targets is not None and targets.shape == shape
            self._kept = self._kept & (targets != loss.ignore_index) if is_index else self._kept
        self._weights = np.where(self._kept, extras.get("weights", 1.0), 0.0).astype(np.float64)

    @property
    def is_known(self) -> bool:
        """Whether it can be told before the server has seen the batches."""
        loss: Any = self._problem.loss
        if self._problem.reduction == "mean" and name_of(loss) in SCALED:
            return False
        if self._normalizer is not None and not _are_divisors(self._normalizer):
            return False  # the server says what is wrong
        may_be_empty = self._problem.empty != "zero"
        if (
            (self._is_mean or may_be_empty)
            and "class_weights" in loss.DESCRIPTOR.fields_by_name
            and loss.class_weights
        ):
            return False
        # For the server a batch without weight is empty, whatever divides it.
        return not may_be_empty or bool(self._by_batch(self._weights != 0).any(axis=1).all())

    @property
    def _is_mean(self) -> bool:
        return self._problem.reduction == "mean" and self._normalizer is None

    @property
    def _each(self) -> Array:
        """By what each batch is divided; 0 if it is empty."""
        problem = self._problem
        if problem.reduction in ("sum", "none"):
            return np.ones(self._count)
        if self._normalizer is not None:
            return np.broadcast_to(np.asarray(self._normalizer, np.float64), self._count)
        counted = self._weights if problem.reduction == "mean" else self._kept
        return np.asarray(self._by_batch(counted).sum(axis=1, dtype=np.float64))

    def extras(self) -> dict[str, Array]:
        """Returns the weights, the mask and the cotangent that divide each batch by its own."""
        each = self._each
        factors = np.divide(self._scale, each, out=np.zeros_like(each), where=each != 0)
        shape = (self._count, math.prod(self._shape) // self._count)
        cotangent = np.broadcast_to(factors[:, None], shape).reshape(self._shape)
        if "cotangent" in self._extras:
            cotangent = cotangent * self._extras["cotangent"]
        return {**self._extras, "cotangent": cotangent.astype(np.float64)}

    def is_confirmed(self, result: LossResult[Any]) -> bool:
        """Returns whether the server divided by the same, as far as it tells."""
        if result.per_example is None or result.per_example.shape != self._shape:
            return False
        if result.nonfinite_count and self._problem.nonfinite != "propagate":
            return False
        if result.example_count != np.count_nonzero(self._kept):  # the loss skipped some
            return False
        return not self._is_mean or math.isclose(
            result.weight_sum, self._weights.sum(), rel_tol=1e-6
        )

    def values(self, result: LossResult[Any]) -> Array:
        """Returns the loss of each batch, or of its examples under "none"."""
        weighed = np.multiply(
            self._weights, result.per_example,
            out=np.zeros(self._shape), where=self._weights != 0,
        )  # fmt: skip
        if self._problem.reduction == "none":
            return self._by_batch(weighed)
        totals = self._by_batch(weighed).sum(axis=1)
        each = self._each
        found: Array = np.divide(totals, each, out=np.zeros_like(each), where=each != 0)
        return found

    def _by_batch(self, array: Array) -> Array:
        return array.reshape(self._count, -1)


def weighed(values: Any, weights: Any) -> Any:
    """Returns the losses of examples times their weights.

    The weight of an example that is ignored may be anything: 0 times NaN would be NaN.  The server
    has 0 for the loss of such an example, and has checked the weights of all others.
    """
    return np.multiply(values, np.where(np.equal(values, 0), 0, weights))


def _are_divisors(normalizers: Any) -> bool:
    """Returns whether all numbers are finite and more than 0."""
    numbers = np.asarray(normalizers, np.float64)
    return bool((np.isfinite(numbers) & (numbers > 0)).all())


def _called(call: Callable[[], Found]) -> Found:
    return call()


def _at(given: Inputs, index: int) -> dict[str, Any]:
    """Returns one batch of several."""
    return {
        name: [one[index] for one in value] if isinstance(value, list | tuple) else value[index]
        for name, value in given.items()
    }


def _stacked(each: list[Any]) -> Any:
    """Returns arrays, or lists of them, with one more axis."""
    if isinstance(each[0], list | tuple):
        return [np.stack(one) for one in zip(*each, strict=True)]
    return np.stack(each)
