"""F1."""

import functools

from lossd.evaluation._averages import COUNTS, Average, ZeroDivision, count_classes, f_score
from lossd.evaluation._classification import DECISIONS, Decisions
from lossd.evaluation._declare import BatchState, MetricExample, metric


@metric(
    DECISIONS,
    result=functools.partial(f_score, beta=1.0),
    is_result_long=True,
    surrogate="SoftF1",
    tallies=COUNTS,
    examples=(
        MetricExample({"predictions": [1.0, 2.0, -1.0, -3.0], "targets": [1, 0, 1, 0]}, value=0.5),
        MetricExample(
            {"predictions": [0, 1, 1, 2], "targets": [0, 1, 2, 2]},
            parameters={"average": Average.MICRO},
            value=0.75,
        ),
    ),
)
def f1(
    prepared: Decisions,
    *,
    average: Average = Average.MACRO,
    zero_division: ZeroDivision = ZeroDivision.ZERO,
) -> BatchState:
    """Harmonic mean of precision and recall.

        value = 2 tp / (2 tp + fp + fn)

    It is computed from the summed counts, never averaged over batches.

    Reference: C. J. van Rijsbergen, Information Retrieval, 1979, chapter 7.
    """
    del average, zero_division
    return count_classes(prepared)
