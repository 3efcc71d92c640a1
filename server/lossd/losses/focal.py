"""Focal loss of yes-or-no answers."""

from typing import Annotated, Any

from lossd.losses._body import BodyResult
from lossd.losses._declare import CudaText, Example, Shape, loss
from lossd.losses._inputs import BATCH_DIMS, PREDICTIONS, Content, Input
from lossd.losses._maths.constants import LOG_2, LOG_3
from lossd.losses._maths.masked_products import weighted
from lossd.losses._maths.sigmoid import SIGMOID_COST, sigmoid_cost
from lossd.losses.binary_cross_entropy import binary_cross_entropy
from lossd.schema import NONNEGATIVE, UNIT, Array, Differentiable


@loss(
    Shape.POINTWISE,
    inputs=(
        PREDICTIONS,
        Input(
            "targets",
            "the probability of yes: 0, 1 or between",
            content=Content.NUMBERS,
            differentiable=Differentiable.ON_REQUEST,
            domain=UNIT,
        ),
    ),
    layout=(BATCH_DIMS,),
    cuda=(
        CudaText(
            """
            const T positive = target;
            const T negative = 1 - target, apart = 1 - 2 * target;
            """
            + SIGMOID_COST
            + """
            const bool is_balanced = alpha == alpha;
            if (gamma == 0 && !is_balanced) return;
            const T doubt = negative * yes + positive * no;
            // Where doubt underflows, so does the cost that this is multiplied by.
            const T bend = (negative - positive) * yes * no / fmax(doubt, SMALLEST);
            const T of_yes = alpha, of_no = 1 - alpha;
            const T balance = is_balanced ? positive * of_yes + negative * of_no : T(1);
            const T share = balance * pow(doubt, T(gamma));
            gradient = share * (gradient + T(gamma) * weighed(bend, value));
            value = weighed(share, value);
            """
        ),
    ),
    examples=(
        # p = 1/2: a quarter of log 2; (p - y) / 4 - 2 (1 - p) p (1 - p) log 2.
        Example(
            {"predictions": [0.0], "targets": [1.0]},
            value=LOG_2 / 4,
            gradients={"predictions": [-0.125 - LOG_2 / 4], "targets": [0.0]},
        ),
        Example(
            {"predictions": [0.0], "targets": [0.0]},
            parameters={"alpha": 0.25},
            value=0.75 * LOG_2 / 4,
            gradients={"predictions": [0.75 * (0.125 + LOG_2 / 4)]},
        ),
        # Without gamma it is binary cross-entropy: p = 1/4.
        Example(
            {"predictions": [-LOG_3], "targets": [0.0]},
            parameters={"gamma": 0.0},
            value=0.28768207245178096,
            gradients={"predictions": [0.25]},
        ),
    ),
)
def focal(
    xp: Any,
    predictions: Array,
    targets: Array,
    *,
    gamma: Annotated[float, NONNEGATIVE] = 2.0,
    alpha: Annotated[float | None, UNIT] = None,
) -> BodyResult:
    """Binary cross-entropy that gives less weight to answers that are nearly right already.

        value = a (1 - p_t)^gamma c,  c = -(y log p + (1 - y) log(1 - p)),  p = sigmoid(x)
        p_t = y p + (1 - y) (1 - p);  a = y alpha + (1 - y) (1 - alpha), 1 without alpha
        gradient = a (1 - p_t)^gamma (p - y + gamma c (1 - 2 y) p (1 - p) / (1 - p_t))

    p (1 - p) / (1 - p_t) is computed as one number, which is at most 1, so that a gamma below 1
    stays finite where 1 - p_t is 0.  With gamma = 0 and no alpha it is binary cross-entropy to the
    bit.  With a gamma below 1, the derivative with respect to a target of 0 or 1 is infinite where
    the answer is certain.

    Reference: T.-Y. Lin et al., Focal loss for dense object detection, 2017, section 3.
    """
    if gamma == 0 and alpha is None:
        return binary_cross_entropy.body(xp, predictions, targets)
    negative = 1 - targets
    parts = sigmoid_cost(xp, predictions, targets, negative)
    cost, total = parts.value, parts.tail + 1
    derivative = parts.derivative(xp)
    doubt = parts.yes + parts.no
    # Where 1 - p_t underflows, so does the cost that this is multiplied by.
    floored = xp.clip(doubt, xp.finfo(doubt.dtype).tiny, xp.inf)
    doubt /= total
    share = _power(xp, doubt, gamma)
    if alpha is not None:
        share *= targets * alpha + negative * (1 - alpha)
    if gamma:
        bend = negative - targets
        bend *= parts.tail
        bend /= floored * total
        derivative += weighted(xp, bend, cost) * gamma
    derivative *= share

    def by_targets() -> Array:
        # The derivative is a multiple of an infinite prediction: its terms may differ in sign.
        unbounded = xp.isinf(predictions)
        logits = xp.where(unbounded, xp.sign(predictions), predictions)
        costs = xp.where(unbounded, xp.where(predictions < 0, targets, negative), cost)
        leaning = xp.copysign(xp.expm1(-abs(predictions)), -predictions)  # no less yes
        # Each term by its share first: their difference may be small where they overflow.
        bend = share * gamma / floored
        bend *= leaning
        steepness = weighted(xp, bend, costs) - weighted(xp, share, logits)
        if alpha is not None:
            steepness += weighted(xp, _power(xp, doubt, gamma), costs) * (2 * alpha - 1)
        return xp.where(unbounded, weighted(xp, steepness, abs(predictions)), steepness)

    return BodyResult(weighted(xp, share, cost), {"predictions": derivative, "targets": by_targets})


def _power(xp: Any, base: Array, exponent: float) -> Array:
    return base * base if exponent == 2 else xp.power(base, exponent)
