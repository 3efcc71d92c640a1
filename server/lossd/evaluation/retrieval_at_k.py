"""Quality of the documents that are retrieved first."""

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np

from lossd.checkpoints import Checkpoint
from lossd.evaluation._declare import (
    Array,
    BatchFacts,
    BatchState,
    Floats,
    InputError,
    MetricBatch,
    MetricExample,
    MetricInput,
    MetricLayout,
    Score,
    metric,
    observing_bytes,
)
from lossd.evaluation._exact import Integers
from lossd.evaluation._examples import (
    Flags,
    Selection,
    flags_of,
    is_float,
    is_number,
    select,
    shape_error,
    value_error,
    widened,
)
from lossd.evaluation._state import State
from lossd.evaluation._tally import Tally
from lossd.losses import Interval
from lossd.ordering import ascending_rows, sort_rows_in_place

_BLOCK = 1 << 18  # documents ranked at once
# Beyond them powers of two lose digits, or sums of them are infinite.
_SMALL_EXPONENT, _LARGE_EXPONENT = 2.0**-60, 512


class RetrievalMeasure(enum.Enum):
    """A measure of the documents that are retrieved first."""

    NDCG = "ndcg"
    MRR = "mrr"
    MAP = "map"
    RECALL = "recall"


class RetrievalGain(enum.Enum):
    """The gain of a relevance."""

    LINEAR = "linear"
    EXPONENTIAL = "exponential"


class NoRelevant(enum.Enum):
    """The value of a query without a relevant document."""

    EXCLUDE = "exclude"
    ZERO = "zero"
    ONE = "one"


@dataclass(frozen=True, slots=True)
class Rankings:
    """Scores and relevances, one row for each query that counts; ``there`` marks the documents."""

    facts: BatchFacts
    scores: Array
    relevances: Floats
    there: Flags
    weights: Floats | None
    checkpoint: Checkpoint


def _lay_out(batch: MetricBatch) -> Rankings:
    predictions, targets = batch.inputs["predictions"], batch.inputs["targets"]
    _check(predictions, targets)
    count = predictions.shape[-1]
    there = np.ones((math.prod(predictions.shape[:-1]), count), bool)
    if batch.mask is not None:
        there = flags_of(batch.mask, predictions.shape, "documents").reshape(-1, count)
    selection = select(
        replace(batch, mask=None), predictions.shape[:-1], np.asarray(~there.any(axis=1))
    )
    scores, there, relevances = (
        selection.of(array.reshape(-1, count)) for array in (widened(predictions), there, targets)
    )
    relevances = relevances.astype(np.float64)
    relevances[~there] = 0
    _check_relevances(relevances, selection, targets)
    bad = np.asarray((np.isnan(scores) & there).any(axis=1))
    lost = int(np.count_nonzero(bad))
    kept = selection.without(bad)
    return Rankings(
        kept.facts(nonfinite_count=lost),
        scores[~bad],
        relevances[~bad],
        there[~bad],
        kept.weights,
        batch.checkpoint,
    )


def _check(predictions: Array, targets: Array) -> None:
    """Raises InputError unless they are scores and relevances of the same documents."""
    if not is_float(predictions):
        raise InputError(
            "inputs.predictions.dtype",
            f"predictions must be floating point, got {predictions.dtype.name}",
        )
    if not is_number(targets):
        raise InputError(
            "inputs.targets.dtype", f"targets must be numbers, got {targets.dtype.name}"
        )
    if predictions.ndim < 2 or not predictions.shape[-1]:
        raise shape_error("predictions", "queries and a last axis of documents", predictions)
    if targets.shape != predictions.shape:
        raise shape_error(
            "targets", f"the shape {list(predictions.shape)} of the predictions", targets
        )


def _check_relevances(relevances: Floats, selection: Selection, targets: Array) -> None:
    """Raises InputError for the first of the targets that is no relevance, if any is none."""
    wrong = np.flatnonzero(~((relevances >= 0) & (relevances <= 1e6)))
    if len(wrong):
        count = relevances.shape[1]
        row, column = divmod(int(wrong[0]), count)
        index = selection.index(row) * count + column
        raise value_error("inputs.targets", "targets", targets, index, "[0, 1000000]")


RANKINGS = MetricLayout(
    (
        MetricInput("predictions", "the score of each document", ("(Q, ..., D)",)),
        MetricInput("targets", "its relevance, 0 or above", ("(Q, ..., D)",)),
    ),
    _lay_out,
)


def _result(
    state: State,
    *,
    k: int,
    measure: RetrievalMeasure,
    gain: RetrievalGain,
    no_relevant: NoRelevant,
) -> Score:
    del k, gain
    weights = state.total("weights")
    if weights <= 0:
        return Score(reason="no query has a relevant document")
    sums = state.tally("sums")
    means = {
        kind.value: float(sums.exact(index) / weights)
        for index, kind in enumerate(RetrievalMeasure)
    }
    lacking = int(state.total("lacking"))
    done = {
        NoRelevant.EXCLUDE: "are left out",
        NoRelevant.ZERO: "count 0",
        NoRelevant.ONE: "count 1",
    }
    reason = f"{lacking} queries without a relevant document {done[no_relevant]}" if lacking else ""
    return Score(value=means[measure.value], outputs=means, reason=reason)


# For each query: its measures as they are found, together, and split for their exact sums.
_QUERY_BYTES = 160


def _observing(batch: MetricBatch, parameters: Mapping[str, Any]) -> int:
    """Returns the bytes of the inputs, and of what is made of each query."""
    predictions = batch.inputs.get("predictions")
    queries = 0 if predictions is None else math.prod(predictions.shape[:-1])
    return observing_bytes(batch, parameters) + _QUERY_BYTES * queries


@metric(
    RANKINGS,
    observing=_observing,
    result=_result,
    surrogate="InfoNce",
    tallies={"sums": 1, "weights": 1, "lacking": 1},
    examples=(
        MetricExample(
            {"predictions": [[3.0, 2.0, 1.0]], "targets": [[0, 1, 0]]}, value=1 / math.log2(3)
        ),
        MetricExample(
            {"predictions": [[3.0, 2.0, 1.0]], "targets": [[0, 1, 1]]},
            parameters={"measure": RetrievalMeasure.MAP},
            value=(1 / 2 + 2 / 3) / 2,
        ),
        MetricExample(
            {"predictions": [[3.0, 2.0, 1.0], [3.0, 2.0, 1.0]], "targets": [[1, 1, 1], [0, 0, 0]]},
            parameters={"k": 1, "measure": RetrievalMeasure.RECALL, "no_relevant": NoRelevant.ONE},
            value=(1 / 3 + 1) / 2,
        ),
        MetricExample(
            {"predictions": [[2.0, 1.0]], "targets": [[1, 2]]},
            parameters={"gain": RetrievalGain.EXPONENTIAL},
            value=(1 + 3 / math.log2(3)) / (3 + 1 / math.log2(3)),
        ),
    ),
)
def retrieval_at_k(
    prepared: Rankings,
    *,
    k: Annotated[int, Interval(1, 1e6)] = 10,
    measure: RetrievalMeasure = RetrievalMeasure.NDCG,
    gain: RetrievalGain = RetrievalGain.LINEAR,
    no_relevant: NoRelevant = NoRelevant.EXCLUDE,
) -> BatchState:
    """Mean quality of the first k documents over queries: NDCG, MRR, recall or MAP.

        value = NDCG: sum_i g_i / log2(i + 1) over its largest possible
                MRR: 1 / rank of the first relevant;  RECALL: relevant among them / relevant
                MAP: sum over the relevant among them of precision at their rank / relevant

    A document is relevant if its relevance is above 0.  Among equal scores the lowest index comes
    first, except in NDCG, where they share their gains.

    Reference: K. Jaervelin, J. Kekaelaeinen, Cumulated gain-based evaluation of IR techniques,
    2002; C. D. Manning et al., Introduction to Information Retrieval, 2008, section 8.4.
    """
    del measure
    step = max(1, _BLOCK // prepared.scores.shape[1])
    parts = [
        _measures(prepared, slice(start, start + step), k, gain)
        for start in range(0, len(prepared.scores), step)
    ]
    values = np.concatenate([np.zeros((0, len(RetrievalMeasure))), *parts])
    lacking = ~(prepared.relevances > 0).any(axis=1)
    weights = prepared.weights
    if no_relevant is NoRelevant.EXCLUDE:
        values = values[~lacking]
        weights = None if weights is None else weights[~lacking]
    else:
        values[lacking] = float(no_relevant is NoRelevant.ONE)
    return BatchState(
        tallies={
            "sums": Tally.sums(
                values,
                weights=weights,
                shape=(len(RetrievalMeasure),),
                checkpoint=prepared.checkpoint,
            ),
            "weights": Tally.weight(len(values), weights, prepared.checkpoint),
            "lacking": Tally.number(int(np.count_nonzero(lacking))),
        }
    )


def _measures(prepared: Rankings, part: slice, k: int, gain: RetrievalGain) -> Floats:
    """Returns all measures of some queries, in the order of RetrievalMeasure."""
    prepared.checkpoint()
    scores, there = prepared.scores[part], prepared.there[part]
    # A stable sort: the lowest index first.
    order = ascending_rows(-scores, ~there, checkpoint=prepared.checkpoint)
    ranks = np.arange(scores.shape[1])
    first = ranks < k
    relevances = np.take_along_axis(prepared.relevances[part], order, axis=1)
    prepared.checkpoint()
    relevant = relevances > 0
    count = np.maximum(relevant.sum(axis=1), 1)
    found = relevant & first
    reciprocal = np.where(found.any(axis=1), 1 / (1.0 + found.argmax(axis=1)), 0.0)
    # NumPy keeps the interpreter while it widens numbers one by one, on their way into sums.
    precisions = np.cumsum(found.astype(np.int64), axis=1) / (ranks + 1.0)
    prepared.checkpoint()
    mean_precision = _sums(np.where(found, precisions, 0)) / count
    prepared.checkpoint()
    ties = _ties(
        np.take_along_axis(scores, order, axis=1), np.take_along_axis(there, order, axis=1)
    )
    prepared.checkpoint()
    ndcg = _ndcg(relevances, ties, first, gain, prepared.checkpoint)
    return np.stack([ndcg, reciprocal, mean_precision, found.sum(axis=1) / count], axis=1)


def _ndcg(
    relevances: Floats,
    ties: Integers,
    first: Flags,
    gain: RetrievalGain,
    checkpoint: Checkpoint,
) -> Floats:
    """Returns NDCG, from relevances by rank, and ``ties`` that are equal where scores are."""
    gains = _gains(relevances, gain)
    checkpoint()
    discounts = np.where(first, 1 / np.log2(np.arange(gains.shape[1]) + 2.0), 0.0)
    checkpoint()
    means = _means(gains.reshape(-1), ties)
    checkpoint()
    gained = _sums(means[ties].reshape(gains.shape) * discounts)
    falling = -gains
    sort_rows_in_place(falling, checkpoint)
    best = _sums(-falling * discounts)
    share: Floats = np.divide(gained, best, out=np.zeros_like(gained), where=best > 0)
    return np.minimum(share, 1)  # which rounding may exceed


def _means(gains: Floats, ties: Integers) -> Floats:
    """Returns the mean of each group, of equal gains that gain itself."""
    starts = np.flatnonzero(np.diff(ties, prepend=-1))
    least = np.minimum.reduceat(gains, starts)
    means: Floats = least + np.bincount(ties, gains - least[ties]) / np.bincount(ties)
    return means


def _sums(values: Floats) -> Floats:
    """Returns the sum of each row, added in the order of ranks.

    Then documents that do not exist, which come last, change no bit: NumPy's own sums are grouped
    by how long rows are.
    """
    sums: Floats = np.cumsum(values, axis=1)[:, -1]
    return sums


def _gains(relevances: Floats, gain: RetrievalGain) -> Floats:
    """Returns the gains of each query, divided by a power of two so that their sums are finite."""
    top = relevances.max(axis=1, keepdims=True)
    linear: Floats = np.ldexp(relevances, -np.frexp(top)[1])
    if gain is RetrievalGain.LINEAR:
        return linear
    far = np.where(top > _LARGE_EXPONENT, np.floor(top), 0)
    with np.errstate(under="ignore"):
        small = np.expm1(np.minimum(relevances, 1) * math.log(2)) * np.exp2(-far)
        gains = np.where(relevances < 1, small, np.exp2(relevances - far) - np.exp2(-far))
    # Of small relevances the gains are proportional to them, to the last digit.
    return np.where(top < _SMALL_EXPONENT, linear, gains)


def _ties(scores: Array, there: Flags) -> Integers:
    """Numbers the groups of equal scores, which are sorted by row."""
    starts = np.ones(scores.shape, bool)
    starts[:, 1:] = (scores[:, 1:] != scores[:, :-1]) | (there[:, 1:] != there[:, :-1])
    return np.cumsum(starts.reshape(-1).astype(np.int64)) - 1
