"""Objectives for gradient boosting: a lossd server computes gradients and curvatures of scores.

XGBoost and LightGBM fit each tree to the first and second derivative of a loss with respect to
each raw score.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd.client.arrays import to_array
from lossd.client.errors import InvalidRequestError
from lossd.client.hints import AnyLoss
from lossd.client.reaching import client_of
from lossd.client.sync import LossClient

Floats = npt.NDArray[np.float64]
Objective = Callable[..., tuple[Floats, Floats]]

# Central differences of gradients in float64 are most exact near the cube root of its precision.
_STEP = 2.0**-17


def objective(
    loss: AnyLoss,
    client: str | LossClient = "localhost:50051",
    *,
    least_curvature: float = 1e-6,
    timeout: float | None = None,
) -> Objective:
    """Returns an objective for XGBoost or LightGBM whose loss a lossd server computes.

        model = xgboost.XGBRegressor(objective=objective(PoissonNll(), "localhost:50051"))
        model = lightgbm.LGBMClassifier(objective=objective(BinaryCrossEntropy()))

    The objective takes targets, raw scores and, if they are given, ``sample_weight``, as estimators
    with the interface of scikit-learn call it: XGBoost by that name.  It returns, for each example,
    the derivative of its loss with respect to its score, and the curvature

        h(s) = (g(s + d) - g(s - d)) / 2d,    d = 2 ** -17 * max(1, |s|),

    the central difference of that derivative g, all from one call in float64.  For a smooth loss
    that is the diagonal of the Hessian to about 1e-9.  Trees divide by the sum of curvatures, so
    none is below ``least_curvature``; for a loss that is linear in pieces, such as
    ``AbsoluteError``, ``Quantile`` and ``Hinge``, give 1.

    Args:
        loss: A loss with one score and one target an example: BinaryCrossEntropy, SquaredError,
            PoissonNll, Huber, LogCosh, Focal, Quantile and the like; or its name.
        client: A client, or the address for one.
        least_curvature: Number that curvatures are at least.
        timeout: Seconds that a call may take, retries included; None for the client's.

    Raises:
        InvalidRequestError: from the objective, if scores are not one an example, or arguments are
            no real numbers; LossdError, as ``LossClient.compute`` raises it.
    """
    remote = client_of(client, timeout)

    def derivatives(
        targets: npt.ArrayLike, scores: npt.ArrayLike, sample_weight: npt.ArrayLike | None = None
    ) -> tuple[Floats, Floats]:
        at = _doubles("scores", scores)
        if at.ndim != 1:
            raise InvalidRequestError(
                f"scores must be one an example, got the shape {at.shape}", field="scores"
            )
        step = _STEP * np.maximum(1.0, np.abs(at))
        above, below = at + step, at - step
        weights = None if sample_weight is None else _doubles("weights", sample_weight)
        result = remote.compute(
            loss,
            np.concatenate([at, above, below]),
            np.tile(to_array("targets", targets), 3),
            weights=None if weights is None else np.tile(weights, 3),
            reduction="sum",
            gradients=["predictions"],
            timeout=timeout,
        )
        if result.per_example is None or result.per_example.shape != (3 * len(at),):
            raise InvalidRequestError(
                "loss must have an example for each score, got one whose examples are others",
                field="loss",
            )
        gradients: Any = result.gradients
        first, more, less = np.split(gradients["predictions"], 3)
        return first, np.maximum((more - less) / (above - below), least_curvature)

    return derivatives


def _doubles(name: str, given: npt.ArrayLike) -> Floats:
    """Returns real numbers in float64; NumPy alone would drop imaginary parts and masks."""
    return to_array(name, given).astype(np.float64)
