"""Negative log-likelihood of Gaussian noise whose variance is predicted too."""

import math
from typing import Annotated, Any

from lossd.losses._body import BodyResult
from lossd.losses._declare import CudaText, Example, Shape, loss
from lossd.losses._inputs import BATCH_DIMS, PREDICTIONS, REGRESSION_TARGETS, Input
from lossd.losses._maths.constants import LOG_4
from lossd.schema import NONNEGATIVE, POSITIVE, Array, Differentiable

LOG_OF_TWO_PI = math.log(2 * math.pi)


def _distance_to_floor(
    predictions: Array, targets: Array, variances: Array, *, eps: float = 1e-6, full: bool = False
) -> Array:
    del predictions, targets, full
    return abs(variances - eps)


@loss(
    Shape.POINTWISE,
    inputs=(
        PREDICTIONS,
        REGRESSION_TARGETS,
        Input(
            "variances",
            "the variance that the model expects of each target",
            differentiable=Differentiable.ON_REQUEST,
            domain=NONNEGATIVE,
        ),
    ),
    layout=(BATCH_DIMS,),
    cuda=(
        CudaText("""
            const T residual = prediction - target;
            const T floored = variance > T(eps) ? variance : T(eps);
            gradient = residual / floored;
            value = (log(floored) + residual * gradient) / 2;
            if (full) value += T(0.9189385332046727);  // log(2 pi) / 2
        """),
    ),
    examples=(
        Example(
            {"predictions": [3.0], "targets": [1.0], "variances": [4.0]},
            value=(LOG_4 + 1) / 2,
            gradients={"predictions": [0.5], "targets": [-0.5], "variances": [0.0]},
        ),
        Example(
            {"predictions": [1.0], "targets": [4.0], "variances": [1.0]},
            parameters={"full": True},
            value=4.5 + 0.9189385332046727,
            gradients={"predictions": [-3.0], "targets": [3.0], "variances": [-4.0]},
        ),
        # At and below the floor the variance is a constant.
        Example(
            {"predictions": [3.0], "targets": [1.0], "variances": [1.0]},
            parameters={"eps": 1.0},
            value=2.0,
            gradients={"predictions": [2.0], "targets": [-2.0], "variances": [0.0]},
        ),
    ),
    kinks={"variances": _distance_to_floor},
)
def gaussian_nll(
    xp: Any,
    predictions: Array,
    targets: Array,
    variances: Array,
    *,
    full: bool = False,
    eps: Annotated[float, POSITIVE] = 1e-6,
) -> BodyResult:
    """Negative log-likelihood of Gaussian noise of a given variance, up to a constant unless full.

        value = (log v + r^2 / v) / 2,  r = prediction - target,  v = max(variance, eps)
        gradient = r / v; with respect to the variance (1 - r^2 / v) / (2 v) above eps, else 0
        full adds log(2 pi) / 2

    The gradient with respect to the variance is that of the floored function: 0 at the floor and
    below it.

    Reference: D. A. Nix and A. S. Weigend, Estimating the mean and variance of the target
    probability distribution, 1994.
    """
    residuals = predictions - targets
    floored = xp.clip(variances, eps, xp.inf)
    gradient = residuals / floored
    residuals *= gradient
    value = xp.log(floored)
    value += residuals
    value *= 0.5
    if full:
        value += LOG_OF_TWO_PI / 2

    def by_variances() -> Array:
        # Selected, not multiplied: the gradient may overflow.  So may r^2 / v, where it is all.
        derivative = (1 - residuals) / (2 * floored)
        derivative = xp.where(residuals == xp.inf, -0.5 * gradient * gradient, derivative)
        return xp.where(variances <= eps, 0, derivative)

    return BodyResult(
        value,
        {
            "predictions": gradient,
            "targets": lambda: -gradient,
            "variances": by_variances,
        },
    )
