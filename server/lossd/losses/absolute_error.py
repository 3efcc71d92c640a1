"""Absolute error."""

from typing import Any

from lossd.losses._body import BodyResult
from lossd.losses._declare import CudaText, Example, Shape, loss
from lossd.losses._inputs import BATCH_DIMS, PREDICTIONS, REGRESSION_TARGETS
from lossd.schema import Array


@loss(
    Shape.POINTWISE,
    inputs=(PREDICTIONS, REGRESSION_TARGETS),
    layout=(BATCH_DIMS,),
    cuda=(
        CudaText("""
            const T residual = prediction - target;
            value = fabs(residual);
            gradient = residual > 0 ? T(1) : residual < 0 ? T(-1) : residual;  // 0 and NaN
        """),
    ),
    examples=(
        Example(
            {"predictions": [3.0], "targets": [5.5]},
            value=2.5,
            gradients={"predictions": [-1.0], "targets": [1.0]},
        ),
        # The subgradient at the kink is 0.
        Example(
            {"predictions": [2.0], "targets": [2.0]},
            value=0.0,
            gradients={"predictions": [0.0], "targets": [0.0]},
        ),
    ),
    kinks=dict.fromkeys(
        ("predictions", "targets"), lambda predictions, targets: abs(predictions - targets)
    ),
)
def absolute_error(xp: Any, predictions: Array, targets: Array) -> BodyResult:
    """Magnitude of the residual, the negative log-likelihood of Laplace noise up to constants.

        value = |r|,  gradient = sign(r),  r = prediction - target

    At r = 0 the gradient is 0.  A NaN gives a NaN gradient.

    Reference: R. J. Boscovich, De litteraria expeditione per pontificiam ditionem, 1757.
    """
    residuals = predictions - targets
    gradient = xp.sign(residuals)
    return BodyResult(abs(residuals), {"predictions": gradient, "targets": lambda: -gradient})
