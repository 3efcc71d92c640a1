"""Counts of classes, their ratios, and how ratios are averaged to one number."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lossd.checkpoints import Checkpoint
from lossd.evaluation._classification import BINARY, MULTILABEL, Decisions, Labels
from lossd.evaluation._declare import BatchState, Floats, Score
from lossd.evaluation._examples import Flags
from lossd.evaluation._state import ClassificationTask, State
from lossd.evaluation._tally import Tally
from lossd.evaluation._wide import Wide


class Average(enum.Enum):
    """How the numbers of classes or labels are averaged."""

    MICRO = "micro"
    MACRO = "macro"
    WEIGHTED = "weighted"
    NONE = "none"


class ZeroDivision(enum.Enum):
    """The value of 0 / 0."""

    ZERO = "zero"
    ONE = "one"
    EXCLUDE = "exclude"


COUNTS: Mapping[str, int] = {"hits": 1, "predicted": 1, "targets": 1}


def count_classes(prepared: Decisions) -> BatchState:
    """Counts true positives, predicted members and actual members of each class or label."""
    if prepared.task is MULTILABEL:
        members = {
            "hits": prepared.targets & prepared.predicted,
            "predicted": prepared.predicted,
            "targets": prepared.targets,
        }
        return BatchState(
            tallies={name: _label_tally(prepared, yes) for name, yes in members.items()}
        )
    right = prepared.targets == prepared.predicted
    weights = prepared.weights

    def count(classes: Labels, weights: Floats | None) -> Tally:
        return Tally.counts(classes, (prepared.width,), weights, prepared.checkpoint)

    return BatchState(
        tallies={
            "hits": count(prepared.targets[right], None if weights is None else weights[right]),
            "predicted": count(prepared.predicted, weights),
            "targets": count(prepared.targets, weights),
        }
    )


def _label_tally(prepared: Decisions, yes: Flags) -> Tally:
    if prepared.weights is None:
        return Tally(np.count_nonzero(yes, axis=0).astype(np.int64))
    rows, labels = np.nonzero(yes)
    weights = prepared.weights[rows]
    return Tally.counts(labels, (prepared.width,), weights, prepared.checkpoint)


@dataclass(frozen=True, slots=True)
class Counts:
    """The counts of each class, and which classes an average is over."""

    task: ClassificationTask | None
    hits: Wide
    predicted: Wide
    targets: Wide

    @classmethod
    def of(cls, state: State, checkpoint: Checkpoint, *, pooled: bool) -> "Counts":
        """Returns the counts of a state, or those of all its classes together."""
        tallies = [state.tally(name) for name in COUNTS]
        if pooled:
            return cls(state.task, *(tally.pooled(checkpoint).wide() for tally in tallies))
        size = max(2 if state.task is BINARY else 1, *(len(tally.integers) for tally in tallies))
        return cls(state.task, *(tally.wide(checkpoint).padded(size) for tally in tallies))

    @property
    def averaged(self) -> Flags:
        """The classes that an average is over: those that occur, or all labels."""
        if self.task is MULTILABEL:
            return np.ones(len(self.hits.mantissas), bool)
        return ~(self.predicted.is_zero & self.targets.is_zero)


def f_score(
    state: State,
    *,
    beta: float,
    average: Average,
    zero_division: ZeroDivision,
    checkpoint: Checkpoint,
) -> Score:
    """Returns F-beta: precision for a beta of 0 and recall for an infinite one."""
    pooled = average is Average.MICRO and state.task is not BINARY
    counts = Counts.of(state, checkpoint, pooled=pooled)
    if np.isinf(beta):
        numerators, denominators = counts.hits, counts.targets
    else:
        factor = beta * beta
        # Added up alike, so that no rounding makes more than 1 of the quotient.
        numerators = counts.hits.times(factor) + counts.hits
        denominators = counts.targets.times(factor) + counts.predicted
    values, undefined = _ratios(numerators, denominators, zero_division)
    return _averaged(counts, values, undefined, average)


def _ratios(numerators: Wide, denominators: Wide, policy: ZeroDivision) -> tuple[Floats, Flags]:
    undefined = denominators.is_zero
    stand_in = {ZeroDivision.ZERO: 0.0, ZeroDivision.ONE: 1.0, ZeroDivision.EXCLUDE: np.nan}
    values = np.where(undefined, stand_in[policy], numerators / denominators)
    return values, undefined


def _averaged(
    counts: Counts,
    values: Floats,
    undefined: Flags,
    average: Average,
) -> Score:
    if counts.task is BINARY:
        return _finished(float(values[1]), None, undefined[1:2], 1)
    if average is Average.MICRO:
        return _finished(float(values[0]), None, undefined)
    averaged = counts.averaged
    reported = np.where(averaged, values, np.nan)
    if average is Average.NONE:
        return _finished(None, reported, undefined & averaged)
    defined = averaged & ~np.isnan(values)
    # Their own shares: beside a much larger class that is not defined they would be 0.
    weights = counts.targets.of(defined).shares() if average is Average.WEIGHTED else None
    return _finished(mean_of(values[defined], weights), reported, undefined & averaged)


def mean_of(values: Floats, weights: Floats | None) -> float:
    """Returns the mean of values, a plain one where all weights are 0; NaN of none."""
    if not len(values):
        return np.nan
    if weights is None or not weights.any():
        return float(values.mean())
    return float((values * weights).sum() / weights.sum())


def _finished(
    value: float | None,
    values: Floats | None,
    undefined: Flags,
    first: int = 0,
) -> Score:
    indices = np.flatnonzero(undefined) + first
    reason = ""
    if len(indices):
        reason = f"0 / 0 for {len(indices)} of the classes, the first of them {indices[0]}"
    if value is not None and np.isnan(value):
        return Score(values=values, reason=reason or "no class occurs")
    return Score(value=value, values=values, reason=reason)
