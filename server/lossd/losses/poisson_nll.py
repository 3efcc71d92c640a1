"""Negative log-likelihood of counts."""

import math
from typing import Any

from lossd.losses._body import BodyResult
from lossd.losses._declare import CudaText, Example, Shape, loss
from lossd.losses._inputs import BATCH_DIMS, PREDICTIONS, Content, Input
from lossd.losses._maths.constants import LOG_2, LOG_4
from lossd.schema import NONNEGATIVE, Array, Differentiable


@loss(
    Shape.POINTWISE,
    inputs=(
        PREDICTIONS,
        Input(
            "targets",
            "what was counted",
            content=Content.NUMBERS,
            differentiable=Differentiable.ON_REQUEST,
            domain=NONNEGATIVE,
        ),
    ),
    layout=(BATCH_DIMS,),
    cuda=(
        CudaText("""
            const T rate = log_input ? exp(prediction) : prediction;
            const T log_rate = log_input ? prediction : log(prediction);
            const bool is_nothing = target == 0 && rate == 0;
            const bool is_infinite = rate > 0 && rate - rate != 0;
            // With the factorial's logarithm in it, which may be as infinite as the other part.
            const bool is_more = full && target > 1;
            const T log_share = is_more ? log_rate - (log(target) - 1) : log_rate;
            value = is_infinite ? rate : rate - (is_nothing ? T(0) : target * log_share);
            const bool is_near = fabs(prediction) < T(0.5);
            const T above = is_near ? expm1(prediction) - (target - 1) : rate - target;
            const T apart = is_infinite ? T(1) : (rate - target) / rate;
            gradient = log_input ? above : is_nothing ? T(1) : apart;
            if (is_more) value += (log(target) + T(1.8378770664093454)) / 2;  // log(2 pi)
        """),
    ),
    examples=(
        # A rate of exp(log 2) = 2.
        Example(
            {"predictions": [LOG_2], "targets": [3.0]},
            value=2 - 3 * LOG_2,
            gradients={"predictions": [-1.0], "targets": [-LOG_2]},
        ),
        Example(
            {"predictions": [2.0], "targets": [3.0]},
            parameters={"log_input": False},
            value=2 - 3 * LOG_2,
            gradients={"predictions": [-0.5], "targets": [-LOG_2]},
        ),
        # log 4! by Stirling: 4 log 4 - 4 + log(8 pi) / 2.
        Example(
            {"predictions": [0.0], "targets": [4.0]},
            parameters={"full": True},
            value=1 + 3.1572631582441804,
            gradients={"predictions": [-3.0], "targets": [LOG_4 + 0.125]},
        ),
        # A rate of 0 and a count of 0.
        Example(
            {"predictions": [0.0], "targets": [0.0]},
            parameters={"log_input": False},
            value=0.0,
            gradients={"predictions": [1.0]},
        ),
    ),
)
def poisson_nll(
    xp: Any, predictions: Array, targets: Array, *, log_input: bool = True, full: bool = False
) -> BodyResult:
    """Negative log-likelihood of Poisson counts for a predicted rate, up to log y! unless full.

        value = rate - y log rate,  rate = exp(x), or x itself without log_input
        gradient = rate - y, or 1 - y / x without log_input
        full adds y log y - y + log(2 pi y) / 2, Stirling's log y!, where y > 1

    No small number is added in the logarithm: a rate of 0 is fine for a count of 0, and gives an
    infinite value for any other count.  Where exp(x) is beyond the type, beyond 88 in float32, the
    value is infinite and never NaN.  Without log_input a negative rate gives NaN.

    Reference: P. McCullagh and J. A. Nelder, Generalized linear models, 1989, chapter 6.
    """
    if log_input:
        rates, logs = xp.exp(predictions), predictions
        gradient = xp.where(  # near a rate of 1, without the rounding of 1
            abs(predictions) < 0.5, xp.expm1(predictions) - (targets - 1), rates - targets
        )
    else:
        rates, logs = predictions, xp.log(predictions)
        gradient = (predictions - targets) / predictions
        gradient[predictions == xp.inf] = 1
    # With the logarithm of y! in it, which may be as infinite as the other part.
    costs = targets * (logs - _stirling_share(xp, targets) if full else logs)
    if not xp.isfinite(costs).all():
        impossible = (targets == 0) & (logs == -xp.inf)  # a count of 0 gives 0
        costs[impossible] = 0
        if not log_input:
            gradient[impossible] = 1
    value = rates - costs
    if not xp.isfinite(value).all():
        value[rates == xp.inf] = xp.inf
    if full:
        value += _stirling_rest(xp, targets)

    def by_targets() -> Array:
        return _stirling_slope(xp, targets) - logs if full else -logs

    return BodyResult(value, {"predictions": gradient, "targets": by_targets})


def _stirling_share(xp: Any, counts: Array) -> Array:
    """Returns what Stirling's log y! has for each of the y where y > 1, else 0."""
    return xp.where(counts > 1, xp.log(counts) - 1, 0)


def _stirling_rest(xp: Any, counts: Array) -> Array:
    """Returns what else Stirling's log y! has where y > 1, else 0."""
    return xp.where(counts > 1, 0.5 * (xp.log(counts) + math.log(2 * math.pi)), 0)


def _stirling_slope(xp: Any, counts: Array) -> Array:
    return xp.where(counts > 1, xp.log(counts) + 0.5 / counts, 0)
