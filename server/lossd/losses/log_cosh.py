"""Logarithm of the hyperbolic cosine."""

from typing import Any

from lossd.losses._body import BodyResult
from lossd.losses._declare import CudaText, Example, Shape, loss
from lossd.losses._inputs import BATCH_DIMS, PREDICTIONS, REGRESSION_TARGETS
from lossd.losses._maths.constants import LOG_2
from lossd.schema import Array

# Beyond this the function is linear to more digits than float64 has: exp(-40) is 4e-18.
STRAIGHT = 20.0


@loss(
    Shape.POINTWISE,
    inputs=(PREDICTIONS, REGRESSION_TARGETS),
    layout=(BATCH_DIMS,),
    cuda=(
        CudaText("""
            const T residual = prediction - target;
            const T bent = residual > 20 ? T(20) : residual < -20 ? T(-20) : residual;
            const T sine = sinh(bent);
            value = log1p(sine * sine) / 2 + (fabs(residual) - fabs(bent));
            gradient = tanh(residual);
        """),
    ),
    examples=(
        # cosh(log 2) = (2 + 1/2) / 2 and tanh(log 2) = (2 - 1/2) / (2 + 1/2).
        Example(
            {"predictions": [LOG_2], "targets": [0.0]},
            value=0.22314355131420976,
            gradients={"predictions": [0.6], "targets": [-0.6]},
        ),
        # For large |r| it is |r| - log 2.
        Example(
            {"predictions": [-10000.0], "targets": [0.0]},
            value=9999.306852819441,
            gradients={"predictions": [-1.0], "targets": [1.0]},
        ),
    ),
)
def log_cosh(xp: Any, predictions: Array, targets: Array) -> BodyResult:
    """Quadratic near zero and linear far from it, with derivatives of every order.

        value = log cosh r,  gradient = tanh r,  r = prediction - target

    It is computed as log(1 + sinh(r)^2) / 2, which keeps all digits of small residuals.  r is
    clipped and the excess added, so that nothing overflows.

    Reference: P. J. Green, Bayesian reconstructions from emission tomography data using a modified
    EM algorithm, 1990.
    """
    residuals = predictions - targets
    gradient = xp.tanh(residuals)
    bent = xp.clip(residuals, -STRAIGHT, STRAIGHT)
    residuals -= bent
    xp.sinh(bent, out=bent)
    bent *= bent
    xp.log1p(bent, out=bent)
    bent *= 0.5
    bent += abs(residuals)
    return BodyResult(bent, {"predictions": gradient, "targets": lambda: -gradient})
