"""Objectives for gradient boosting: a lossd server computes gradients and curvatures of scores.

XGBoost and LightGBM fit each tree to the first and second derivative of a loss with respect to
each raw score.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from lossd.client import arguments, kinds
from lossd.client.arrays import to_array
from lossd.client.errors import InvalidRequestError
from lossd.client.hints import AnyLoss  # noqa: TC001 - a type hint that may be asked for
from lossd.client.reaching import client_of
from lossd.client.sync import LossClient

Floats = npt.NDArray[np.float64]
Objective = Callable[..., tuple[Floats, Floats]]

# Central differences of gradients in float64 are most exact near the cube root of its precision.
# A loss of the score minus its target curves as much at large scores as at small ones, so that a
# step must not grow with them, but for what float64 can tell from the score.
_STEP = 2.0**-17
_PART = 2.0**-30
# A derivative that changes by more than this part of itself within two steps may jump there.
_JUMP = 0.5


def objective(
    loss: "AnyLoss",
    client: str | LossClient = "localhost:50051",
    *,
    least_curvature: float = 1e-6,
    timeout: float | None = None,
) -> "Objective":
    """Returns an objective for XGBoost or LightGBM whose loss a lossd server computes.

        model = xgboost.XGBRegressor(objective=objective(PoissonNll(), "localhost:50051"))
        model = lightgbm.LGBMClassifier(objective=objective(BinaryCrossEntropy()))

    The objective takes targets, raw scores and, if they are given, ``sample_weight``, as estimators
    with the interface of scikit-learn call it: XGBoost by that name.  It returns, for each example,
    the derivative of its loss with respect to its score, and the curvature

        h(s) = (g(s + d) - g(s - d)) / 2d,    d = max(2 ** -17, 2 ** -30 * |s|),

    the central difference of that derivative g, all from one call in float64.  For a smooth loss
    that is the diagonal of the Hessian but for about |h''(s)| d ** 2 / 6 + 2 ** -53 |g(s)| / d, of
    ``LogCosh`` 1e-9 at scores of 1e5, 1e-7 at 1e6 and 1e-3 at 1e8; and 0 where the derivative
    jumps, which a second call finds out.  Trees divide by the sum of curvatures, so none is below
    ``least_curvature``; for a loss that is linear in pieces, such as ``AbsoluteError``,
    ``Quantile`` and ``Hinge``, give 1.  A model can be pickled with it; the copy connects anew.

    Args:
        loss: A loss of one score and one target for each example: BinaryCrossEntropy, SquaredError,
            PoissonNll, Huber, LogCosh, Focal, Quantile and the like; or its name.
        client: A client, or the address for one.
        least_curvature: Number that curvatures are at least, in [0, inf).
        timeout: Seconds that a call may take, retries included; None for the client's.

    Raises:
        InvalidRequestError: if ``loss`` is none, ``least_curvature`` is out of its bounds, or
            ``client`` is neither; from the objective, if scores, targets or weights are not one
            real number for each example; LossdError, as ``LossClient.compute`` raises it.
    """
    kinds.loss_names(kinds.spec_of(loss))
    return _Derivatives(
        kinds.message_of(loss), client_of(client, timeout), _least(least_curvature), timeout
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Derivatives:
    """An objective: a class, since a model is pickled with it."""

    loss: Any
    client: LossClient
    least: float
    timeout: float | None

    def __call__(
        self,
        targets: npt.ArrayLike,
        scores: npt.ArrayLike,
        sample_weight: npt.ArrayLike | None = None,
    ) -> tuple[Floats, Floats]:
        at = _doubles("scores", scores)
        if at.ndim != 1:
            raise InvalidRequestError(
                f"scores must be one an example, got the shape {at.shape}", field="scores"
            )
        step = np.maximum(_STEP, _PART * np.abs(at))
        weights = None if sample_weight is None else _doubles("weights", sample_weight)
        problem = _ScoredExamples(at, to_array("targets", targets), weights)
        first, slopes, may_jump = self._slopes(problem, step)
        if may_jump.any():
            nearer = self._slopes(problem.part(may_jump), step[may_jump] / 2)[1]
            wide = slopes[may_jump]
            slopes[may_jump] = np.where(nearer > 1.5 * wide, 0.0, np.minimum(nearer, wide))
        return first, np.maximum(slopes, self.least)

    def _slopes(
        self, problem: "_ScoredExamples", step: Floats
    ) -> tuple[Floats, Floats, npt.NDArray[Any]]:
        """Returns derivatives, their central differences, and where they may jump.

        Over a jump the difference doubles with half of the step, or the jump is beyond that.
        """
        at = problem.scores
        with _of_data():
            above, below = at + step, at - step
        result = self.client.compute(
            self.loss,
            np.concatenate([at, above, below]),
            _thrice("targets", problem.targets, len(at)),
            weights=None
            if problem.weights is None
            else _thrice("weights", problem.weights, len(at)),
            reduction="sum",
            gradients=["predictions"],
            timeout=self.timeout,
        )
        if result.per_example is None or result.per_example.shape != (3 * len(at),):
            raise InvalidRequestError(
                "loss must have an example for each score, got one whose examples are others",
                field="loss",
            )
        gradients: Any = result.gradients
        first, more, less = np.split(gradients["predictions"], 3)
        with _of_data():
            may_jump = np.abs(more - less) > _JUMP * (np.abs(more) + np.abs(less))
            return first, (more - less) / (above - below), may_jump


@dataclass(frozen=True, slots=True, eq=False)
class _ScoredExamples:
    """Scores of examples, with their targets and weights."""

    scores: Floats
    targets: npt.NDArray[Any]
    weights: Floats | None

    def part(self, some: npt.NDArray[Any]) -> "_ScoredExamples":
        """Returns some examples."""
        weights = None if self.weights is None else self.weights[some]
        return _ScoredExamples(self.scores[some], self.targets[some], weights)


def _least(given: object) -> float:
    found: Any = arguments.number("least_curvature", cast("Any", given))
    if found is None or not 0 <= found < np.inf:
        raise InvalidRequestError(
            f"least_curvature must be in [0, inf), got {given!r}", field="least_curvature"
        )
    return float(found)


def _of_data() -> AbstractContextManager[None]:
    """Silences NumPy where scores are NaN or infinite, which is data and shows in the results."""
    return np.errstate(invalid="ignore", over="ignore")


def _thrice(name: str, given: npt.NDArray[Any], count: int) -> npt.NDArray[Any]:
    """Returns one number for each score as one for each score, the one above and the one below."""
    if given.shape != (count,):
        raise InvalidRequestError(
            f"{name} must have the shape [{count}] of scores, got {list(given.shape)}", field=name
        )
    return np.tile(given, 3)


def _doubles(name: str, given: npt.ArrayLike) -> Floats:
    """Returns real numbers in float64; NumPy alone would drop imaginary parts and masks."""
    return to_array(name, given).astype(np.float64)
