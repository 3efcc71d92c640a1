"""F-beta."""

from typing import Annotated

from lossd.evaluation._averages import COUNTS, Average, ZeroDivision, count_classes, f_score
from lossd.evaluation._classification import DECISIONS, Decisions
from lossd.evaluation._declare import FACTOR, BatchState, MetricExample, metric


@metric(
    DECISIONS,
    result=f_score,
    is_result_long=True,
    surrogate="Tversky",
    tallies=COUNTS,
    examples=(
        MetricExample(
            {"predictions": [1.0, 2.0, -1.0, 3.0, 1.0], "targets": [1, 0, 1, 1, 0]},
            parameters={"beta": 2.0},
            value=10 / 16,
        ),
        MetricExample({"predictions": [1.0, 2.0, -1.0, -3.0], "targets": [1, 0, 1, 0]}, value=0.5),
    ),
)
def f_beta(
    prepared: Decisions,
    *,
    average: Average = Average.MACRO,
    zero_division: ZeroDivision = ZeroDivision.ZERO,
    beta: Annotated[float, FACTOR] = 1.0,
) -> BatchState:
    """Harmonic mean of precision and recall, with beta times the weight on recall.

        value = (1 + beta^2) tp / ((1 + beta^2) tp + fp + beta^2 fn)

    Reference: C. J. van Rijsbergen, Information Retrieval, 1979, chapter 7.
    """
    del average, zero_division, beta
    return count_classes(prepared)
