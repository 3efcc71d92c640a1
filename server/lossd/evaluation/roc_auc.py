"""Area under the receiver operating characteristic."""

import enum
import itertools
from typing import Annotated

import numpy as np

from lossd.checkpoints import Checkpoint
from lossd.evaluation._averages import Average, mean_of
from lossd.evaluation._classification import BINARY, MULTICLASS, SCORES, Scores
from lossd.evaluation._curve import Curve, ManyCurves, curve
from lossd.evaluation._declare import SHARE, BatchState, MetricExample, Score, metric
from lossd.evaluation._scored import COLUMNS, Ranked, averaged, check, keep_scores, scoring
from lossd.evaluation._state import State
from lossd.losses import ParameterError
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
    labels = ranked.targets[:, 0]
    members = []
    for label in range(ranked.width):
        checkpoint()
        members.append(np.flatnonzero(labels == label))
    absent = [label for label, rows in enumerate(members) if not len(rows)]
    if absent:
        return Score(reason=f"targets hold none of class {absent[0]}")
    areas, sizes = [], []
    for first, second in itertools.combinations(range(ranked.width), 2):
        checkpoint()
        rows = np.concatenate([members[first], members[second]])
        of_first = labels[rows] == first
        sides = ((first, of_first), (second, ~of_first))
        both = [
            curve(ranked.scores[rows, column], yes, None, checkpoint).area()
            for column, yes in sides
        ]
        areas.append((both[0] + both[1]) / 2)
        sizes.append(len(rows) / len(labels))
    weights = np.array(sizes) if average is Average.WEIGHTED else None
    return Score(value=mean_of(np.array(areas), weights))


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
