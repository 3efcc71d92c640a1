"""The state of ranking metrics, and how classes and labels become binary questions."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lossd.checkpoints import Checkpoint
from lossd.evaluation._averages import Average, mean_of
from lossd.evaluation._classification import MULTICLASS, MULTILABEL, Scores
from lossd.evaluation._curve import Curve, ManyCurves, curve, curves, scaled
from lossd.evaluation._declare import Array, BatchState, Floats, Score, scoring_bytes
from lossd.evaluation._exact import UNIT, exact_sums, ratio
from lossd.evaluation._examples import Flags, for_each_column
from lossd.evaluation._probabilities import comparable
from lossd.evaluation._state import ClassificationTask, State, rows
from lossd.evaluation._tally import checked

COLUMNS: Mapping[str, int] = {"scores": 2, "targets": 2, "weights": 1}


def check(state: State) -> str:
    """Returns the fault of a state from elsewhere, or an empty text."""
    if not state.tables:
        return "" if state.is_empty or state.nonfinite_count else "scores must be there, got none"
    table = state.table()
    if "scores" not in table or "targets" not in table:
        return f"columns must be scores and targets, got {', '.join(table)}"
    return _wrong_shapes(state, table) or _wrong_values(state, table) or _wrong_weights(table)


def _wrong_shapes(state: State, table: Mapping[str, Array]) -> str:
    columns = 1 if state.task is ClassificationTask.BINARY else state.width
    if columns is None:
        return f"{'task' if state.task is None else 'width'} must be there, got none"
    answers = columns if state.task is MULTILABEL else 1
    found = table["scores"].shape[1], table["targets"].shape[1]
    if found == (columns, answers):
        return ""
    return (
        f"scores and targets must have {columns} and {answers} columns, "
        f"got {found[0]} and {found[1]}"
    )


def _wrong_values(state: State, table: Mapping[str, Array]) -> str:
    scores, targets = table["scores"], table["targets"]
    if scores.dtype.kind != "f" or np.isnan(scores).any():
        return "scores must be floating-point numbers, got others"
    if state.task is not MULTICLASS:
        return "" if targets.dtype == np.bool_ else f"targets must be boolean, got {targets.dtype}"
    if targets.dtype == np.int32 and targets.min() >= 0 and targets.max() < scores.shape[1]:
        return ""
    return "targets must be indices of the classes, got others"


def _wrong_weights(table: Mapping[str, Array]) -> str:
    weights = table.get("weights")
    if weights is None or (
        weights.dtype == np.float64 and bool(((weights > 0) & (weights < np.inf)).all())
    ):
        return ""
    return "weights must be in (0, inf), got others"


# Of each score of a curve: its order, itself and its target in order, and what adds them up.
_CURVE_BYTES = 80
# Scores whose curves are made together, where there are several: a step for each of many labels
# would take longer than all that is done about few examples.
_TOGETHER = 1 << 16


def scoring(state: State, parameters: Mapping[str, Any]) -> int:
    """Returns the bytes of the curves of a state, one at a time or few examples' together."""
    examples = sum(map(rows, state.tables))
    width = max((table["scores"].shape[1] for table in state.tables), default=1)
    columns = width if parameters["average"] is Average.MICRO else 1
    scores = max(examples * columns, min(examples * width, _TOGETHER))
    return _CURVE_BYTES * scores + scoring_bytes(state, parameters)


def keep_scores(prepared: Scores) -> BatchState:
    """Keeps every score with its target: nothing less tells how two of them compare."""
    scores, targets, weights = prepared.scores, prepared.targets, prepared.weights
    lost = 0
    if prepared.task is MULTICLASS:
        scores = comparable(prepared)
        good = np.asarray(~np.isnan(scores).any(axis=1))
        lost = len(good) - int(np.count_nonzero(good))
        if lost:
            scores, targets = scores[good], targets[good]
            weights = None if weights is None else weights[good]
        targets = targets.astype(np.int32)
    if not len(scores):
        return BatchState(nonfinite_count=lost)
    table = {
        "scores": scores.reshape(len(scores), -1),
        "targets": targets.reshape(len(targets), -1),
    }
    if weights is not None:
        table["weights"] = weights
    return BatchState(table=table, nonfinite_count=lost)


@dataclass(frozen=True, slots=True)
class Ranked:
    """All scores of a state, (N, C), and which are of positives, for each binary question."""

    scores: Array
    targets: Array
    weights: Floats | None
    is_multiclass: bool

    @classmethod
    def of(cls, state: State) -> "Ranked":
        """Returns the scores of a state."""
        table = state.table()
        return cls(
            table["scores"], table["targets"], table.get("weights"), state.task is MULTICLASS
        )

    @property
    def width(self) -> int:
        """How many classes or labels there are."""
        return int(self.scores.shape[1])

    def positive(self, column: int) -> Flags:
        """Returns whether each example is of a class or has a label."""
        yes: Flags = self.targets[:, 0] == column if self.is_multiclass else self.targets[:, column]
        return yes

    def curve(self, column: int, checkpoint: Checkpoint) -> Curve:
        """Returns the curve of one class against the rest, or of one label."""
        return curve(self.scores[:, column], self.positive(column), self.weights, checkpoint)

    def curves(self, columns: slice) -> ManyCurves:
        """Returns the curves of some classes or labels."""
        if self.is_multiclass:
            yes = np.arange(self.width)[columns, None] == self.targets[:, 0]
        else:
            yes = self.targets[:, columns].T
        scores = np.ascontiguousarray(self.scores[:, columns].T)
        return curves(scores, np.ascontiguousarray(yes), self.weights)

    def pooled(self, checkpoint: Checkpoint) -> Curve:
        """Returns the curve of all classes or labels together."""
        # One by one, a million columns would take seconds, and the interpreter for some of them.
        truths = self.targets == np.arange(self.width) if self.is_multiclass else self.targets
        weights = for_each_column(self.weights, self.width)
        return curve(self.scores.reshape(-1), truths.reshape(-1), weights, checkpoint)

    def prevalence(self, checkpoint: Checkpoint) -> Floats:
        """Returns the weight of the positives of each class or label, but for a common factor."""
        if self.weights is None and self.is_multiclass:
            return np.bincount(self.targets[:, 0], minlength=self.width).astype(np.float64)
        if self.weights is None:
            counts: Array = np.count_nonzero(self.targets, axis=0)
            return counts.astype(np.float64)
        found, weights = np.zeros(self.width), scaled(self.weights)[0]
        step = self.width if self.is_multiclass else max(1, _TOGETHER // len(weights))
        for start in range(0, self.width, step):
            if self.is_multiclass:
                heavy, labels = weights, self.targets[:, 0].astype(np.int64)
            else:
                rows_of, labels = np.nonzero(self.targets[:, start : start + step])
                heavy = weights[rows_of]
            sums = exact_sums(np.frexp(heavy), groups=labels, checkpoint=checkpoint)
            for label, units in checked(sums.items(), checkpoint):
                found[start + label] = ratio(units, UNIT)
        return found


def averaged(
    state: State,
    average: Average,
    score: Callable[[Curve], float | str],
    scores: Callable[[ManyCurves], Sequence[float | str]],
    checkpoint: Checkpoint,
) -> Score:
    """Returns one number: of a binary question, averaged over classes, or over labels.

    ``score`` returns a reason where there is no number, and ``scores`` does so for each of several.
    """
    ranked = Ranked.of(state)
    if state.task not in (MULTICLASS, MULTILABEL):
        return _single(score(ranked.curve(0, checkpoint)))
    if average is Average.MICRO:
        return _single(score(ranked.pooled(checkpoint)))
    found: list[float | str] = []
    step = _TOGETHER // len(ranked.scores)
    for column in range(0, ranked.width, max(1, step)):
        checkpoint()
        if step > 1:
            found += scores(ranked.curves(slice(column, column + step)))
        else:
            found.append(score(ranked.curve(column, checkpoint)))
    values = np.array([np.nan if isinstance(one, str) else one for one in found])
    reasons = [f"column {c}: {one}" for c, one in enumerate(found) if isinstance(one, str)]
    reason = "; ".join(reasons[:3]) + ("; ..." if len(reasons) > 3 else "")
    if average is Average.NONE:
        return Score(values=values, reason=reason)
    if reasons:  # a mean over the others would be another number
        return Score(values=values, reason=reason)
    weights = ranked.prevalence(checkpoint) if average is Average.WEIGHTED else None
    return Score(value=mean_of(values, weights), values=values)


def _single(found: float | str) -> Score:
    return Score(reason=found) if isinstance(found, str) else Score(value=found)
