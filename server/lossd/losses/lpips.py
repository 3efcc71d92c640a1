"""Learned perceptual image patch similarity."""

from dataclasses import dataclass, replace
from typing import Any

from lossd.losses._body import BodyResult
from lossd.losses._declare import Example, Shape, loss
from lossd.losses._inputs import (
    NETWORK,
    PREDICTIONS,
    REGRESSION_TARGETS,
    REPLICATE_GREY,
    VALUE_RANGE,
)
from lossd.schema import Array

# Added to a length, as the authors do, so that the numbers agree with theirs to the last digit.
EPS = 1e-10

# The network of the examples turns a pixel x into (1000 x, 4000), and rectifies both; its heads are
# (1, 2) for the first and (3, 1) for the second.  The one with colours turns equal channels into
# (x, -x).
_WORKED = {"network": "worked_with_heads", "value_range": (0.0, 1.0)}
_COLOURS = {"network": "worked_in_colour", "value_range": (0.0, 1.0), "replicate_grey": True}


@loss(
    Shape.IMAGES,
    layout=(NETWORK, VALUE_RANGE, REPLICATE_GREY),
    inputs=(
        replace(PREDICTIONS, description="images that the model makes"),
        replace(REGRESSION_TARGETS, description="images that it should have made"),
    ),
    examples=(
        # Directions of (0.6, 0.8) and (-0.6, 0.8); rectified the second is (0, 1).
        Example(
            {"predictions": [[[[3.0]]]], "targets": [[[[-3.0]]]]},
            parameters=_WORKED,
            value=1.44 + 1.12,
            gradients={"predictions": [[[[0.3072 + 0.4992]]]], "targets": [[[[-0.3072]]]]},
        ),
        # A second pixel is the same in both: the mean over positions halves the value.
        Example(
            {"predictions": [[[[3.0, 2.0]]]], "targets": [[[[-3.0, 2.0]]]]},
            parameters=_WORKED,
            value=1.28,
            gradients={"predictions": [[[[0.4032, 0.0]]]]},
        ),
        # Black has no direction, and no gradient.
        Example(
            {"predictions": [[[[0.0]]]], "targets": [[[[1e4]]]]},
            parameters=_COLOURS,
            value=1.5 + 3.0,
            gradients={"predictions": [[[[0.0]]]]},
        ),
    ),
)
def lpips(xp: Any, *arrays: Array) -> BodyResult:
    """Learned perceptual image patch similarity (LPIPS), with linear heads on a network's layers.

        value = sum_l mean_p sum_c h_lc (u_lcp(x) - u_lcp(y))^2,  over positions p and channels c
        u_lp(x) = f_lp(x) / (|f_lp(x)| + 1e-10)
        f_l(x) = layer l of the network for ((x - low) / (high - low) - mean) / std
        gradient = sum_l (2 h_l (u_l(x) - u_l(y)) / positions) du_l/df_l df_l/dx

    The network is one of the server's that has the heads h.  Pixels go from low to high, the
    value_range.  A position whose channels are all 0 has no direction: u and gradient are 0 there.
    The subgradient of a rectifier at 0 is 0; among equals in a max pool the first one has the
    gradient.

    Reference: R. Zhang et al., The unreasonable effectiveness of deep features as a perceptual
    metric, 2018, section 3, equation 1.
    """
    layers = len(arrays) // 3
    value = xp.zeros(len(arrays[0]), arrays[0].dtype)
    gradients: dict[str, Array] = {}
    for layer in range(layers):
        head = arrays[2 * layers + layer][None, :, None]
        sides = [_ChannelDirections.of(xp, arrays[layer + side * layers]) for side in (0, 1)]
        apart = sides[0].scaled() - sides[1].scaled()
        weighted = head * apart
        positions = apart.shape[2]
        value += (weighted * apart).reshape(len(apart), -1).sum(axis=-1) / positions
        weighted *= 2 / positions
        gradients[f"predictions[{layer}]"] = sides[0].derivatives(xp, weighted)
        gradients[f"targets[{layer}]"] = -sides[1].derivatives(xp, weighted)
    return BodyResult(value, gradients)


@dataclass(frozen=True, slots=True)
class _ChannelDirections:
    """The direction of the channels at each position, 0 where there is none, and their length."""

    units: Array
    lengths: Array

    @classmethod
    def of(cls, xp: Any, maps: Array) -> "_ChannelDirections":
        """Returns the directions of maps, without overflow."""
        largest = abs(maps).max(axis=1, keepdims=True)
        scale = xp.where((largest > 0) & (largest < xp.inf), largest, 1)
        parts = maps / scale
        norms = xp.sqrt((parts * parts).sum(axis=1, keepdims=True))
        return cls(parts / xp.where(norms == 0, 1, norms), scale * norms)

    def scaled(self) -> Array:
        """Returns the maps divided by their length plus the constant."""
        return self.units * self._shrinking()

    def derivatives(self, xp: Any, given: Array) -> Array:
        """Returns the gradient with respect to the maps from that with respect to these."""
        along = (given * self.units).sum(axis=1, keepdims=True)
        across = given - self.units * (along * self._shrinking())
        return xp.where(self.lengths == 0, 0, across / (self.lengths + EPS))

    def _shrinking(self) -> Array:
        """Returns the length after scaling; the length before may be infinite, or 0."""
        return 1 / (1 + EPS / self.lengths)
