"""Distance between feature maps."""

from dataclasses import replace
from typing import Annotated, Any

from lossd.losses._body import BodyResult
from lossd.losses._declare import Example, Shape, loss
from lossd.losses._inputs import PREDICTIONS, REGRESSION_TARGETS
from lossd.losses._maths.feature_distance import feature_distance
from lossd.losses._maths.vectors import Distance
from lossd.schema import NONNEGATIVE, Array, Vector


@loss(
    Shape.FEATURES,
    inputs=(
        replace(
            PREDICTIONS,
            description="feature maps of what the model says, one for each layer",
            is_list=True,
        ),
        replace(
            REGRESSION_TARGETS,
            description="feature maps of what it should have said",
            is_list=True,
        ),
    ),
    examples=(
        Example(
            {"predictions": [[3.0, 0.0]], "targets": [[0.0, 4.0]]},
            value=12.5,
            gradients={"predictions": [[3.0, -4.0]], "targets": [[-3.0, 4.0]]},
        ),
        Example(
            {"predictions": [[3.0, 0.0]], "targets": [[0.0, 4.0]]},
            parameters={"distance": Distance.EUCLIDEAN, "layer_weights": (2.0,)},
            value=10 / 2**0.5,
            gradients={"predictions": [[1.2 / 2**0.5, -1.6 / 2**0.5]]},
        ),
        Example(
            {"predictions": [[3.0, 0.0]], "targets": [[0.0, 4.0]]},
            parameters={"distance": Distance.COSINE},
            value=1.0,
            gradients={"predictions": [[0.0, -1 / 3]], "targets": [[-0.25, 0.0]]},
        ),
        # One channel of two positions: Gram matrices of 2^2 / 2 and 0.
        Example(
            {"predictions": [[[2.0, 0.0]]], "targets": [[[0.0, 0.0]]]},
            parameters={"style_weight": 1.0},
            value=2.0 + 4.0,
            gradients={"predictions": [[[2.0 + 8.0, 0.0]]], "targets": [[[-2.0, 0.0]]]},
        ),
    ),
)
def feature_matching(
    xp: Any,
    *maps: Array,
    layer_weights: Annotated[Vector, NONNEGATIVE] = (),
    distance: Distance = Distance.SQUARED_EUCLIDEAN,
    style_weight: Annotated[float, NONNEGATIVE] = 0.0,
) -> BodyResult:
    """Weighted sum over layers of the distance of two feature maps, and of their styles.

        value = sum_l w_l (d(x_l, y_l) + s |G(x_l) - G(y_l)|^2),  s = style_weight
        d(x, y) = |x - y|^2 / n      SQUARED_EUCLIDEAN, n elements of a map
                  |x - y| / sqrt n   EUCLIDEAN
                  1 - cos(x, y)      COSINE, of the whole map
        G(x) = x x' / n, of the channels of a map (channels, positions)
        gradient = w_l (2 (x - y) / n + 4 s (G(x) - G(y)) x / n)   SQUARED_EUCLIDEAN

    The caller computes the maps, and the gradients are with respect to the maps.  Axis 1 of a map
    counts channels, the axes after it positions.  Where two maps are equal the
    subgradient of the Euclidean distance is 0.  A map that is 0 everywhere has the cosine 0 with
    all others and gradient 0, and its example has the status ZERO_NORM.

    Reference: L. A. Gatys et al., A neural algorithm of artistic style, 2015; J. Johnson et al.,
    Perceptual losses, 2016, section 3.2; for critics: T. Salimans et al., 2016, section 3.1.
    """
    return feature_distance(
        xp, maps, layer_weights=layer_weights, distance=distance, style_weight=style_weight
    )
