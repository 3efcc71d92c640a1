"""Contrastive loss of pairs."""

from typing import Annotated, Any

import numpy as np

from lossd.losses._body import BodyResult
from lossd.losses._declare import Example, Shape, loss
from lossd.losses._inputs import Axes, Content, Input
from lossd.losses._maths.masked_products import selected
from lossd.losses._maths.vectors import Distance, distances, each_component, zero_norms
from lossd.schema import POSITIVE, Array, Choices, Differentiable


def _distance_to_kinks(
    left: Array,
    right: Array,
    targets: Array,
    *,
    margin: float = 1,
    distance: Distance = Distance.EUCLIDEAN,
) -> Array:
    """Returns how far a dissimilar pair is from being one point; squares have no kink."""
    del margin
    found = np.full(len(left), np.inf)
    if distance is Distance.EUCLIDEAN:
        found = np.where(targets == 1, np.inf, distances(np, left, right, distance).value)
    return each_component(found, left)


@loss(
    Shape.VECTORS,
    inputs=(
        Input("left", "an embedding", differentiable=Differentiable.BY_DEFAULT),
        Input("right", "the embedding beside it", differentiable=Differentiable.BY_DEFAULT),
        Input(
            "targets",
            "1 where the two are similar, 0 where not",
            content=Content.NUMBERS,
            domain=Choices((0, 1)),
            axes=Axes.EXAMPLES,
        ),
    ),
    examples=(
        Example(
            {"left": [[3.0, 0.0]], "right": [[0.0, 4.0]], "targets": [1]},
            value=25.0,
            gradients={"left": [[6.0, -8.0]], "right": [[-6.0, 8.0]]},
        ),
        Example(
            {"left": [[0.3, 0.0]], "right": [[0.0, 0.4]], "targets": [0]},
            value=0.25,
            gradients={"left": [[-0.6, 0.8]], "right": [[0.6, -0.8]]},
        ),
        Example(
            {"left": [[3.0, 0.0]], "right": [[0.0, 4.0]], "targets": [0]},
            parameters={"margin": 6.0},
            value=1.0,
            gradients={"left": [[-1.2, 1.6]], "right": [[1.2, -1.6]]},
        ),
        Example(
            {"left": [[1.0]], "right": [[0.0]], "targets": [0]},
            parameters={"margin": 3.0, "distance": Distance.SQUARED_EUCLIDEAN},
            value=4.0,
            gradients={"left": [[-8.0]], "right": [[8.0]]},
        ),
        # Equal points, whose distance has no gradient.
        Example(
            {"left": [[1.0, 2.0]], "right": [[1.0, 2.0]], "targets": [0]},
            value=1.0,
            gradients={"left": [[0.0, 0.0]], "right": [[0.0, 0.0]]},
        ),
        # The cosine is 3/5.
        Example(
            {"left": [[5.0, 0.0]], "right": [[3.0, 4.0]], "targets": [1]},
            parameters={"distance": Distance.COSINE},
            value=0.16,
            gradients={"left": [[0.0, -0.128]], "right": [[-0.1024, 0.0768]]},
        ),
    ),
    kinks=dict.fromkeys(("left", "right"), _distance_to_kinks),
)
def contrastive(
    xp: Any,
    left: Array,
    right: Array,
    targets: Array,
    *,
    margin: Annotated[float, POSITIVE] = 1.0,
    distance: Distance = Distance.EUCLIDEAN,
) -> BodyResult:
    """Squared distance of similar pairs, squared shortfall from a margin of dissimilar pairs.

        value = y d^2 + (1 - y) max(0, margin - d)^2
        gradient = 2 (y d - (1 - y) max(0, margin - d)) d', d' the gradient of d
        0 where the two points are equal

    The distance d is the length of the difference, its square, or one minus the cosine.  With
    COSINE, a vector of zeros is at the distance 1 of all others with gradient 0, and its pair has
    the status ZERO_NORM.

    Reference: R. Hadsell et al., Dimensionality reduction by learning an invariant mapping, 2006,
    section 2.1, without the factor 1/2.
    """
    found = distances(xp, left, right, distance)
    short = xp.maximum(margin - found.value, 0)
    is_similar = targets == 1
    value = xp.where(is_similar, found.value, short) ** 2
    factor = (2 * xp.where(is_similar, found.value, -short))[:, None]
    by_left, by_right = found.derivatives()
    return BodyResult(
        value.astype(left.dtype),
        # A component without a gradient has none, however large the distance.
        {"left": selected(xp, by_left, factor), "right": selected(xp, by_right, factor)},
        statuses=zero_norms(xp, found),
    )
