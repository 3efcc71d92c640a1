"""Triplet loss with triplets from the batch."""

import enum
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any

import numpy as np

from lossd.losses._body import BatchContext, BodyResult, Output, Status
from lossd.losses._declare import Example, Shape, loss
from lossd.losses._inputs import EMBEDDINGS, LABELS
from lossd.losses._maths.label_contrast import without_positive
from lossd.losses._maths.pairwise_distances import EmbeddingSpace
from lossd.losses._maths.triplet_mining import (
    Candidates,
    Mined,
    mine_all,
    mine_hard,
    mine_semi_hard,
)
from lossd.losses._maths.vectors import Distance
from lossd.schema import NONNEGATIVE, Array


class Mining(enum.Enum):
    """The triplets of an anchor that count."""

    ALL = "the mean over all triplets"
    HARD = "the farthest positive and the nearest negative"
    SEMI_HARD = "each positive with the nearest negative that is farther"


class BatchTripletOutput(enum.Enum):
    """The auxiliary outputs of mining."""

    MINED_POSITIVE = Output(
        "mined_positive",
        "the index of the positive of its hardest triplet, -1 for one that is no anchor",
        is_index=True,
    )
    MINED_NEGATIVE = Output(
        "mined_negative",
        "the index of the negative of its hardest triplet, -1 for one that is no anchor",
        is_index=True,
    )


_MINERS: Mapping[Mining, Callable[..., Mined]] = MappingProxyType(
    {Mining.ALL: mine_all, Mining.HARD: mine_hard, Mining.SEMI_HARD: mine_semi_hard}
)


def _without_triplet(embeddings: Array, labels: Array, **parameters: Any) -> Array:
    """Returns which examples lack a positive, or lack a negative."""
    found: Array = without_positive(embeddings, labels, **parameters)
    return found | (labels == labels[:1]).all()


LINE = [[0.0], [1.0], [3.0], [2.0]]


@loss(
    Shape.COUPLED,
    inputs=(EMBEDDINGS, LABELS),
    examples=(
        # Anchor 0: positive at 3, negative at 1; anchor 2: 3, 1; anchors 1 and 3: 1, 1.
        Example(
            {"embeddings": LINE, "labels": [0, 1, 0, 1]},
            value=2.0,
            gradients={"embeddings": [[0.0], [-1.0], [0.0], [1.0]]},
        ),
        # The negatives at 2 and 1 are nearer than the positive; the one at 2 is the farthest.
        Example(
            {"embeddings": LINE, "labels": [0, 1, 0, 1]},
            parameters={"mining": Mining.SEMI_HARD},
            value=1.0,
            gradients={"embeddings": [[-0.25], [0.25], [0.25], [-0.25]]},
        ),
        # Two triplets for each anchor, worth 3 and 2 or 1 and 0.
        Example(
            {"embeddings": LINE, "labels": [0, 1, 0, 1]},
            parameters={"mining": Mining.ALL},
            value=1.5,
            gradients={"embeddings": [[-0.125], [-0.375], [0.125], [0.375]]},
        ),
        Example(
            {"embeddings": LINE, "labels": [0, 1, 0, 1]},
            parameters={"distance": Distance.SQUARED_EUCLIDEAN},
            value=5.0,
            gradients={"embeddings": [[-2.0], [-2.0], [2.0], [2.0]]},
        ),
        # The last is no anchor, being the only one of its label.
        Example(
            {"embeddings": [[1.0, 0.0], [5.0, 0.0], [0.0, 1.0]], "labels": [0, 0, 1]},
            parameters={"distance": Distance.COSINE, "margin": 2.0},
            value=1.0,
            gradients={"embeddings": [[0.0, 0.5], [0.0, 0.1], [1.0, 0.0]]},
        ),
    ),
    ignores=_without_triplet,
)
def batch_triplet(
    xp: Any,
    embeddings: Array,
    labels: Array,
    batch: BatchContext,
    *,
    mining: Mining = Mining.HARD,
    margin: Annotated[float, NONNEGATIVE] = 1.0,
    distance: Distance = Distance.EUCLIDEAN,
    outputs: Sequence[BatchTripletOutput] = (),
) -> BodyResult:
    """Triplet loss over the triplets of a batch that are selected by label and distance.

        value = mean over triplets of max(0, margin + d(a, p) - d(a, n))
        gradient = sum over triplets that count, of all anchors, of d'(a, p) - d'(a, n)
        0 at the kink, and for the distance of two equal points

    Positives have the anchor's label, negatives another.  HARD takes the farthest positive and the
    nearest negative, ALL every triplet, SEMI_HARD each positive with the nearest negative that is
    farther than it or, if none is, with the farthest; among equals the lowest index.  An example
    without a positive or a negative is no anchor and has the status NO_POSITIVE; the others are
    still compared with it.  With COSINE a vector of zeros is at the distance 1 of all others with
    gradient 0, and has the status ZERO_NORM.

    Reference: A. Hermans et al., In defense of the triplet loss for person re-identification, 2017,
    section 2; semi-hard: F. Schroff et al., FaceNet, 2015, section 3.2.
    """
    metric = EmbeddingSpace(xp, embeddings, batch, distance)
    count = len(embeddings)
    mine = _MINERS[mining]
    values = xp.zeros(count, embeddings.dtype)
    is_idle = xp.zeros(count, bool)
    positives, negatives = xp.zeros(count, np.int64), xp.zeros(count, np.int64)

    def to_derivatives(distances: Array, own: slice) -> Array:
        is_same = labels[own, None] == labels
        is_negative = ~is_same
        is_same[xp.arange(own.stop - own.start), xp.arange(own.start, own.stop)] = False
        candidates = Candidates(distances, is_same, is_negative)
        mined = mine(xp, candidates, metric.shrunk(margin))
        is_idle[own] = ~(is_same.any(axis=-1) & is_negative.any(axis=-1))
        # A distance that is NaN is neither near nor far.
        is_lost = ~xp.isfinite(distances).all(axis=-1)
        values[own] = xp.where(is_lost, xp.nan, metric.grown(mined.values))
        positives[own], negatives[own] = mined.positives, mined.negatives
        scales = batch.scales[own, None]
        derivatives = xp.where(is_lost[:, None], xp.nan, mined.derivatives)
        return xp.where(scales == 0, 0, derivatives * scales)

    derivatives = metric.run(to_derivatives, wanted="embeddings" in batch.wanted)
    statuses = xp.where(metric.is_zero, int(Status.ZERO_NORM), 0)
    found = {
        BatchTripletOutput.MINED_POSITIVE: positives,
        BatchTripletOutput.MINED_NEGATIVE: negatives,
    }
    return BodyResult(
        values,
        {"embeddings": derivatives},
        {output.value.name: found[output] for output in outputs},
        statuses=xp.where(is_idle, int(Status.NO_POSITIVE), statuses),
    )
