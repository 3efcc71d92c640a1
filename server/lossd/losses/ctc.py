"""Connectionist temporal classification."""

from dataclasses import replace
from typing import Annotated, Any

import numpy as np

from lossd.losses._alignments import Labels, align
from lossd.losses._declare import (
    DISTRIBUTION,
    DistributionKind,
    Evaluation,
    Example,
    Holds,
    Input,
    Shape,
    Status,
    loss,
)
from lossd.losses._running import running_sum
from lossd.losses._schema import NONNEGATIVE, Array
from lossd.losses._softmax import softmax

LOG_2, LOG_3, LOG_4 = 0.6931471805599453, 1.0986122886681098, 1.3862943611198906
LABEL = {"targets": [[1]], "prediction_lengths": [2], "target_lengths": [1]}


@loss(
    Shape.SEQUENCE,
    inputs=(
        DISTRIBUTION,
        Input("targets", "the labels of each example, in order", holds=Holds.INDICES),
        Input(
            "prediction_lengths",
            "how many frames of each example there are; all if not given",
            holds=Holds.LENGTHS,
            is_optional=True,
        ),
        Input(
            "target_lengths",
            "how many labels of each example there are; all if not given",
            holds=Holds.LENGTHS,
            is_optional=True,
        ),
    ),
    examples=(
        # Two frames, a blank and one label, all equally likely: three of the four ways are right,
        # and the label has two of these three in each frame.
        Example(
            {"predictions": [[[0.0, 0.0], [0.0, 0.0]]], **LABEL},
            value=LOG_4 - LOG_3,
            gradients={"predictions": [[[1 / 6, -1 / 6], [1 / 6, -1 / 6]]]},
        ),
        Example(
            {"predictions": [[[-LOG_2, -LOG_2], [-LOG_2, -LOG_2]]], **LABEL},
            parameters={"prediction_kind": DistributionKind.LOG_PROBABILITIES},
            value=LOG_4 - LOG_3,
            gradients={"predictions": [[[-1 / 3, -2 / 3], [-1 / 3, -2 / 3]]]},
        ),
        Example(
            {"predictions": [[[0.5, 0.5], [0.5, 0.5]]], **LABEL},
            parameters={"prediction_kind": DistributionKind.PROBABILITIES},
            value=LOG_4 - LOG_3,
            gradients={"predictions": [[[-2 / 3, -4 / 3], [-2 / 3, -4 / 3]]]},
        ),
        # The same label twice takes a blank in between: one way of eight.
        Example(
            {
                "predictions": [[[0.0, 0.0], [0.0, 0.0], [0.0, 0.0]]],
                "targets": [[0, 0]],
                "prediction_lengths": [3],
                "target_lengths": [2],
            },
            parameters={"blank": 1},
            value=3 * LOG_2 / 2,
            gradients={"predictions": [[[-0.25, 0.25], [0.25, -0.25], [-0.25, 0.25]]]},
        ),
    ),
    mean_factor=lambda _predictions, _targets, _frames, counts: 1 / np.maximum(counts, 1),
)
def ctc(
    xp: Any,
    predictions: Array,
    targets: Array,
    prediction_lengths: Array,
    target_lengths: Array,
    *,
    prediction_kind: DistributionKind = DistributionKind.LOGITS,
    blank: Annotated[int, NONNEGATIVE] = 0,
    zero_infinity: bool = True,
) -> Evaluation:
    """Negative log-likelihood of labels whose places in a longer sequence are not known.

        value = -log sum over alignments of prod_t p[t, alignment_t],  p = softmax(x)
        gradient = p[t, c] - q[t, c] by a logit, -q[t, c] by a log-probability,
                   q = share of the alignments with c at t in the sum

    An alignment names a class for each frame; without repetitions and then without blanks it is the
    labels.  So it takes as many frames as there are labels, and one more for each label that equals
    the one before.  An example with fewer frames, or whose alignments are all impossible, has the
    status INFEASIBLE, gradient 0, and the value 0, or infinity without ``zero_infinity``.  MEAN
    divides the value of an example by its number of labels, if it has any, before it averages.
    Everything is computed in float64.  With predictions that are probabilities or log-probabilities
    the gradient is the derivative by the numbers given.

    Reference: A. Graves et al., Connectionist temporal classification, 2006, section 4.
    """
    repeats = targets[:, 1:] == targets[:, :-1]
    repeats &= xp.arange(1, targets.shape[1]) < target_lengths[:, None]
    needed = target_lengths + repeats.sum(axis=-1)
    possible = needed <= prediction_lengths
    frames = xp.where(possible, prediction_lengths, 0)
    counts = xp.where(possible, target_lengths, 0)
    labels = Labels(targets, counts, frames, blank)
    value, gradient = _likelihood(xp, predictions, labels, prediction_kind)
    possible &= value != xp.inf
    gradient[~possible] = 0
    return Evaluation(
        xp.where(possible, value, 0.0 if zero_infinity else xp.inf),
        {"predictions": gradient},
        statuses=xp.where(possible, 0, int(Status.INFEASIBLE)).astype(np.uint8),
    )


def _likelihood(
    xp: Any, predictions: Array, labels: Labels, kind: DistributionKind
) -> tuple[Array, Array]:
    """Value and gradient of rows that have frames enough, or none and no label."""
    frames = labels.frames
    longest = int(frames.max()) if len(frames) else 0
    if longest == 0:
        return xp.zeros(len(frames)), xp.zeros(predictions.shape)
    labels = replace(labels, classes=labels.classes[:, : int(labels.counts.max())])
    given = xp.ascontiguousarray(predictions[:, :longest], np.float64)
    scores, costs, probabilities = _scores(xp, given, kind)
    found = align(xp, scores, labels, by_weight=kind is DistributionKind.PROBABILITIES)
    last = xp.maximum(frames - 1, 0)
    cost = running_sum(xp, costs - found.largest)[xp.arange(len(frames)), last] - found.total
    if kind is DistributionKind.LOGITS:
        cost = xp.maximum(cost, 0)  # but for rounding it is not below
    cost = xp.where(frames == 0, 0, cost)
    slopes = xp.subtract(probabilities, found.shares, out=found.shares)
    # Which shares are NaN beside it, and the sign of each, would depend on the other rows.
    unknown = xp.isnan(cost)
    cost[unknown] = slopes[unknown] = xp.nan
    slopes[xp.arange(longest) >= frames[:, None]] = 0
    if longest < predictions.shape[1]:
        slopes = _lengthened(xp, slopes, predictions.shape)
    return cost, slopes


def _scores(xp: Any, given: Array, kind: DistributionKind) -> tuple[Array, Array, Array | float]:
    """Log-probabilities up to a cost of each frame, that cost, and what its slope is.

    Taken off the logits themselves, the logarithm of their sum keeps its digits if it is small.
    """
    rows, frames, classes = given.shape
    if kind is not DistributionKind.LOGITS:
        is_log = kind is DistributionKind.LOG_PROBABILITIES
        return given if is_log else xp.log(given), xp.zeros((rows, frames)), 0.0
    parts = softmax(xp, given.reshape(rows * frames, classes))
    costs = (parts.largest + xp.log1p(parts.rest)).reshape(rows, frames)
    return given, costs, parts.probabilities().reshape(given.shape)


def _lengthened(xp: Any, slopes: Array, shape: tuple[int, ...]) -> Array:
    """With zeros for the frames that no row has."""
    gradient = xp.zeros(shape)
    gradient[:, : slopes.shape[1]] = slopes
    return gradient
