"""Confusion matrix."""

import enum
from collections.abc import Mapping
from typing import Any

import numpy as np

from lossd.checkpoints import Checkpoint
from lossd.evaluation._classification import MULTILABEL, Decisions
from lossd.evaluation._confusion import MAX_CLASSES, PAIRS, check, count_pairs
from lossd.evaluation._declare import (
    BatchState,
    MetricBatch,
    MetricExample,
    Score,
    classes_of,
    fraction_bytes,
    metric,
    observing_bytes,
)
from lossd.evaluation._state import State


class Normalization(enum.Enum):
    """The divisor of the counts."""

    NONE = "none"
    TARGETS = "targets"
    PREDICTIONS = "predictions"
    ALL = "all"


_PAIR_BYTES = 24  # counts twice, and what is sent

_AXES: dict[Normalization, int | tuple[int, int]] = {
    Normalization.TARGETS: -1,
    Normalization.PREDICTIONS: -2,
    Normalization.ALL: (-2, -1),
}


def _result(state: State, *, normalization: Normalization, checkpoint: Checkpoint) -> Score:
    pairs = state.tally("pairs")
    shape = (-1, 2, 2) if state.task is MULTILABEL else pairs.shape
    if normalization is Normalization.NONE:
        return Score(values=pairs.floats(checkpoint).reshape(shape))
    matrix = pairs.wide(checkpoint).reshape(*shape)
    sums = matrix.sum(_AXES[normalization])
    empty = int(np.count_nonzero(sums.is_zero))
    word = normalization.value
    return Score(values=matrix / sums, reason=f"0 / 0 in {empty} of the {word}" if empty else "")


def _observing(batch: MetricBatch, parameters: Mapping[str, Any]) -> int:
    pairs = min(classes_of(batch, parameters), MAX_CLASSES) ** 2
    of_pairs = _PAIR_BYTES * pairs + fraction_bytes(batch, pairs)
    return observing_bytes(batch, parameters) + of_pairs


@metric(
    PAIRS,
    result=_result,
    is_result_long=True,
    observing=_observing,
    surrogate="CrossEntropy",
    tallies={"pairs": 2},
    check=check,
    examples=(
        MetricExample(
            {"predictions": [0, 1, 1, 1], "targets": [0, 0, 1, 1]},
            values=[[1.0, 1.0], [0.0, 2.0]],
        ),
        MetricExample(
            {"predictions": [0, 1, 1, 1], "targets": [0, 0, 1, 1]},
            parameters={"normalization": Normalization.TARGETS},
            values=[[0.5, 0.5], [0.0, 1.0]],
        ),
    ),
)
def confusion_matrix(
    prepared: Decisions, *, normalization: Normalization = Normalization.NONE
) -> BatchState:
    """Counts of each pair of target and prediction.

        value[i, j] = number of examples of class i that were predicted to be j

    Each label has a matrix of two by two.  There are at most 2048 classes or labels.

    Reference: S. V. Stehman, Selecting and interpreting measures of accuracy, 1997, section 2.
    """
    del normalization
    return count_pairs(prepared)
