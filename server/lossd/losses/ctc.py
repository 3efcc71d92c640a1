"""Connectionist temporal classification."""

from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np

from lossd.losses._body import BodyResult, Status
from lossd.losses._declare import CudaText, Example, Shape, loss
from lossd.losses._inputs import DISTRIBUTION, Content, DistributionKind, Input
from lossd.losses._maths.constants import LOG_2, LOG_3, LOG_4
from lossd.losses._maths.ctc_alignments import align
from lossd.losses._maths.ctc_arrivals import Labels
from lossd.losses._maths.ctc_misalignments import misalign
from lossd.losses._maths.scans import running_sum
from lossd.losses._maths.softmax import softmax
from lossd.schema import NONNEGATIVE, Array

# Below this cost of a frame, cancellation in it and in its gradient shows in the input's type.
SURE = {np.dtype(np.float32): 1e-8, np.dtype(np.float64): 1e-4}
# The first argument says what numbers describe the frames; see kernels/alignments.hpp.
TEXTS = {
    DistributionKind.LOGITS: "value = likelihood(Logits{}, sequence, blank, zero_infinity);",
    DistributionKind.LOG_PROBABILITIES: """
    value = likelihood(LogProbabilities{}, sequence, blank, zero_infinity);""",
    DistributionKind.PROBABILITIES: """
    value = likelihood(Probabilities{}, sequence, blank, zero_infinity);""",
}
LABEL = {"targets": [[1]], "prediction_lengths": [2], "target_lengths": [1]}


@loss(
    Shape.SEQUENCE,
    inputs=(
        DISTRIBUTION,
        Input("targets", "the labels of each example, in order", content=Content.INDICES),
        Input(
            "prediction_lengths",
            "how many frames of each example there are; all if not given",
            content=Content.LENGTHS,
            is_optional=True,
        ),
        Input(
            "target_lengths",
            "how many labels of each example there are; all if not given",
            content=Content.LENGTHS,
            is_optional=True,
        ),
    ),
    examples=(
        # Two frames, a blank and one label, all equally likely: three of the four paths are right,
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
        # The same label twice takes a blank in between: one path of eight.
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
    cuda=tuple(
        CudaText(text, {"prediction_kind": kind}, targets_are_classes=True)
        for kind, text in TEXTS.items()
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
) -> BodyResult:
    """Negative log-likelihood of labels whose positions in a longer sequence are unknown.

        value = -log sum over alignments of prod_t p[t, alignment_t],  p = softmax(x)
        gradient = p[t, c] - q[t, c] with respect to a logit,
                   -q[t, c] with respect to a log-probability,
                   q = share of the alignments with c at t in the sum

    An alignment names a class for each frame; without repetitions and then without blanks it is the
    labels.  So it takes as many frames as there are labels, and one more for each label that equals
    the one before.  An example with fewer frames, or whose alignments are all impossible, has the
    status INFEASIBLE, gradient 0, and the value 0, or infinity without ``zero_infinity``.  MEAN
    divides the value of an example by its number of labels, if it has any, before it averages.
    Everything is computed in float64.  An example that is nearly certain keeps the digits of its
    value and gradient, which are then computed from everything that is no alignment.  With
    predictions that are probabilities or log-probabilities the gradient is the derivative with
    respect to the numbers given.

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
    costs = xp.where(possible, value, 0.0 if zero_infinity else xp.inf)
    return BodyResult(
        costs.astype(predictions.dtype),  # a cost beyond it is infinite, which has a status
        {"predictions": gradient},
        statuses=xp.where(possible, 0, int(Status.INFEASIBLE)).astype(np.uint8),
    )


def _likelihood(
    xp: Any, predictions: Array, labels: Labels, kind: DistributionKind
) -> tuple[Array, Array]:
    """Returns value and gradient of rows with enough frames, or with neither frames nor labels."""
    frames = labels.frames
    longest = int(frames.max()) if len(frames) else 0
    if longest == 0:
        return xp.zeros(len(frames)), xp.zeros(predictions.shape)
    labels = replace(labels, classes=labels.classes[:, : int(labels.counts.max())])
    given = xp.ascontiguousarray(predictions[:, :longest], np.float64)
    scores = xp.log(given) if kind is DistributionKind.PROBABILITIES else given
    parts = _Parts.of(xp, scores) if kind is DistributionKind.LOGITS else None
    found = align(xp, scores, labels, by_weight=kind is DistributionKind.PROBABILITIES)
    costs = -found.largest if parts is None else parts.costs + (parts.largest - found.largest)
    cost = xp.where(frames == 0, 0, _sum_over_frames(xp, costs, frames) - found.total)
    if parts is None:
        derivatives = xp.negative(found.shares, out=found.shares)
    else:
        cost = xp.maximum(cost, 0)  # only rounding could make it negative
        derivatives = xp.subtract(parts.probabilities, found.shares, out=found.shares)
        parts.balance(xp, derivatives)
    sure = xp.flatnonzero(abs(cost) < SURE[predictions.dtype] * frames)
    if len(sure):
        exact, by_logits = _refined(xp, scores[sure], labels.of(sure), kind)
        if by_logits is None:
            cost[sure] = xp.where(xp.isnan(exact), cost[sure], exact)
        else:
            cost[sure], derivatives[sure] = exact, by_logits
    # Otherwise which shares are NaN, and the sign of each, would depend on the other rows.
    unknown = xp.isnan(cost)
    cost[unknown] = derivatives[unknown] = xp.nan
    derivatives[xp.arange(longest) >= frames[:, None]] = 0
    if longest < predictions.shape[1]:
        derivatives = _lengthened(xp, derivatives, predictions.shape)
    return cost, derivatives


def _refined(
    xp: Any, scores: Array, labels: Labels, kind: DistributionKind
) -> tuple[Array, Array | None]:
    """Computes rows that are nearly certain, from everything that is no alignment.

    Returns the value, and the gradient with respect to logits.  Other predictions may sum to more
    or less than 1 in a frame, and their gradients keep their digits anyway.  The value of a row
    that is not nearly certain after all is NaN.
    """
    parts = _Parts.of(xp, scores)
    found = misalign(xp, parts.probabilities, labels)
    cost = -xp.log1p(-found.wrong)
    if kind is not DistributionKind.LOGITS:
        cost -= _sum_over_frames(xp, parts.largest + parts.costs, labels.frames)
        return xp.where(found.wrong < 0.5, cost, xp.nan), None
    derivatives = parts.probabilities * found.surplus
    parts.balance(xp, derivatives)
    return cost, derivatives


def _sum_over_frames(xp: Any, values: Array, frames: Array) -> Array:
    """Returns the sum over the frames that each row has."""
    last = xp.maximum(frames - 1, 0)
    return running_sum(xp, values)[xp.arange(len(frames)), last]


@dataclass(frozen=True, slots=True)
class _Parts:
    """The softmax of each frame; all but the probabilities are (rows, frames).

    ``costs`` are -log p of the ``best`` class.  They are the log of the sum of exponentials without
    the largest logit, so small ones keep their digits.
    """

    probabilities: Array
    best: Array
    largest: Array
    costs: Array

    @classmethod
    def of(cls, xp: Any, scores: Array) -> "_Parts":
        rows, frames, classes = scores.shape
        parts = softmax(xp, scores.reshape(rows * frames, classes))
        by_frame = parts.best, parts.largest, xp.log1p(parts.rest)
        shaped = (array.reshape(rows, frames) for array in by_frame)
        return cls(parts.probabilities().reshape(scores.shape), *shaped)

    def balance(self, xp: Any, derivatives: Array) -> None:
        """Makes the gradient of a frame sum to 0, where its best class has most of the probability.

        There the gradient of that class is the difference of two numbers near 1.
        """
        flat, best = derivatives.reshape(-1, derivatives.shape[2]), self.best.reshape(-1)
        each = xp.arange(len(flat))
        own = flat[each, best]
        flat[each, best] = 0
        others = flat.sum(axis=-1)
        flat[each, best] = xp.where(self.costs.reshape(-1) < LOG_2, -others, own)


def _lengthened(xp: Any, derivatives: Array, shape: tuple[int, ...]) -> Array:
    """Returns the gradients with zeros for the frames that no row has."""
    gradient = xp.zeros(shape)
    gradient[:, : derivatives.shape[1]] = derivatives
    return gradient
