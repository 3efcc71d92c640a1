"""Weights, mask, reduction, normalizer and cotangent: applied once, so that no loss sees them.

A loss gives v_i and its derivatives.  With s_i the weight of the example, d_i the loss's own
denominator and c_i the cotangent:

    loss      sum_i s_i v_i / divisor
    gradient  c_i s_i v_i' / divisor

Everything except v_i is known before the loss is computed, so a piece's gradient is scaled while it
is still in the cache and goes straight to its place in the reply.
"""

import enum
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd.errors import InvalidRequest
from lossd.schema import exactly

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


class Reduction(enum.Enum):
    """How the losses of the examples become one number."""

    MEAN = "mean"
    BATCH_MEAN = "batch_mean"
    SUM = "sum"
    NONE = "none"

    @property
    def is_mean(self) -> bool:
        """Whether it divides."""
        return self in (Reduction.MEAN, Reduction.BATCH_MEAN)


class EmptyPolicy(enum.Enum):
    """How to answer when no example is kept."""

    ZERO = "zero"
    NAN = "nan"
    ERROR = "error"


class NonfinitePolicy(enum.Enum):
    """How to handle examples whose loss or gradient is not finite."""

    PROPAGATE = "propagate"
    ZERO = "zero"
    ERROR = "error"


@dataclass(slots=True)  # not frozen: that would take four times as long, for every call
class RowPlan:
    """Everything that is done to each row of a batch, whatever the loss.

    ``excluded`` rows (ignored, or of weight 0) contribute exactly nothing.  ``excluded_by_request``
    are those of them that the request excluded, rather than the loss; no status is reported for
    them. ``masked`` are those that the request ignores.  Each is None where there are no such rows.
    ``weights`` are the sample weights, times the factors that the loss applies before it averages;
    None for 1.  ``gradient_scale`` is one number or one for each row.
    """

    excluded: Flags | None
    excluded_by_request: Flags | None
    masked: Flags | None
    weights: Floats | None
    gradient_scale: float | Floats
    divisor: float
    example_count: int
    ignored_count: int
    weight_sum: float

    @property
    def is_empty(self) -> bool:
        """Whether no row is left that has weight."""
        return self.example_count == 0 or self.weight_sum == 0

    def row_weights(self) -> Floats | None:
        """Returns what the value of each row counts in the sum; None for 1."""
        return self.weights


def plan_rows(
    rows: int,
    *,
    ignored: Flags | None,
    excluded_by_loss: Flags | None = None,
    weights: Floats | None,
    denominators: Floats | None,
    factors: Floats | None = None,
    cotangent: float | Floats,
    reduction: Reduction,
    normalizer: float | None,
) -> RowPlan:
    """Decides everything about the rows that does not depend on the loss's value.

    ``ignored`` rows are the request's choice, ``excluded_by_loss`` ones the loss's.  ``factors``
    multiply values and gradients, but are part of no divisor.

    Raises:
        InvalidRequest: for a normalizer without a mean, or one that is not in (0, inf), and for
            weights whose sum is not in (0, inf) although some examples are kept and have weight.
    """
    _check_normalizer(normalizer, reduction)
    excluded_by_request = union(ignored, are_zero(weights), are_zero(denominators))
    excluded = union(excluded_by_request, excluded_by_loss)
    masked, ignored = ignored, union(ignored, excluded_by_loss)
    ignored_count = 0 if ignored is None else int(ignored.sum())
    example_count = rows - ignored_count
    weight_sum = _weight_sum(example_count, excluded, weights, denominators)
    divisor = _divisor(reduction, normalizer, weight_sum, example_count)
    weights = _product(weights, factors)
    return RowPlan(
        excluded=excluded,
        excluded_by_request=excluded_by_request,
        masked=masked,
        weights=weights,
        gradient_scale=_gradient_scale(cotangent, weights, divisor),
        divisor=divisor,
        example_count=example_count,
        ignored_count=ignored_count,
        weight_sum=weight_sum,
    )


def plan_set(
    rows: int, ignored: Flags | None, weights: Floats | None, cotangent: float | Floats
) -> RowPlan:
    """Plans the rows of a loss of a set, which applies the weights itself and has no divisor.

    Raises:
        InvalidRequest: for weights whose sum is not finite.
    """
    ignored_count = 0 if ignored is None else int(ignored.sum())
    excluded = union(ignored, are_zero(weights))
    weight_sum = _weight_sum(rows - ignored_count, excluded, weights, None)
    return RowPlan(
        excluded=excluded,
        excluded_by_request=excluded,
        masked=ignored,
        weights=weights,
        gradient_scale=cotangent,
        divisor=1.0 if weight_sum else 0.0,
        example_count=rows - ignored_count,
        ignored_count=ignored_count,
        weight_sum=weight_sum,
    )


def _gradient_scale(
    cotangent: float | Floats, weights: Floats | None, divisor: float
) -> float | Floats:
    if not divisor:
        return 0.0
    if weights is None and isinstance(cotangent, float):
        return cotangent / divisor
    with np.errstate(all="ignore"):  # the cotangent of an excluded row may be any number
        if weights is None:
            return cotangent / divisor
        if isinstance(cotangent, float) and cotangent == 1:
            return weights / divisor
        return _product_over(cotangent, weights, divisor)


def _product_over(cotangent: float | Floats, weights: Floats, divisor: float) -> Floats:
    """Returns cotangent times weights over divisor, also where a step between has no number.

    What is not a power of 2 is computed near 1, with the bits that it has anywhere else.
    """
    first, power = np.frexp(cotangent)
    second, of_weight = np.frexp(weights)
    third, of_divisor = np.frexp(divisor)
    found: Floats = np.ldexp(first * second / third, power + of_weight - of_divisor)
    return found


def _check_normalizer(normalizer: float | None, reduction: Reduction) -> None:
    if normalizer is None:
        return
    if not reduction.is_mean:
        raise InvalidRequest(
            f"normalizer must go with the reductions mean and batch_mean, got {reduction.value}",
            field="normalizer",
        )
    if not 0 < normalizer < np.inf:
        raise InvalidRequest(
            f"normalizer must be in (0, inf), got {exactly(normalizer)}", field="normalizer"
        )


def are_zero(values: Floats | None) -> Flags | None:
    """Returns which numbers are 0; None where none is."""
    if values is None:
        return None
    found = values == 0
    return found if found.any() else None


def union(*flags: Flags | None) -> Flags | None:
    """Returns the flags that are set in any of these; None where there are none at all."""
    present = [flag for flag in flags if flag is not None]
    if not present:
        return None
    if len(present) == 1:
        return present[0]
    found: Flags = np.logical_or.reduce(present)
    return found


def _weight_sum(
    example_count: int, excluded: Flags | None, weights: Floats | None, denominators: Floats | None
) -> float:
    """Returns the sum of s d over the kept rows; products of excluded rows are 0 or meaningless.

    Everything is divided by it, here or where the results of several batches are merged.
    """
    product = _product(weights, denominators)
    if product is None:
        return float(example_count)
    kept = product if excluded is None else product[~excluded]
    with np.errstate(over="ignore"):
        found = float(kept.sum())
    if not 0 < found < np.inf and len(kept):
        name = "class_weights" if weights is None else "weights"
        if weights is not None and denominators is not None:
            name = "weights times those of classes or tokens"
        rule = "a finite number" if found else "more than 0"
        raise InvalidRequest(
            f"{name} must add up to {rule}, got {exactly(found)}",
            field="" if weights is None else "weights",
        )
    return found


def _product(weights: Floats | None, others: Floats | None) -> Floats | None:
    if weights is None or others is None:
        return weights if others is None else others
    with np.errstate(over="ignore", under="ignore"):
        return weights * others


def _divisor(
    reduction: Reduction, normalizer: float | None, weight_sum: float, example_count: int
) -> float:
    if not reduction.is_mean:
        return 1.0
    if normalizer is not None:
        return normalizer
    return weight_sum if reduction is Reduction.MEAN else float(example_count)


def block_sums(values: npt.NDArray[Any], weights: Floats | None, block: int) -> Floats:
    """Sums s v in float64 over blocks of ``block`` rows, in index order.

    A block starts at a multiple of ``block`` wherever the caller cuts, so the sums have the same
    bits however the rows were split into pieces.
    """
    weighed = values.astype(np.float64) if weights is None else values * weights
    whole = len(values) // block * block
    sums: Floats = weighed[:whole].reshape(-1, block).sum(axis=1)
    return sums if whole == len(values) else np.append(sums, weighed[whole:].sum())
