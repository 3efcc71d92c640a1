"""Cosine embedding loss."""

from typing import Annotated, Any

import numpy as np

from lossd.losses._body import BodyResult, Status
from lossd.losses._declare import Example, Shape, loss
from lossd.losses._inputs import Axes, Content, Input
from lossd.losses._maths.vectors import cosines, each_component
from lossd.schema import Array, Choices, Differentiable, Interval


def _distance_to_kinks(left: Array, right: Array, targets: Array, *, margin: float = 0) -> Array:
    """Returns how far the cosine of a dissimilar pair is from the margin."""
    found = abs(cosines(np, left, right).cosine - margin)
    return each_component(np.where(targets == 1, np.inf, found), left)


@loss(
    Shape.VECTORS,
    inputs=(
        Input("left", "an embedding", differentiable=Differentiable.BY_DEFAULT),
        Input("right", "the embedding beside it", differentiable=Differentiable.BY_DEFAULT),
        Input(
            "targets",
            "1 where the two are alike, -1 where not",
            content=Content.NUMBERS,
            domain=Choices((-1, 1)),
            axes=Axes.EXAMPLES,
        ),
    ),
    examples=(
        # The cosine is 3/5.
        Example(
            {"left": [[5.0, 0.0]], "right": [[3.0, 4.0]], "targets": [1]},
            value=0.4,
            gradients={"left": [[0.0, -0.16]], "right": [[-0.128, 0.096]]},
        ),
        Example(
            {"left": [[5.0, 0.0]], "right": [[3.0, 4.0]], "targets": [-1]},
            parameters={"margin": 0.5},
            value=0.1,
            gradients={"left": [[0.0, 0.16]], "right": [[0.128, -0.096]]},
        ),
        Example(
            {"left": [[5.0, 0.0]], "right": [[3.0, 4.0]], "targets": [-1]},
            parameters={"margin": 0.75},
            value=0.0,
            gradients={"left": [[0.0, 0.0]], "right": [[0.0, 0.0]]},
        ),
        # At the margin.
        Example(
            {"left": [[2.0, 0.0]], "right": [[0.0, 3.0]], "targets": [-1]},
            value=0.0,
            gradients={"left": [[0.0, 0.0]], "right": [[0.0, 0.0]]},
        ),
    ),
    kinks=dict.fromkeys(("left", "right"), _distance_to_kinks),
)
def cosine_embedding(
    xp: Any,
    left: Array,
    right: Array,
    targets: Array,
    *,
    margin: Annotated[float, Interval(-1, 1)] = 0.0,
) -> BodyResult:
    """One minus the cosine of similar pairs, the cosine beyond a margin of dissimilar pairs.

        value = 1 - cos for y = 1, max(0, cos - margin) for y = -1, cos = l . r / (|l| |r|)
        gradient = -/+ (r / |r| - cos l / |l|) / |l| with respect to l, and likewise for r
        0 at the kink

    A vector of zeros has the cosine 0 with all others and the gradient 0, and its pair the status
    ZERO_NORM.

    Reference: PyTorch, CosineEmbeddingLoss; R. Hadsell et al., Dimensionality reduction by learning
    an invariant mapping, 2006, for pairs.
    """
    found = cosines(xp, left, right)
    is_alike = targets == 1
    beyond = found.cosine - margin
    value = xp.where(is_alike, found.gap, xp.maximum(beyond, 0))
    factor = xp.where(is_alike, -1.0, beyond > 0)[:, None]
    by_left, by_right = found.derivatives()
    return BodyResult(
        value.astype(left.dtype),
        {"left": factor * by_left, "right": factor * by_right},
        statuses=xp.where(found.has_zero, int(Status.ZERO_NORM), 0),
    )
