"""Smooth L1 loss."""

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
            const T residual = prediction - target, most = beta;
            const T clipped = residual > most ? most : residual < -most ? -most : residual;
            gradient = clipped / most;
            value = gradient * (residual - T(0.5) * clipped);
        """),
    ),
    examples=(
        Example(
            {"predictions": [3.0], "targets": [1.0]},
            value=1.5,
            gradients={"predictions": [1.0], "targets": [-1.0]},
        ),
        Example(
            {"predictions": [1.0], "targets": [2.0]},
            parameters={"beta": 4.0},
            value=0.125,
            gradients={"predictions": [-0.25], "targets": [0.25]},
        ),
        Example(
            {"predictions": [-3.0], "targets": [0.0]},
            parameters={"beta": 2.0},
            value=2.0,
            gradients={"predictions": [-1.0], "targets": [1.0]},
        ),
    ),
)
def smooth_l1(
    xp: Any, predictions: Array, targets: Array, *, beta: Annotated[float, POSITIVE] = 1.0
) -> BodyResult:
    """Absolute error whose tip is rounded off by a parabola.

        value = r^2 / (2 beta)   where |r| <= beta
                |r| - beta / 2   elsewhere
        gradient = clip(r / beta, -1, 1),  r = prediction - target

    It is the Huber loss divided by its delta.

    Reference: R. Girshick, Fast R-CNN, 2015, section 2.3.
    """
    residuals = predictions - targets
    gradient = xp.clip(residuals, -beta, beta)
    # With c = clip(r): c (r - c / 2) is both branches at once.
    residuals -= gradient * 0.5
    gradient /= beta
    residuals *= gradient
    return BodyResult(residuals, {"predictions": gradient, "targets": lambda: -gradient})
