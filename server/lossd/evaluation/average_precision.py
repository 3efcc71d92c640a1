"""Average precision."""

from lossd.checkpoints import Checkpoint
from lossd.evaluation._averages import Average
from lossd.evaluation._classification import SCORES, Scores
from lossd.evaluation._curve import Curve, ManyCurves
from lossd.evaluation._declare import BatchState, MetricExample, Score, metric
from lossd.evaluation._scored import COLUMNS, averaged, check, keep_scores, scoring
from lossd.evaluation._state import State


def _result(state: State, *, average: Average, checkpoint: Checkpoint) -> Score:
    return averaged(state, average, _precision, _precisions, checkpoint)


def _precision(found: Curve) -> float | str:
    if found.lacks == "targets hold no positive":
        return found.lacks
    return found.average_precision()


def _precisions(found: ManyCurves) -> list[float | str]:
    values = found.average_precisions().tolist()
    return [
        lack if lack == "targets hold no positive" else value
        for lack, value in zip(found.lacks, values, strict=True)
    ]


@metric(
    SCORES,
    result=_result,
    surrogate="PairwiseAuc",
    columns=COLUMNS,
    check=check,
    is_result_long=True,
    scoring=scoring,
    examples=(
        MetricExample({"predictions": [0.1, 0.4, 0.35, 0.8], "targets": [0, 0, 1, 1]}, value=5 / 6),
        MetricExample(
            {"predictions": [[1.0, 1.0], [0.0, 2.0]], "targets": [[1, 1], [0, 0]]},
            parameters={"average": Average.MACRO},
            value=0.75,
        ),
    ),
)
def average_precision(prepared: Scores, *, average: Average = Average.MACRO) -> BatchState:
    """Precision at each score, weighted by the rise of the recall there.

        value = sum_n (recall_n - recall_(n-1)) precision_n

    No trapezoids are used, which would be too optimistic; equal scores are one step.

    Reference: C. D. Manning, P. Raghavan, H. Schuetze, Introduction to Information Retrieval, 2008,
    section 8.4.
    """
    del average
    return keep_scores(prepared)
