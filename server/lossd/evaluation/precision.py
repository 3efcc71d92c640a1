"""Precision."""

import functools

from lossd.evaluation._averages import COUNTS, Average, ZeroDivision, count_classes, f_score
from lossd.evaluation._classification import DECISIONS, Decisions
from lossd.evaluation._declare import BatchState, MetricExample, metric


@metric(
    DECISIONS,
    result=functools.partial(f_score, beta=0.0),
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
