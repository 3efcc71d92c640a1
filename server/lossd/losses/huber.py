"""Huber loss."""

from typing import Annotated, Any

from lossd.losses._body import BodyResult
from lossd.losses._declare import CudaText, Example, Shape, loss
from lossd.losses._inputs import BATCH_DIMS, PREDICTIONS, REGRESSION_TARGETS
from lossd.schema import POSITIVE, Array


@loss(
    Shape.POINTWISE,
    inputs=(PREDICTIONS, REGRESSION_TARGETS),
    layout=(BATCH_DIMS,),
    cuda=(
        CudaText("""
            const T residual = prediction - target, most = delta;
            gradient = residual > most ? most : residual < -most ? -most : residual;
            value = gradient * (residual - T(0.5) * gradient);
        """),
    ),
    examples=(
        Example(
            {"predictions": [3.0], "targets": [1.0]},
            value=1.5,
            gradients={"predictions": [1.0], "targets": [-1.0]},
        ),
        Example(
            {"predictions": [1.5], "targets": [1.0]},
            value=0.125,
            gradients={"predictions": [0.5], "targets": [-0.5]},
        ),
        Example(
            {"predictions": [-4.0], "targets": [0.0]},
            parameters={"delta": 2.0},
            value=6.0,
            gradients={"predictions": [-2.0], "targets": [2.0]},
        ),
    ),
)
def huber(
    xp: Any, predictions: Array, targets: Array, *, delta: Annotated[float, POSITIVE] = 1.0
) -> BodyResult:
    """Quadratic for small residuals, linear for large ones.

        value = r^2 / 2                   where |r| <= delta
                delta (|r| - delta / 2)   elsewhere
        gradient = clip(r, -delta, delta),  r = prediction - target

    It is not the smooth L1 loss, which is this divided by delta.

    Reference: P. J. Huber, Robust estimation of a location parameter, 1964, section 4.
    """
    residuals = predictions - targets
    gradient = xp.clip(residuals, -delta, delta)
    # With c = clip(r): c (r - c / 2) is both branches at once.
    residuals -= gradient * 0.5
    residuals *= gradient
    return BodyResult(residuals, {"predictions": gradient, "targets": lambda: -gradient})
