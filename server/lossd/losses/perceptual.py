"""Distance between images in the layers of a network."""

from dataclasses import replace
from typing import Annotated, Any

from lossd.losses._body import BodyResult
from lossd.losses._declare import Example, Shape, loss
from lossd.losses._inputs import (
    LAYERS,
    NETWORK,
    PREDICTIONS,
    REGRESSION_TARGETS,
    REPLICATE_GREY,
    VALUE_RANGE,
)
from lossd.losses._maths.feature_distance import feature_distance
from lossd.losses._maths.vectors import Distance
from lossd.schema import NONNEGATIVE, Array, Vector

# The network of the examples turns a pixel x into x and -x, and rectifies both.
_WORKED = {"network": "worked", "layers": ("linear", "rectified"), "value_range": (0.0, 1.0)}


@loss(
    Shape.IMAGES,
    layout=(NETWORK, LAYERS, VALUE_RANGE, REPLICATE_GREY),
    inputs=(
        replace(PREDICTIONS, description="images that the model makes"),
        replace(REGRESSION_TARGETS, description="images that it should have made"),
    ),
    examples=(
        # Maps of (3, -3) and (1, -1), which are (3, 0) and (1, 0) rectified.
        Example(
            {"predictions": [[[[3.0]]]], "targets": [[[[1.0]]]]},
            parameters=_WORKED,
            value=4.0 + 2.0,
            gradients={"predictions": [[[[4.0 + 2.0]]]], "targets": [[[[-6.0]]]]},
        ),
        # Pixels of 0 to 2 are half as large for the network.
        Example(
            {"predictions": [[[[3.0]]]], "targets": [[[[1.0]]]]},
            parameters={
                **_WORKED,
                "value_range": (0.0, 2.0),
                "layer_weights": (0.0, 3.0),
                "distance": Distance.EUCLIDEAN,
            },
            value=3 / 2**0.5,
            gradients={"predictions": [[[[1.5 / 2**0.5]]]]},
        ),
        # Opposite pixels have orthogonal maps.
        Example(
            {"predictions": [[[[3.0]]]], "targets": [[[[-1.0]]]]},
            parameters={**_WORKED, "distance": Distance.COSINE, "layer_weights": (1.0, 0.5)},
            value=2.0 + 0.5,
            gradients={"predictions": [[[[0.0]]]]},
        ),
        # Gram matrices of 4 / 2 and 0 in the only channel that is not 0.
        Example(
            {"predictions": [[[[2.0]]]], "targets": [[[[0.0]]]]},
            parameters={**_WORKED, "layers": ("rectified",), "style_weight": 1.0},
            value=2.0 + 4.0,
            gradients={"predictions": [[[[2.0 + 8.0]]]]},
        ),
        # Three equal channels are the same as one grey channel.
        Example(
            {"predictions": [[[[3.0]]]], "targets": [[[[1.0]]]]},
            parameters={**_WORKED, "network": "worked_in_colour", "replicate_grey": True},
            value=4.0 + 2.0,
            gradients={"predictions": [[[[6.0]]]]},
        ),
    ),
)
def perceptual(
    xp: Any,
    *maps: Array,
    layer_weights: Annotated[Vector, NONNEGATIVE] = (),
    distance: Distance = Distance.SQUARED_EUCLIDEAN,
    style_weight: Annotated[float, NONNEGATIVE] = 0.0,
) -> BodyResult:
    """Weighted sum over a network's layers of the distance of two images, and of their styles.

        value = sum_l w_l (d(f_l(x), f_l(y)) + s |G(f_l(x)) - G(f_l(y))|^2),  s = style_weight
        d(a, b) = |a - b|^2 / n      SQUARED_EUCLIDEAN, n elements of a map
                  |a - b| / sqrt n   EUCLIDEAN
                  1 - cos(a, b)      COSINE, of the whole map
        G(a) = a a' / n, of the channels of a map (channels, positions)
        f_l(x) = layer l of the network for ((x - low) / (high - low) - mean) / std
        gradient = sum_l w_l (2 (f_l(x) - f_l(y)) / n) df_l/dx       SQUARED_EUCLIDEAN

    The network is one of the server's.  Pixels go from low to high, the value_range.  Where two
    maps are equal the subgradient of the Euclidean distance is 0, and so is that of a rectifier at
    0; among equals in a max pool the first one has the gradient.  A map that is 0 everywhere has
    the cosine 0 with all others and gradient 0, and its example has the status ZERO_NORM.

    Reference: J. Johnson et al., Perceptual losses, 2016, section 3.2; L. A. Gatys et al., A neural
    algorithm of artistic style, 2015.
    """
    return feature_distance(
        xp, maps, layer_weights=layer_weights, distance=distance, style_weight=style_weight
    )
