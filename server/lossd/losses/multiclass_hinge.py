"""Hinge loss over classes."""

import enum
from typing import Annotated, Any

from lossd.losses._body import BodyResult
from lossd.losses._declare import CudaText, Example, Shape, loss
from lossd.losses._inputs import PREDICTIONS, Content, Input
from lossd.losses._maths.hinge_power import powered
from lossd.schema import AT_LEAST_1, NONNEGATIVE, Array


class MulticlassHingeVariant(enum.Enum):
    """The wrong classes that count in a multiclass hinge."""

    CRAMMER_SINGER = "the best of them"
    WESTON_WATKINS = "each of them"


def _distance_to_kink(
    predictions: Array,
    targets: Array,
    *,
    variant: MulticlassHingeVariant = MulticlassHingeVariant.CRAMMER_SINGER,
    margin: float = 1,
    power: float = 1,
) -> Array:
    """Returns how far a row is from a kink: a wrong class at the margin, or two best ones."""
    rows = range(len(predictions))
    missed = (predictions - predictions[rows, targets][:, None]) + margin
    missed[rows, targets] = float("-inf")
    distance = abs(missed).min(axis=1) if power == 1 else abs(missed).max(axis=1)
    if variant is MulticlassHingeVariant.CRAMMER_SINGER and predictions.shape[1] > 2:
        missed.sort(axis=1)
        distance = distance.clip(max=missed[:, -1] - missed[:, -2])
    return distance[:, None].repeat(predictions.shape[1], axis=1)


# The shortfall of the target's score for a wrong class; NaN stays NaN.
_EXCESS = """
    const T own = PREDICTION_AT(label);
    const T nothing = own == own ? T(0) : own;
    const auto excess = [&](T prediction) {
        const T missed = T(margin) - (own - prediction);
        return missed > 0 ? missed : missed < 0 ? T(0) : missed;
    };
    const auto slope = [&](T excess) { return excess > 0 ? pow(excess, T(power - 1)) : excess; };
"""


@loss(
    Shape.ROWWISE,
    inputs=(
        PREDICTIONS,
        Input("targets", "the class of each example", content=Content.INDICES),
    ),
    cuda=(
        CudaText(
            _EXCESS
            + """
            const auto best = LARGEST_BUT(label, prediction);
            const T missed = best.column < 0 ? nothing : excess(best.value);
            const T steepness = power * slope(missed);
            value = missed * slope(missed);
            GRADIENT_BUT(label, -steepness, column == best.column ? steepness : T(0));
            """,
            when={"variant": MulticlassHingeVariant.CRAMMER_SINGER},
            targets_are_classes=True,
        ),
        CudaText(
            _EXCESS
            + """
            const auto sums = SUMS_OVER_ROW(
                (column == label ? nothing : excess(prediction) * slope(excess(prediction))),
                (column == label ? nothing : T(power) * slope(excess(prediction))));
            value = sums.first;
            GRADIENT_BUT(label, -sums.second, T(power) * slope(excess(prediction)));
            """,
            when={"variant": MulticlassHingeVariant.WESTON_WATKINS},
            targets_are_classes=True,
        ),
    ),
    examples=(
        Example(
            {"predictions": [[1.0, 0.5, -2.0]], "targets": [0]},
            value=0.5,
            gradients={"predictions": [[-1.0, 1.0, 0.0]]},
        ),
        # All wrong classes score far enough below 0: the loss is 0.
        Example(
            {"predictions": [[-3.0, -5.0]], "targets": [0]},
            value=0.0,
            gradients={"predictions": [[0.0, 0.0]]},
        ),
        # At the kink the gradient is 0.
        Example(
            {"predictions": [[1.0, 2.0]], "targets": [1]},
            value=0.0,
            gradients={"predictions": [[0.0, 0.0]]},
        ),
        # Of two wrong classes that are both best, the first one has the gradient.
        Example(
            {"predictions": [[1.0, 1.0, 0.0]], "targets": [2]},
            parameters={"power": 2.0},
            value=4.0,
            gradients={"predictions": [[4.0, 0.0, -4.0]]},
        ),
        # Here the first wrong class misses by 2.5, the second by 1; the third is at the margin.
        Example(
            {"predictions": [[2.5, 1.0, 0.0, 1.0]], "targets": [3]},
            parameters={"variant": MulticlassHingeVariant.WESTON_WATKINS},
            value=3.5,
            gradients={"predictions": [[1.0, 1.0, 0.0, -2.0]]},
        ),
        Example(
            {"predictions": [[1.0, 0.0, -1.0]], "targets": [1]},
            parameters={
                "variant": MulticlassHingeVariant.WESTON_WATKINS,
                "margin": 2.0,
                "power": 2,
            },
            value=10.0,
            gradients={"predictions": [[6.0, -8.0, 2.0]]},
        ),
    ),
    kinks={"predictions": _distance_to_kink},
)
def multiclass_hinge(
    xp: Any,
    predictions: Array,
    targets: Array,
    *,
    variant: MulticlassHingeVariant = MulticlassHingeVariant.CRAMMER_SINGER,
    margin: Annotated[float, NONNEGATIVE] = 1.0,
    power: Annotated[float, AT_LEAST_1] = 1.0,
) -> BodyResult:
    """Shortfall of the target's lead over the other classes from a margin, raised to a power.

        m_j = max(0, margin - x_t + x_j),  t the target
        Crammer-Singer: value = max of m_j^power over j != t
        Weston-Watkins: value = sum of m_j^power over j != t
        gradient = power m_j^(power - 1) for the j of the maximum or each j of the sum,
                   minus their sum for t

    The sum is not divided by the number of classes.  With a power of 1 an m_j at the margin has the
    gradient 0.  Among several largest m_j the first has the gradient.  A single class gives 0.

    Reference: K. Crammer and Y. Singer, On the algorithmic implementation of multiclass
    kernel-based vector machines, 2001; J. Weston and C. Watkins, Support vector machines for
    multi-class pattern recognition, 1999.
    """
    if variant is MulticlassHingeVariant.CRAMMER_SINGER:
        return _of_the_best(xp, predictions, targets, margin, power)
    return _of_each(xp, predictions, targets, margin, power)


def _of_the_best(xp: Any, scores: Array, targets: Array, margin: float, power: float) -> BodyResult:
    rows = xp.arange(len(scores))
    own = scores[rows, targets]
    wrong = scores.copy()
    wrong[rows, targets] = -xp.inf
    best = wrong.argmax(axis=-1)
    if scores.shape[1] == 1:
        missed = xp.where(xp.isnan(own), own, 0)
    else:
        missed = margin - (own - wrong[rows, best])
    value, derivative = powered(xp, xp.clip(missed, 0, xp.inf), power)
    gradient = xp.zeros_like(scores)
    gradient[rows, best] = derivative
    gradient[
        rows, targets
    ] = -derivative  # after the best, which is the target if it is the only class
    return BodyResult(value, {"predictions": gradient})


def _of_each(xp: Any, scores: Array, targets: Array, margin: float, power: float) -> BodyResult:
    rows = xp.arange(len(scores))
    own = scores[rows, targets]
    missed = scores - own[:, None]
    missed += margin
    excess = xp.clip(missed, 0, xp.inf)
    excess[rows, targets] = xp.where(xp.isnan(own), own, 0)
    values, gradient = powered(xp, excess, power)
    gradient[rows, targets] *= 0  # a NaN stays
    gradient[rows, targets] = -gradient.sum(axis=-1)
    return BodyResult(values.sum(axis=-1), {"predictions": gradient})
