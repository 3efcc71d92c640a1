"""Area under the receiver operating characteristic."""

import enum
from typing import Annotated

import numpy as np

from lossd.checkpoints import Checkpoint
from lossd.evaluation._averages import Average, mean_of
from lossd.evaluation._classification import BINARY, MULTICLASS, SCORES, Scores
from lossd.evaluation._curve import Curve, ManyCurves
from lossd.evaluation._declare import SHARE, BatchState, MetricExample, Score, metric
from lossd.evaluation._scored import COLUMNS, Ranked, averaged, check, keep_scores, scoring
from lossd.evaluation._state import State
from lossd.losses import ParameterError
from lossd.ordering import ascending
from lossd.schema import exactly


class Multiclass(enum.Enum):
    """The comparisons that are averaged where there are several classes."""

    ONE_VS_REST = "one vs rest"
    ONE_VS_ONE = "one vs one"


def _result(
    state: State,
    *,
    average: Average,
    multiclass: Multiclass,
    max_fpr: float | None,
    checkpoint: Checkpoint,
) -> Score:
    if state.task is MULTICLASS and multiclass is Multiclass.ONE_VS_ONE:
        return _one_vs_one(Ranked.of(state), average, checkpoint)
    return averaged(state, average, lambda found: _area(found, max_fpr), _areas, checkpoint)


def _area(found: Curve, max_fpr: float | None) -> float | str:
    if found.lacks:
        return found.lacks
    return found.area() if max_fpr is None or max_fpr == 1 else found.partial_area(max_fpr)


def _areas(found: ManyCurves) -> list[float | str]:
    return [lack or area for lack, area in zip(found.lacks, found.areas().tolist(), strict=True)]


def _one_vs_one(ranked: Ranked, average: Average, checkpoint: Checkpoint) -> Score:
    """Averages over pairs of classes, as Hand and Till: each has the mean of two areas."""
    labels, width = ranked.targets[:, 0], ranked.width
    counts = np.bincount(labels, minlength=width)
    absent = np.flatnonzero(counts == 0)
    if len(absent):
        return Score(reason=f"targets hold none of class {absent[0]}")
    areas = np.empty((width, width))  # of the scores of one class, against another
    for label in range(width):
        scores = np.ascontiguousarray(ranked.scores[:, label])
        order = ascending(scores, checkpoint=checkpoint)
        scores, classes = scores[order], labels[order]
        checkpoint()
        own = scores[classes == label]
        lower, upper = (np.searchsorted(own, scores, side) for side in ("left", "right"))
        # Of each example: twice those of the class that are above it, and once those that tie.
        doubled = np.bincount(classes, 2 * len(own) - lower - upper, width)
        areas[label] = doubled / (2 * len(own) * counts)
    first, second = np.triu_indices(width, 1)
    means = (areas[first, second] + areas[second, first]) / 2
    sizes = (counts[first] + counts[second]) / len(labels)
    return Score(value=mean_of(means, sizes if average is Average.WEIGHTED else None))


@metric(
    SCORES,
    result=_result,
    surrogate="PairwiseAuc",
    columns=COLUMNS,
    check=check,
    is_result_long=True,
    scoring=scoring,
    examples=(
        MetricExample({"predictions": [0.1, 0.4, 0.35, 0.8], "targets": [0, 0, 1, 1]}, value=0.75),
        MetricExample({"predictions": [2.0, 2.0, 2.0], "targets": [0, 1, 1]}, value=0.5),
        MetricExample(
            {"predictions": [0.1, 0.4, 0.35, 0.8], "targets": [0, 0, 1, 1]},
            parameters={"max_fpr": 0.5},
            value=2 / 3,
        ),
        MetricExample(
            {
                "predictions": [[2.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 2.0]],
                "targets": [0, 1, 2],
            },
            parameters={"multiclass": Multiclass.ONE_VS_ONE},
            value=1.0,
        ),
    ),
)
def roc_auc(
    prepared: Scores,
    *,
    average: Average = Average.MACRO,
    multiclass: Multiclass = Multiclass.ONE_VS_REST,
    max_fpr: Annotated[float | None, SHARE] = None,
) -> BatchState:
    """Chance that a positive scores above a negative; a tie counts half.

        value = (pairs in order + pairs tied / 2) / pairs

    Scores are compared as they are, without a sigmoid, which would turn large logits into ties.
    For the same reason those of several classes are compared by log(p / (1 - p)), not by the
    probability p that softmax makes of logits.

    Reference: J. A. Hanley, B. J. McNeil, The meaning and use of the area under a ROC curve, 1982.
    """
    if max_fpr is not None and prepared.task is not BINARY:
        raise ParameterError(
            "max_fpr", f"max_fpr must go with a binary task, got {exactly(max_fpr)}"
        )
    if prepared.task is MULTICLASS and multiclass is Multiclass.ONE_VS_ONE:
        if prepared.weights is not None:
            raise ParameterError("multiclass", "multiclass must be ONE_VS_REST with weights")
        if average not in (Average.MACRO, Average.WEIGHTED):
            raise ParameterError(
                "average", f"average must be MACRO or WEIGHTED for ONE_VS_ONE, got {average.name}"
            )
    return keep_scores(prepared)
