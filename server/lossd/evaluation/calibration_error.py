"""Calibration error."""

import enum
from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np

from lossd.checkpoints import Checkpoint
from lossd.evaluation._classification import BINARY, PROBABILITIES, Scores
from lossd.evaluation._declare import (
    BatchState,
    Floats,
    MetricBatch,
    MetricExample,
    Score,
    fraction_bytes,
    metric,
    observing_bytes,
)
from lossd.evaluation._examples import Flags, rounded
from lossd.evaluation._probabilities import probabilities, tiles
from lossd.evaluation._state import State
from lossd.evaluation._tally import SUM_BYTES, Tally, aligned, checked
from lossd.losses import DistributionKind, Interval


class CalibrationNorm(enum.Enum):
    """How the gaps of the bins are combined to one number."""

    L1 = "l1"
    L2 = "l2"
    MAX = "max"


def _result(state: State, *, bins: int, norm: CalibrationNorm, checkpoint: Checkpoint) -> Score:
    tallies = map(state.tally, ("confidences", "hits", "weights"))
    confidences, hits, weights = aligned(*tallies, checkpoint=checkpoint)
    used = [index for index in range(min(bins, len(weights))) if weights[index] > 0]
    if not used:
        return Score(reason="there is no weight")
    total = sum(weights[i] for i in used)
    values = np.full(bins, np.nan)
    gaps = (abs(confidences[i] - hits[i]) / weights[i] for i in checked(used, checkpoint))
    values[used] = list(gaps)
    shares = np.array([weights[i] / total for i in checked(used, checkpoint)])
    return Score(value=_norm(values[used], shares, norm), values=values)


def _norm(gaps: Floats, shares: Floats, norm: CalibrationNorm) -> float:
    if norm is CalibrationNorm.MAX:
        return float(gaps.max())
    if norm is CalibrationNorm.L2:
        return float(np.sqrt((gaps**2 * shares).sum()))
    return float((gaps * shares).sum())


_SUMS = 3  # of a bin, with weights
_BIN_BYTES = 48  # three counts, and the edge, which is rounded


def _observing(batch: MetricBatch, parameters: Mapping[str, Any]) -> int:
    """Returns the bytes of both inputs, of all bins, and of the exact sums of those in use."""
    bins, targets = int(parameters["bins"]), batch.inputs.get("targets")
    of_confidences = SUM_BYTES * (0 if targets is None else min(bins, targets.size))
    of_sums = max(of_confidences, _SUMS * fraction_bytes(batch, bins))
    return observing_bytes(batch, parameters) + _BIN_BYTES * bins + of_sums


@metric(
    PROBABILITIES,
    observing=_observing,
    result=_result,
    is_result_long=True,
    surrogate="CrossEntropy",
    tallies={"confidences": 1, "hits": 1, "weights": 1},
    examples=(
        MetricExample(
            {"predictions": [0.25, 0.25, 0.75, 0.75], "targets": [0, 1, 1, 1]},
            parameters={"prediction_kind": DistributionKind.PROBABILITIES, "bins": 2},
            value=0.25,
        ),
        MetricExample(
            {"predictions": [[0.75, 0.25], [0.25, 0.75]], "targets": [0, 0]},
            parameters={
                "prediction_kind": DistributionKind.PROBABILITIES,
                "norm": CalibrationNorm.MAX,
            },
            value=0.25,
        ),
    ),
)
def calibration_error(
    prepared: Scores,
    *,
    bins: Annotated[int, Interval(1, 65536)] = 15,
    norm: CalibrationNorm = CalibrationNorm.L1,
) -> BatchState:
    """Gap between confidence and the share of right answers, bin by bin.

        value = sum_b share_b |mean confidence_b - mean right_b|

    The confidence is the probability of yes, or of the likeliest class.  Bins have equal width and
    include their upper edge, as it is in the type of probabilities that are given.  ``values`` are
    the gaps of the bins.

    Reference: C. Guo et al., On calibration of modern neural networks, 2017, section 2.
    """
    del norm
    both = [_confidence(tile) for tile in tiles(prepared)]
    confidences = np.concatenate([np.zeros(0), *(one for one, _ in both)])
    hits = np.concatenate([np.zeros(0, bool), *(two for _, two in both)])
    finite = np.isfinite(confidences)
    confidences, hits = confidences[finite], hits[finite]
    weights = None if prepared.weights is None else prepared.weights[finite]
    indices = np.searchsorted(_inner_edges(prepared, bins), confidences)
    return BatchState(
        tallies={
            "confidences": Tally.sums(
                confidences,
                weights=weights,
                groups=indices,
                shape=(bins,),
                checkpoint=prepared.checkpoint,
            ),
            "hits": Tally.counts(
                indices[hits],
                (bins,),
                None if weights is None else weights[hits],
                prepared.checkpoint,
            ),
            "weights": Tally.counts(indices, (bins,), weights, prepared.checkpoint),
        },
        nonfinite_count=int(len(finite) - np.count_nonzero(finite)),
    )


def _inner_edges(prepared: Scores, bins: int) -> Floats:
    """Returns the edges between bins, rounded once, so that k / bins is at one of them."""
    edges = np.arange(1, bins) / bins
    if prepared.kind is DistributionKind.PROBABILITIES:
        return rounded(edges, prepared.dtype)
    return edges


def _confidence(prepared: Scores) -> tuple[Floats, Flags]:
    """Returns the confidence of each answer and whether it is right; for a binary task, of yes."""
    found = probabilities(prepared)
    if prepared.task is BINARY:
        return found, prepared.targets
    return found.max(axis=1), found.argmax(axis=1) == prepared.targets
