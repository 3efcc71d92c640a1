"""Hinge loss of yes-or-no answers."""

from typing import Annotated, Any

from lossd.losses._body import BodyResult
from lossd.losses._declare import CudaText, Example, Shape, loss
from lossd.losses._inputs import BATCH_DIMS, PREDICTIONS, Content, Input
from lossd.losses._maths.hinge_power import powered
from lossd.schema import AT_LEAST_1, NONNEGATIVE, Array, Choices


def _distance_to_margin(
    predictions: Array, targets: Array, *, margin: float = 1, power: float = 1
) -> Array:
    """Returns the distance to the margin; with a power above 1 there is no kink."""
    return abs(predictions * targets - margin) + (float("inf") if power > 1 else 0)


@loss(
    Shape.POINTWISE,
    inputs=(
        PREDICTIONS,
        Input("targets", "the answers: -1 or 1", content=Content.NUMBERS, domain=Choices((-1, 1))),
    ),
    layout=(BATCH_DIMS,),
    cuda=(
        CudaText("""
            const T missed = T(margin) - target * prediction;
            const T excess = missed > 0 ? missed : missed < 0 ? T(0) : missed;  // 0 and NaN
            const T slope = excess > 0 ? pow(excess, T(power - 1)) : excess;
            value = slope * excess;
            gradient = -target * T(power) * slope;
        """),
    ),
    examples=(
        Example(
            {"predictions": [0.25], "targets": [1.0]},
            value=0.75,
            gradients={"predictions": [-1.0]},
        ),
        Example(
            {"predictions": [1.0], "targets": [-1.0]},
            parameters={"margin": 0.5, "power": 2.0},
            value=2.25,
            gradients={"predictions": [3.0]},
        ),
        Example(
            {"predictions": [-3.0], "targets": [-1.0]},
            value=0.0,
            gradients={"predictions": [0.0]},
        ),
        # The subgradient at the kink is 0.
        Example(
            {"predictions": [1.0], "targets": [1.0]},
            value=0.0,
            gradients={"predictions": [0.0]},
        ),
    ),
    kinks={"predictions": _distance_to_margin},
)
def hinge(
    xp: Any,
    predictions: Array,
    targets: Array,
    *,
    margin: Annotated[float, NONNEGATIVE] = 1.0,
    power: Annotated[float, AT_LEAST_1] = 1.0,
) -> BodyResult:
    """Shortfall of the score from a margin on the target's side, raised to a power.

        value = max(0, margin - y x)^power
        gradient = -y power max(0, margin - y x)^(power - 1)

    With a power of 1 the gradient is 0 where y x is the margin.  A power of 2 is the squared hinge.

    Reference: C. Cortes and V. Vapnik, Support-vector networks, 1995, section 3.
    """
    missed = predictions * targets
    xp.subtract(margin, missed, out=missed)
    value, gradient = powered(xp, xp.clip(missed, 0, xp.inf), power)
    gradient *= targets
    xp.negative(gradient, out=gradient)
    return BodyResult(value, {"predictions": gradient})
