"""Pairwise surrogate of the area under the ROC curve."""

import enum
import functools
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np

from lossd.losses._body import BatchContext, BodyResult, Status
from lossd.losses._declare import Example, Shape, loss
from lossd.losses._inputs import PREDICTIONS, Content, Input
from lossd.losses._maths.auc_labels import MOST_EXAMPLES, alike, logistics, squared_hinges
from lossd.losses._maths.auc_pairs import Label, Put, logistic, put_nowhere, squared_hinge
from lossd.losses._maths.constants import LOG_2
from lossd.losses._maths.masked_products import by_scale
from lossd.schema import NONNEGATIVE, Array, Choices, ParameterError, exactly


class AucSurrogate(enum.Enum):
    """A function of the difference between the scores of a positive and a negative example."""

    SQUARED_HINGE = "max(0, margin - difference)^2"
    LOGISTIC = "log(1 + exp(-difference))"


@loss(
    Shape.SETWISE,
    working_bytes=8,
    row_bytes=8,
    inputs=(
        PREDICTIONS,
        Input(
            "targets",
            "whether each example is positive",
            content=Content.NUMBERS,
            domain=Choices((0, 1)),
        ),
    ),
    examples=(
        Example(
            {"predictions": [0.5, 0.0], "targets": [1, 0]},
            value=0.25,
            gradients={"predictions": [-1.0, 1.0]},
        ),
        # Two pairs: a tie, and one beyond the margin.
        Example(
            {"predictions": [0.0, 0.0, -2.0], "targets": [1, 0, 0]},
            value=0.5,
            gradients={"predictions": [-1.0, 1.0, 0.0]},
        ),
        Example(
            {"predictions": [0.5, 0.0], "targets": [1, 0]},
            parameters={"margin": 2.0},
            value=2.25,
            gradients={"predictions": [-3.0, 3.0]},
        ),
        Example(
            {"predictions": [0.0, 0.0], "targets": [1, 0]},
            parameters={"surrogate": AucSurrogate.LOGISTIC},
            value=LOG_2,
            gradients={"predictions": [-0.5, 0.5]},
        ),
    ),
)
def pairwise_auc(
    xp: Any,
    predictions: Array,
    targets: Array,
    batch: BatchContext,
    *,
    surrogate: AucSurrogate = AucSurrogate.SQUARED_HINGE,
    margin: Annotated[float, NONNEGATIVE] = 1.0,
) -> BodyResult:
    """Mean surrogate loss over all pairs of a positive and a negative example, for ranking (AUC).

        value = sum_ij s_i s_j phi(x_i - x_j) / sum_ij s_i s_j,  i positive, j negative
        phi(d) = max(0, margin - d)^2, or log(1 + exp(-d)) for LOGISTIC
        gradient = s_i sum_j s_j phi'(x_i - x_j) / sum_ij s_i s_j for a positive, minus the
                   same sum for a negative

    s are the weights of the examples.  The squared hinge takes O(N log N) time and O(N) memory, the
    logistic surrogate O(N^2) time and O(N) memory.  With several labels the value is the mean over
    them.  A label with only one class has no pair: it is left out of the mean, which is 0 without
    any, and the whole has the status UNDEFINED.

    Reference: L. Yan et al., Optimizing classifier performance via an approximation to the
    Wilcoxon-Mann-Whitney statistic, 2003, section 3; T. Joachims, A support vector method for
    multivariate performance measures, 2005; logistic: Y. Freund et al., An efficient boosting
    algorithm for combining preferences, 2003.
    """
    _check_margin(surrogate, margin)
    defined = _labels_with_pairs(xp, targets)
    number = max(len(defined), 1)
    are_all = len(defined) == targets.shape[1]
    derivatives = _places_for(xp, predictions, batch, are_all_written=are_all)
    scales, is_logistic = batch.scales / number, surrogate is AucSurrogate.LOGISTIC

    def alone(column: int) -> Any:
        label = Label.of(predictions[:, column], targets[:, column] == 1, batch)
        put: Put = put_nowhere
        if derivatives is not None:
            put = functools.partial(_scaled, xp, scales, derivatives[:, column])
        return logistic(xp, label, put) if is_logistic else squared_hinge(xp, label, margin, put)

    def together(columns: Array, is_above: Array) -> Array:
        scores = np.ascontiguousarray(predictions[:, columns].T)
        if is_logistic:
            found = logistics(scores, is_above, batch.weights)
        else:
            found = squared_hinges(scores, is_above, batch.weights, margin)
        if derivatives is not None:
            derivatives[:, columns] = by_scale(xp, scales, found.derivatives).T
        for index in np.flatnonzero(~found.are_plain).tolist():
            found.values[index] = alone(int(columns[index]))
        return found.values

    value = 0.0
    if batch.in_cache and len(predictions) <= MOST_EXAMPLES and len(defined) > 1:
        value = _in_parts(np.array(defined), targets == 1, batch, together, by_pairs=is_logistic)
    else:
        for column in defined:
            value += alone(column)
    return BodyResult(
        value / number,
        {} if derivatives is None else {"predictions": derivatives},
        status=None if are_all else Status.UNDEFINED,
    )


def _check_margin(surrogate: AucSurrogate, margin: float) -> None:
    if surrogate is not AucSurrogate.SQUARED_HINGE and margin != 1:
        raise ParameterError(
            "margin",
            f"margin must be 1 unless the surrogate is SQUARED_HINGE, got {exactly(margin)}",
        )


def _places_for(
    xp: Any, predictions: Array, batch: BatchContext, *, are_all_written: bool
) -> Array | None:
    """Returns where derivatives go, 0 unless all are to be written; None if none are wanted."""
    derivatives = batch.places.get("predictions")
    if derivatives is None and "predictions" in batch.wanted:
        derivatives = xp.empty(predictions.shape, predictions.dtype)
    if derivatives is not None and not are_all_written:
        derivatives[...] = 0
    return derivatives


def _labels_with_pairs(xp: Any, targets: Array) -> list[int]:
    """Returns the labels that have positives and negatives; there may be millions of labels."""
    if not len(targets):  # without examples no label has a pair, however many labels there are
        return []
    positive = targets == 1
    found: list[int] = xp.flatnonzero(positive.any(axis=0) & ~positive.all(axis=0)).tolist()
    return found


def _scaled(xp: Any, scales: Array, out: Array, places: Array, found: Array) -> None:
    out[places] = by_scale(xp, scales, found)


def _in_parts(
    columns: Array,
    is_above: Array,
    batch: BatchContext,
    together: Callable[[Array, Array], Array],
    *,
    by_pairs: bool,
) -> Any:
    """Returns the sum over labels, of which many are computed together: with the same bits."""
    is_above, values = is_above[:, columns], np.empty(len(columns))
    for part in alike(is_above, by_pairs=by_pairs):
        batch.checkpoint()
        values[part] = together(columns[part], np.ascontiguousarray(is_above[:, part].T))
    return np.cumsum(values)[-1]  # one after the other
