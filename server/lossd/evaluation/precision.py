"""Precision."""

from lossd.checkpoints import Checkpoint
from lossd.evaluation._averages import COUNTS, Average, ZeroDivision, count_classes, f_score
from lossd.evaluation._classification import DECISIONS, Decisions
from lossd.evaluation._declare import BatchState, MetricExample, Score, metric
from lossd.evaluation._state import State


def _result(
    state: State,
    *,
    average: Average,
    zero_division: ZeroDivision,
    checkpoint: Checkpoint,
) -> Score:
    return f_score(state, 0.0, average, zero_division, checkpoint)


@metric(
    DECISIONS,
    result=_result,
    is_result_long=True,
    surrogate="Tversky",
    tallies=COUNTS,
    examples=(
        MetricExample({"predictions": [1.0, 2.0, -1.0, 3.0], "targets": [1, 0, 1, 1]}, value=2 / 3),
        MetricExample(
            {"predictions": [0, 1, 1, 2], "targets": [0, 1, 2, 2]},
            parameters={"average": Average.MACRO},
            value=2.5 / 3,
        ),
    ),
)
def precision(
    prepared: Decisions,
    *,
    average: Average = Average.MACRO,
    zero_division: ZeroDivision = ZeroDivision.ZERO,
) -> BatchState:
    """Share of the predicted members of a class that are members.

        value = tp / (tp + fp)

    Reference: C. J. van Rijsbergen, Information Retrieval, 1979, chapter 7.
    """
    del average, zero_division
    return count_classes(prepared)
