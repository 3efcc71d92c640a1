"""Accuracy."""

import enum
import functools
from typing import Annotated

import numpy as np

from lossd.checkpoints import Checkpoint
from lossd.evaluation._classification import (
    BINARY,
    DECISIONS,
    MULTICLASS,
    MULTILABEL,
    Decisions,
)
from lossd.evaluation._declare import (
    MAX_CLASSES,
    Array,
    BatchState,
    Floats,
    MetricExample,
    Score,
    metric,
)
from lossd.evaluation._examples import Flags, for_each_column
from lossd.evaluation._state import State
from lossd.evaluation._tally import Tally
from lossd.losses import Interval, ParameterError

_BLOCK = 1 << 20  # elements in a tile of scores
_NOTHING = "there is no target"


class MultilabelAccuracy(enum.Enum):
    """When an answer with several labels counts as right."""

    EXACT_MATCH = "exact match"
    ELEMENTWISE = "elementwise"


def _result(
    state: State,
    *,
    top_k: int,
    balanced: bool,
    multilabel: MultilabelAccuracy,
    checkpoint: Checkpoint,
) -> Score:
    del top_k, multilabel
    if not balanced:
        total = state.total("targets")
        return Score(value=float(state.total("hits") / total)) if total else Score(reason=_NOTHING)
    tallies = state.tally("hits"), state.tally("targets")
    size = max(len(tally.integers) for tally in tallies)
    hits, targets = (tally.wide(checkpoint).padded(size) for tally in tallies)
    present = ~targets.is_zero
    if not present.any():
        return Score(reason=_NOTHING)
    recalls = np.where(present, hits / targets, np.nan)
    return Score(value=float(recalls[present].mean()), values=recalls)


@metric(
    DECISIONS,
    result=_result,
    is_result_long=True,
    surrogate="CrossEntropy",
    tallies={"hits": 1, "targets": 1},
    examples=(
        MetricExample(
            {"predictions": [[2.0, 1.0, 0.0], [0.0, 1.0, 2.0]], "targets": [0, 1]},
            value=0.5,
        ),
        MetricExample(
            {"predictions": [[2.0, 1.0, 0.0], [0.0, 1.0, 2.0]], "targets": [0, 1]},
            parameters={"top_k": 2},
            value=1.0,
        ),
        MetricExample(
            {"predictions": [1.0, 1.0, 1.0, -1.0], "targets": [1, 1, 1, 0]},
            parameters={"balanced": True},
            value=1.0,
        ),
        MetricExample(
            {"predictions": [[1.0, -1.0], [1.0, 1.0]], "targets": [[1, 0], [1, 0]]},
            parameters={"multilabel": MultilabelAccuracy.ELEMENTWISE},
            value=0.75,
        ),
    ),
)
def accuracy(
    prepared: Decisions,
    *,
    top_k: Annotated[int, Interval(1, MAX_CLASSES)] = 1,
    balanced: bool = False,
    multilabel: MultilabelAccuracy = MultilabelAccuracy.EXACT_MATCH,
) -> BatchState:
    """Share of the examples whose target is among the top predictions.

        value = right / all,  balanced: mean over the classes c of right_c / all_c

    Among equal scores the lowest class comes first.

    Reference: K. H. Brodersen et al., The balanced accuracy and its posterior distribution, 2010.
    """
    if balanced and prepared.task is MULTILABEL:
        raise ParameterError("balanced", "balanced must go with classes, got labels")
    if top_k > 1 and prepared.scores is None:
        raise ParameterError(
            "top_k", f"top_k must be 1 unless predictions are scores of classes, got {top_k}"
        )
    right, weights = _right(prepared, top_k, multilabel)
    if balanced:
        shape, groups = (prepared.width,), prepared.targets
        return BatchState(
            tallies={
                "hits": Tally.counts(
                    groups[right],
                    shape,
                    None if weights is None else weights[right],
                    prepared.checkpoint,
                ),
                "targets": Tally.counts(groups, shape, weights, prepared.checkpoint),
            }
        )
    if weights is None:
        return BatchState(
            tallies={
                "hits": Tally.number(int(np.count_nonzero(right))),
                "targets": Tally.number(right.size),
            }
        )
    sums = functools.partial(Tally.sums, checkpoint=prepared.checkpoint)
    return BatchState(tallies={"hits": sums(weights[right]), "targets": sums(weights)})


def _right(
    prepared: Decisions, top_k: int, multilabel: MultilabelAccuracy
) -> tuple[Flags, Floats | None]:
    """Returns whether each answer is right, and its weight."""
    if prepared.task in (BINARY, MULTICLASS):
        if prepared.scores is None or top_k == 1:
            return prepared.predicted == prepared.targets, prepared.weights
        return _in_top(prepared.scores, prepared.targets, top_k), prepared.weights
    right: Flags = prepared.predicted == prepared.targets
    if multilabel is MultilabelAccuracy.EXACT_MATCH:
        return np.asarray(right.all(axis=1)), prepared.weights
    weights = for_each_column(prepared.weights, prepared.width)
    return right.reshape(-1), weights


def _in_top(scores: Array, targets: Array, top_k: int) -> Flags:
    """Returns whether fewer than k classes come before the target."""
    columns = np.arange(scores.shape[1])
    step = max(1, _BLOCK // scores.shape[1])
    found = np.empty(len(scores), bool)
    for start in range(0, len(scores), step):
        part = slice(start, start + step)
        target = targets[part, None]
        own = np.take_along_axis(scores[part], target, axis=1)
        before = (scores[part] > own) | ((scores[part] == own) & (columns < target))
        found[part] = np.count_nonzero(before, axis=1) < top_k
    return found
