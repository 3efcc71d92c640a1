"""Quantile loss, also called pinball loss."""

from typing import Annotated, Any

from lossd.losses._body import BodyResult
from lossd.losses._declare import CudaText, Example, Shape, loss
from lossd.losses._inputs import BATCH_DIMS, PREDICTIONS, REGRESSION_TARGETS
from lossd.schema import INSIDE_UNIT, Array


def _distance(predictions: Array, targets: Array, **_parameters: float) -> Array:
    return abs(predictions - targets)


@loss(
    Shape.POINTWISE,
    inputs=(PREDICTIONS, REGRESSION_TARGETS),
    layout=(BATCH_DIMS,),
    cuda=(
        CudaText("""
            const T residual = prediction - target;
            const T high = 1 - quantile, low = -quantile;
            gradient = residual > 0 ? high : residual < 0 ? low : residual;
            value = (residual < 0 ? low : high) * residual;
        """),
    ),
    examples=(
        Example(
            {"predictions": [1.0], "targets": [5.0]},
            parameters={"quantile": 0.75},
            value=3.0,
            gradients={"predictions": [-0.75], "targets": [0.75]},
        ),
        Example(
            {"predictions": [5.0], "targets": [1.0]},
            parameters={"quantile": 0.75},
            value=1.0,
            gradients={"predictions": [0.25], "targets": [-0.25]},
        ),
        # The subgradient at the kink is 0.
        Example(
            {"predictions": [2.0], "targets": [2.0]},
            value=0.0,
            gradients={"predictions": [0.0], "targets": [0.0]},
        ),
    ),
    kinks={"predictions": _distance, "targets": _distance},
)
def quantile(
    xp: Any, predictions: Array, targets: Array, *, quantile: Annotated[float, INSIDE_UNIT] = 0.5
) -> BodyResult:
    """Absolute error with different weights for too low and too high, minimised by a quantile.

        value = q |r|         where r < 0, the prediction being too low
                (1 - q) |r|   elsewhere
        gradient = -q where r < 0, 1 - q where r > 0,  r = prediction - target

    At r = 0 the gradient is 0.  A NaN gives a NaN gradient.  With a quantile of 1/2 it is half the
    absolute error.

    Reference: R. Koenker and G. Bassett, Regression quantiles, 1978.
    """
    residuals = predictions - targets
    gradient = (residuals > 0).astype(residuals.dtype)
    gradient *= 1 - quantile
    gradient -= (residuals < 0) * residuals.dtype.type(quantile)
    value = residuals * gradient
    if not xp.isfinite(residuals).all():
        gradient[xp.isnan(residuals)] = xp.nan
    return BodyResult(value, {"predictions": gradient, "targets": lambda: -gradient})
