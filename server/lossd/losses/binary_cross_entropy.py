"""Binary cross-entropy: independent yes-or-no questions."""

from collections.abc import Callable
from typing import Annotated, Any

from lossd.losses._body import BodyResult
from lossd.losses._declare import CudaText, Example, Shape, loss
from lossd.losses._inputs import BATCH_DIMS, DISTRIBUTION, Content, DistributionKind, Input
from lossd.losses._maths.constants import LOG_2
from lossd.losses._maths.likelihood_texts import OF_ANSWERS
from lossd.losses._maths.masked_products import quotients, selected, weighted
from lossd.losses._maths.sigmoid import SIGMOID_COST, sigmoid_cost
from lossd.schema import NONNEGATIVE, UNIT, Array, Differentiable, Vector

LOWEST_LOG = -100.0  # the lower bound to which PyTorch clamps the logarithm of a probability

# What yes and no weigh.
_SHARES = """
            const T kept = 1 - label_smoothing, spread = label_smoothing / 2;
            const T weight = positive_weights[column];
            const T yes_share = target * kept + spread;
            const T positive = yes_share * weight;
            const T negative = (1 - target) * kept + spread;
"""


@loss(
    Shape.POINTWISE,
    inputs=(
        DISTRIBUTION,
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
            _SHARES
            + """
            // From whichever terms are smaller: the weighted shares, or what they are apart in.
            const T unweighted = (1 - 2 * target) * kept;
            const T size = fabs(1 - weight) * yes_share + fabs(unweighted);
            const T apart = size < positive + negative ? fma(1 - weight, yes_share, unweighted)
                                                       : negative - positive;
            """
            + SIGMOID_COST,
            when={"prediction_kind": DistributionKind.LOGITS},
        ),
        *(
            CudaText(_SHARES + text, when={"prediction_kind": kind})
            for kind, text in OF_ANSWERS.items()
        ),
    ),
    examples=(
        Example(
            {"predictions": [0.0], "targets": [1.0]},
            value=LOG_2,
            gradients={"predictions": [-0.5], "targets": [0.0]},
        ),
        Example(
            {"predictions": [0.0], "targets": [0.5]},
            parameters={"positive_weights": [3.0]},
            value=2 * LOG_2,
            gradients={"predictions": [-0.5], "targets": [2 * LOG_2]},
        ),
        Example(
            {"predictions": [0.5], "targets": [0.0]},
            parameters={"prediction_kind": DistributionKind.PROBABILITIES, "label_smoothing": 0.5},
            value=LOG_2,
            gradients={"predictions": [1.0], "targets": [0.0]},
        ),
        Example(
            {"predictions": [-LOG_2], "targets": [0.0]},
            parameters={"prediction_kind": DistributionKind.LOG_PROBABILITIES},
            value=LOG_2,
            gradients={"predictions": [1.0], "targets": [0.0]},
        ),
    ),
)
def binary_cross_entropy(
    xp: Any,
    predictions: Array,
    targets: Array,
    *,
    prediction_kind: DistributionKind = DistributionKind.LOGITS,
    positive_weights: Annotated[Vector, NONNEGATIVE] = (),
    label_smoothing: Annotated[float, UNIT] = 0.0,
) -> BodyResult:
    """Negative log-likelihood of independent yes-or-no answers.

        value = -(w y log p + (1 - y) log(1 - p)),  p = sigmoid(x),  w = positive weight
        gradient = (1 - y) p - w y (1 - p)
        label smoothing e: y becomes y (1 - e) + e / 2

    With probabilities both logarithms are clamped at -100 and the gradient is that of the clamped
    function.  Infinite logits that agree with the target give 0.

    Reference: D. R. Cox, The regression analysis of binary sequences, 1958.
    """
    positive, negative, apart = targets, 1 - targets, None
    if label_smoothing:  # separately: 1 minus a number near 1 would lose its digits
        kept, spread = 1 - label_smoothing, label_smoothing / 2
        positive, negative = (share * kept + spread for share in (positive, negative))
        apart = (1 - 2 * targets) * kept
    weights: Any = positive_weights if len(positive_weights) else None
    if weights is not None:
        unweighted, positive = positive, positive * weights
        if apart is not None:
            apart = _apart(xp, apart, (1 - weights) * unweighted, positive, negative)
    if prediction_kind is DistributionKind.LOGITS:
        parts = sigmoid_cost(xp, predictions, positive, negative, apart=apart, weights=weights)
        value, gradient = parts.value, parts.derivative(xp, out=parts.yes)
    else:
        yes, no = _COSTS[prediction_kind](xp, predictions)
        value = selected(xp, positive, yes[0]) + selected(xp, negative, no[0])
        gradient = yes[1](positive) + no[1](negative)

    def by_targets() -> Array:
        if prediction_kind is DistributionKind.LOGITS:
            difference = _difference_of_costs(xp, predictions, weights)
        else:
            difference = (yes[0] if weights is None else yes[0] * weights) - no[0]
        return weighted(xp, 1 - label_smoothing, difference)

    return BodyResult(value, {"predictions": gradient, "targets": by_targets})


def _apart(xp: Any, unweighted: Array, by_weight: Array, positive: Array, negative: Array) -> Array:
    """Returns ``negative`` minus ``positive``, from whichever terms are smaller."""
    is_smaller = abs(unweighted) + abs(by_weight) < positive + negative
    return xp.where(is_smaller, unweighted + by_weight, negative - positive)


# Of the probability of the true answer: -log of it, and what gives shares times its derivative.
Cost = tuple[Array, Callable[[Array], Array]]


def _difference_of_costs(xp: Any, logits: Array, weights: Any) -> Array:
    """Returns -w log p + log(1 - p), which is -x where w is 1."""
    if weights is None:
        return -logits
    common = xp.log1p(xp.exp(-abs(logits)))
    return (weights - 1) * common - xp.where(logits < 0, weights, 1) * logits


def _cost_of_log_probabilities(xp: Any, logs: Array) -> tuple[Cost, Cost]:
    probability = xp.exp(logs)
    probability_of_no = -xp.expm1(logs)
    # Each form of log(1 - p) is exact where the other one loses 1 - p, or p, to rounding.
    log_of_no = xp.where(logs < -LOG_2, xp.log1p(-probability), xp.log(probability_of_no))
    odds = probability / probability_of_no
    return (-logs, lambda shares: 0 - shares), (
        -log_of_no,
        lambda shares: selected(xp, shares, odds),
    )


def _cost_of_probabilities(xp: Any, probabilities: Array) -> tuple[Cost, Cost]:
    return (
        _clamped(xp, xp.log(probabilities), -probabilities),
        _clamped(xp, xp.log1p(-probabilities), 1 - probabilities),
    )


def _clamped(xp: Any, logs: Array, divisors: Array) -> Cost:
    """Returns the clamped cost, whose derivative is 1 over a divisor; 0 where it is clamped."""
    below = logs < LOWEST_LOG
    clamped = -xp.where(below, LOWEST_LOG, logs)
    return clamped, lambda shares: xp.where(below, 0, quotients(xp, shares, divisors))


_COSTS = {
    DistributionKind.LOG_PROBABILITIES: _cost_of_log_probabilities,
    DistributionKind.PROBABILITIES: _cost_of_probabilities,
}
