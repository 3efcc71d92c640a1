"""Selects the examples of a batch that count, and their weights."""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd.evaluation._declare import Array, BatchFacts, Floats, InputError, MetricBatch
from lossd.evaluation._state import ClassificationTask
from lossd.losses import element

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Selection:
    """The rows that count: neither ignored nor of weight 0.

    ``shape`` is that of all examples; ``rows`` is None for all of them; ``weights`` is None for 1,
    else one for each selected row.
    """

    shape: tuple[int, ...]
    rows: Flags | None
    weights: Floats | None
    example_count: int
    ignored_count: int
    silent_count: int

    def of(self, array: Array) -> Array:
        """Returns the selected rows of an array."""
        return array if self.rows is None else array[self.rows]

    def without(self, dropped: Flags) -> "Selection":
        """Returns the selection without some of the selected rows."""
        if self.rows is None:
            rows = ~dropped
        else:
            rows = self.rows.copy()
            rows[rows] = ~dropped
        weights = None if self.weights is None else self.weights[~dropped]
        return replace(self, rows=rows, weights=weights)

    def index(self, position: int) -> int:
        """Returns the index in the batch of a selected row."""
        return position if self.rows is None else int(np.flatnonzero(self.rows)[position])

    def facts(
        self,
        *,
        task: ClassificationTask | None = None,
        width: int | None = None,
        nonfinite_count: int = 0,
    ) -> BatchFacts:
        """Returns the facts about the batch for a state."""
        return BatchFacts(
            task=task,
            width=width,
            example_count=self.example_count,
            ignored_count=self.ignored_count,
            silent_count=self.silent_count,
            nonfinite_count=nonfinite_count,
        )


def select(
    batch: MetricBatch, shape: tuple[int, ...], also_ignored: Flags | None = None
) -> Selection:
    """Reads mask and weights, which must have the shape of the examples.

    Raises:
        InputError: if they have another shape, or hold an invalid value.
    """
    count = math.prod(shape)
    kept = _kept(batch.mask, shape, also_ignored)
    ignored = 0 if kept is None else count - int(np.count_nonzero(kept))
    if batch.weights is None:
        return Selection(shape, kept, None, count - ignored, ignored, 0)
    weights = _weights(batch.weights, shape, kept)
    loud = weights > 0
    silent = count - ignored - int(np.count_nonzero(loud))
    return Selection(shape, loud, weights[loud], count - ignored, ignored, silent)


def _kept(mask: Array | None, shape: tuple[int, ...], ignored: Flags | None) -> Flags | None:
    if mask is None:
        return None if ignored is None else ~ignored
    kept = flags_of(mask, shape).reshape(-1)
    return kept if ignored is None else kept & ~ignored


def flags_of(mask: Array, shape: tuple[int, ...], things: str = "examples") -> Flags:
    """Returns a mask, which must be boolean and have the shape of what it tells of.

    Raises:
        InputError: if it is not.
    """
    if mask.size and mask.dtype != np.bool_:  # an empty list has no type
        raise InputError("mask.dtype", f"mask must be boolean, got {mask.dtype.name}")
    _check_shape("mask", mask, shape, things)
    return mask.astype(np.bool_, copy=False)


def _weights(given: Array, shape: tuple[int, ...], kept: Flags | None) -> Floats:
    if not is_number(given):
        raise InputError("weights.dtype", f"weights must be numbers, got {given.dtype.name}")
    _check_shape("weights", given, shape)
    weights = given.reshape(-1).astype(np.float64)
    if kept is not None:
        weights[~kept] = 0  # weights of ignored examples may be anything
    wrong = np.flatnonzero(~((weights >= 0) & (weights < np.inf)))
    if len(wrong):
        raise value_error("weights", "weights", weights.reshape(shape), int(wrong[0]), "[0, inf)")
    return weights


def _check_shape(name: str, array: Array, shape: tuple[int, ...], things: str = "examples") -> None:
    if array.shape != shape:
        raise InputError(
            f"{name}.shape",
            f"{name} must have the shape {list(shape)} of the {things}, got {list(array.shape)}",
        )


def value_error(field: str, name: str, values: Array, index: int, rule: str) -> InputError:
    """Returns the error for one element that breaks a rule, by its flat index."""
    value = values.reshape(-1)[index]
    return InputError(
        field, f"{element(name, index, values.shape)} must be in {rule}, got {value}",
        index=index, value=value, range=rule,
    )  # fmt: skip


def is_float(array: Array) -> bool:
    """Returns whether it holds floating-point numbers; bfloat16 is of kind "V" to NumPy."""
    return array.dtype.kind == "f" or array.dtype.name == "bfloat16"


def is_number(array: Array) -> bool:
    """Returns whether it holds numbers."""
    return is_float(array) or array.dtype.kind in "iub"


def widened(array: Array) -> npt.NDArray[Any]:
    """Returns floats of 32 bits or more, in which smaller types are exact."""
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)


def rounded(numbers: Floats, dtype: np.dtype[Any]) -> Floats:
    """Returns numbers as they are in a floating-point type; infinite where they are beyond it."""
    with np.errstate(over="ignore"):
        return numbers.astype(dtype).astype(np.float64)


def for_each_column(weights: Floats | None, columns: int) -> Floats | None:
    """Returns the weights of rows for each of so many columns, row by row; None for 1.

    It is a copy of a view, since ``np.repeat`` keeps the interpreter until it is done.
    """
    if weights is None:
        return None
    return np.broadcast_to(weights[:, None], (len(weights), columns)).reshape(-1)


def shape_error(name: str, rule: str, array: Array, hint: str = "") -> InputError:
    """Returns the error for a shape."""
    return InputError(
        f"inputs.{name}.shape", f"{name} must have {rule}, got {list(array.shape)}{hint}"
    )
