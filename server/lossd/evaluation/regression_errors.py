"""Errors of a regression."""

import enum
import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

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
)
from lossd.evaluation._exact import product
from lossd.evaluation._examples import Flags, is_number, select, shape_error
from lossd.evaluation._state import State, Tally

MAX_OUTPUTS = 65536
_LARGEST = 1e290  # of a weight: below this, its products are split exactly


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
    fit = _fit(given, true, selection.weights)
    lost = len(fit) - int(np.count_nonzero(fit))
    if lost:
        selection, given, true = selection.without(~fit), given[fit], true[fit]
    facts = selection.facts(width=width, nonfinite_count=lost)
    return RegressionBatch(facts, given, true, selection.weights)


def _numbers(batch: MetricBatch, name: str) -> Array:
    array = batch.inputs[name]
    if not is_number(array):
        raise InputError(f"inputs.{name}.dtype", f"{name} must be numbers, got {array.dtype.name}")
    return array


def _fit(given: Floats, true: Floats, weights: Floats | None) -> Flags:
    """Returns whether everything that is computed from a row is finite."""
    factor: Floats | float = 1.0
    with np.errstate(all="ignore"):
        if weights is not None:
            factor = np.where(weights < _LARGEST, weights + 1, np.inf)[:, None]
        residuals = given - true
        finite = np.isfinite(factor * residuals**2 + factor * true**2)
    return np.asarray(finite.all(axis=1))


PAIRS = MetricLayout(
    (
        MetricInput("predictions", "what the model says", ("(N, ...)",)),
        MetricInput("targets", "what it should have said", ("(N, ...)",)),
    ),
    _lay_out,
)


def _result(state: State, *, error: RegressionError) -> Score:
    size = len(state.tally("squares").integers)
    outputs = [_errors(state, index) for index in range(size)]
    columns = {kind: [found[kind] for found in outputs] for kind in RegressionError}
    means = {
        kind.value: math.fsum(values) / size if not math.isnan(math.fsum(values)) else math.nan
        for kind, values in columns.items()
    }
    reasons = {RegressionError.R2: "targets of an output are constant"}
    value = means[error.value]
    return Score(
        value=None if math.isnan(value) else value,
        values=np.array(columns[error]) if size > 1 else None,
        outputs=means,
        reason=reasons.get(error, "there is no weight") if math.isnan(value) else "",
    )


def _errors(state: State, index: int) -> dict[RegressionError, float]:
    weights = state.total("weights")
    if weights <= 0:
        return dict.fromkeys(RegressionError, math.nan)
    squares, magnitudes, sums, target_squares = (
        state.tally(name).exact(index)
        for name in ("squares", "magnitudes", "targets", "target_squares")
    )
    mean_square = max(float(squares / weights), 0.0)
    return {
        RegressionError.MSE: mean_square,
        RegressionError.RMSE: math.sqrt(mean_square),
        RegressionError.MAE: float(magnitudes / weights),
        RegressionError.R2: _determination(squares, target_squares - sums**2 / weights),
    }


def _determination(squares: Fraction, spread: Fraction) -> float:
    return float(1 - squares / spread) if spread > 0 else math.nan


@metric(
    PAIRS,
    result=_result,
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
    residuals = prepared.predictions - prepared.targets
    shape = (prepared.targets.shape[1],)
    weights = prepared.weights
    return BatchState(
        tallies={
            "squares": Tally.sums(*_weighted(weights, *product(residuals, residuals)), shape=shape),
            "magnitudes": Tally.sums(*_weighted(weights, np.abs(residuals)), shape=shape),
            "targets": Tally.sums(*_weighted(weights, prepared.targets), shape=shape),
            "target_squares": Tally.sums(
                *_weighted(weights, *product(prepared.targets, prepared.targets)), shape=shape
            ),
            "weights": Tally.number(len(residuals)) if weights is None else Tally.sums(weights),
        }
    )


def _weighted(weights: Floats | None, *terms: Floats) -> tuple[Floats, ...]:
    """Returns terms that add up exactly to the weighted sum of the given terms."""
    if weights is None:
        return terms
    factors = np.broadcast_to(weights[:, None], terms[0].shape)
    return tuple(part for term in terms for part in product(term, factors))
