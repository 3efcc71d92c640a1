"""Squared error."""

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
            value = residual * residual;
            gradient = residual + residual;
        """),
    ),
    examples=(
        Example(
            {"predictions": [3.0], "targets": [1.0]},
            value=4.0,
            gradients={"predictions": [4.0], "targets": [-4.0]},
        ),
        Example(
            {"predictions": [[1.0, 2.0]], "targets": [[0.0, 4.0]]},
            value=2.5,
            gradients={"predictions": [[1.0, -2.0]], "targets": [[-1.0, 2.0]]},
        ),
    ),
)
def squared_error(xp: Any, predictions: Array, targets: Array) -> BodyResult:
    """Square of the residual, the negative log-likelihood of Gaussian noise up to constants.

        value = r^2,  gradient = 2 r,  r = prediction - target

    Reference: A.-M. Legendre, Nouvelles methodes pour la determination des orbites des cometes,
    1805, appendix.
    """
    del xp
    residuals = predictions - targets
    gradient = residuals + residuals
    residuals *= residuals
    return BodyResult(residuals, {"predictions": gradient, "targets": lambda: -gradient})
