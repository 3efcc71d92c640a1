"""Errors of a regression."""

import enum
import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lossd.checkpoints import Checkpoint
from lossd.evaluation._declare import (
    Array,
    BatchFacts,
    BatchState,
    Floats,
    InputError,
    MetricBatch,
    MetricExample,
    MetricInput,
    MetricLayout,
    Score,
    metric,
    observing_bytes,
)
from lossd.evaluation._exact import difference, ratio, root_of_ratio
from lossd.evaluation._examples import is_number, select, shape_error
from lossd.evaluation._state import State
from lossd.evaluation._tally import SUM_BYTES, Tally, aligned

MAX_OUTPUTS = 65536
_OUTPUTS_A_CHECK = 64  # between two checks whether to stop: at most some 10 ms


class RegressionError(enum.Enum):
    """An error of a regression."""

    MSE = "mse"
    RMSE = "rmse"
    MAE = "mae"
    R2 = "r2"


@dataclass(frozen=True, slots=True)
class RegressionBatch:
    """Predictions and targets, (n, outputs), of the examples that count."""

    facts: BatchFacts
    predictions: Floats
    targets: Floats
    weights: Floats | None
    checkpoint: Checkpoint


def _lay_out(batch: MetricBatch) -> RegressionBatch:
    predictions, targets = (_numbers(batch, name) for name in ("predictions", "targets"))
    if targets.shape != predictions.shape:
        raise shape_error(
            "targets", f"the shape {list(predictions.shape)} of the predictions", targets
        )
    if not predictions.ndim:
        raise shape_error("predictions", "at least one axis", predictions)
    width = math.prod(predictions.shape[1:])
    if not 0 < width <= MAX_OUTPUTS:
        raise shape_error("predictions", f"1 to {MAX_OUTPUTS} outputs an example", predictions)
    selection = select(batch, predictions.shape[:1])
    given, true = (
        selection.of(array.reshape(-1, width)).astype(np.float64)
        for array in (predictions, targets)
    )
    fit = np.asarray((np.isfinite(given) & np.isfinite(true)).all(axis=1))
    lost = len(fit) - int(np.count_nonzero(fit))
    if lost:
        selection, given, true = selection.without(~fit), given[fit], true[fit]
    facts = selection.facts(width=width, nonfinite_count=lost)
    return RegressionBatch(facts, given, true, selection.weights, batch.checkpoint)


def _numbers(batch: MetricBatch, name: str) -> Array:
    array = batch.inputs[name]
    if not is_number(array):
        raise InputError(f"inputs.{name}.dtype", f"{name} must be numbers, got {array.dtype.name}")
    return array


PAIRS = MetricLayout(
    (
        MetricInput("predictions", "what the model says", ("(N, ...)",)),
        MetricInput("targets", "what it should have said", ("(N, ...)",)),
    ),
    _lay_out,
)


_SUMS = ("squares", "magnitudes", "targets", "target_squares")


def _result(state: State, *, error: RegressionError, checkpoint: Checkpoint) -> Score:
    tallies = (state.tally(name) for name in (*_SUMS, "weights"))
    *sums, (weight, *_) = aligned(*tallies, checkpoint=checkpoint)
    size = len(state.tally("squares").integers)
    outputs: list[dict[RegressionError, float]] = []
    for found in zip(*(each[:size] for each in sums), strict=True):
        if len(outputs) % _OUTPUTS_A_CHECK == 0:
            checkpoint()
        outputs.append(_errors(weight, *found))
    columns = {kind: [found[kind] for found in outputs] for kind in RegressionError}
    means = {kind.value: _mean(values) for kind, values in columns.items()}
    reasons = {RegressionError.R2: "targets of an output are constant"}
    value = means[error.value]
    return Score(
        value=None if math.isnan(value) else value,
        values=np.array(columns[error]) if size > 1 else None,
        outputs=means,
        reason=reasons.get(error, "there is no weight") if math.isnan(value) else "",
    )


def _mean(values: Sequence[float]) -> float:
    """Returns the mean, also where the sum is beyond the largest number; NaN if one of them is."""
    try:
        return math.fsum(values) / len(values)
    except OverflowError:
        return math.ldexp(math.fsum(math.ldexp(value, -32) for value in values) / len(values), 32)


def _errors(
    weight: int, squares: int, magnitudes: int, targets: int, target_squares: int
) -> dict[RegressionError, float]:
    """Returns the errors of one output from its sums, all in one unit."""
    if weight <= 0:
        return dict.fromkeys(RegressionError, math.nan)
    squares, magnitudes = max(squares, 0), max(magnitudes, 0)  # a state may say anything
    spread = target_squares * weight - targets**2
    unexplained = spread - squares * weight
    return {
        RegressionError.MSE: ratio(squares, weight),
        RegressionError.RMSE: root_of_ratio(squares, weight),
        RegressionError.MAE: ratio(magnitudes, weight),
        RegressionError.R2: ratio(unexplained, spread) if spread > 0 else math.nan,
    }


def _observing(batch: MetricBatch, parameters: Mapping[str, Any]) -> int:
    """Returns the bytes of both inputs, and of the exact sums of each output."""
    shapes = [array.shape[1:] for array in batch.inputs.values()]
    outputs = min(max(map(math.prod, shapes), default=0), MAX_OUTPUTS)
    return observing_bytes(batch, parameters) + SUM_BYTES * len(_SUMS) * outputs


@metric(
    PAIRS,
    observing=_observing,
    result=_result,
    is_result_long=True,
    surrogate="SquaredError",
    tallies={"squares": 1, "magnitudes": 1, "targets": 1, "target_squares": 1, "weights": 1},
    examples=(
        MetricExample({"predictions": [1.0, 2.0, 5.0], "targets": [1.0, 3.0, 3.0]}, value=5 / 3),
        MetricExample(
            {"predictions": [1.0, 2.0, 5.0], "targets": [1.0, 3.0, 3.0]},
            parameters={"error": RegressionError.MAE},
            value=1.0,
        ),
        MetricExample(
            {"predictions": [1.0, 2.0, 5.0], "targets": [1.0, 3.0, 5.0]},
            parameters={"error": RegressionError.R2},
            value=0.875,
        ),
        MetricExample(
            {"predictions": [[3.0, 0.0], [3.0, 0.0]], "targets": [[0.0, 0.0], [0.0, 0.0]]},
            parameters={"error": RegressionError.RMSE},
            value=1.5,
        ),
    ),
)
def regression_errors(
    prepared: RegressionBatch, *, error: RegressionError = RegressionError.MSE
) -> BatchState:
    """Mean squared error, its root, mean absolute error and coefficient of determination.

        value = sum(w (p - y)^2) / sum(w),  its root,  sum(w |p - y|) / sum(w),
                or 1 - sum(w (p - y)^2) / sum(w (y - mean y)^2)

    Several outputs are averaged; roots and R^2 are computed for each output first.  The spread of
    the targets is exact, so that a large mean costs no digit; where it is 0, R^2 is undefined.

    Reference: J. O. Rawlings et al., Applied Regression Analysis, 1998, section 1.5.
    """
    del error
    residuals = difference(prepared.predictions, prepared.targets)
    targets, weights = prepared.targets, prepared.weights
    sums = functools.partial(
        Tally.sums, weights=weights, shape=(targets.shape[1],), checkpoint=prepared.checkpoint
    )
    return BatchState(
        tallies={
            "squares": sums(residuals, residuals),
            "magnitudes": sums((np.abs(residuals[0]), residuals[1])),
            "targets": sums(targets),
            "target_squares": sums(targets, targets),
            "weights": Tally.weight(len(targets), weights, prepared.checkpoint),
        }
    )
