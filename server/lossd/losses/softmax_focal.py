"""Focal loss over classes."""

from typing import Annotated, Any

import numpy as np

from lossd.losses._body import BodyResult
from lossd.losses._declare import CudaText, Example, Shape, loss
from lossd.losses._inputs import PREDICTIONS, Content, Input
from lossd.losses._maths.constants import LOG_2, LOG_3, LOG_4
from lossd.losses._maths.masked_products import weighted
from lossd.losses._maths.softmax import Softmax, softmax
from lossd.schema import NONNEGATIVE, Array, Differentiable, Vector

# Derivatives with respect to the logits are those of cross-entropy with shares scaled by
# `steepness`, which is (1 - p)^gamma (1 + gamma p c / (1 - p)), where c is -log p.
_STEEPNESS = """
    const auto doubt = [&](long long column, NUMBER logit) {
        return softmax.others(column, logit) / softmax.total;
    };
    const auto steepness = [&](long long column, NUMBER logit) {
        const NUMBER probability = softmax.exponential(column, logit) / softmax.total;
        // Where doubt underflows, so does the cost beside it.
        const NUMBER bend = weighed(probability, softmax.negative_log(column, logit))
                          / fmax(doubt(column, logit), NUMBER(SMALLEST));
        return pow(doubt(column, logit), NUMBER(gamma)) * (1 + NUMBER(gamma) * bend);
    };
"""
_SHARES_OF_CLASSES = _STEEPNESS.replace("NUMBER", "T")
_SHARES_OF_DISTRIBUTIONS = _STEEPNESS.replace("NUMBER", "double")


@loss(
    Shape.ROWWISE,
    inputs=(
        PREDICTIONS,
        Input(
            "targets",
            "the class of each example, or a probability for each of its classes",
            content=Content.CLASSES,
            differentiable=Differentiable.ON_REQUEST,
            domain=NONNEGATIVE,
        ),
    ),
    cuda=(
        CudaText(
            "const auto softmax = SOFTMAX_FROM(label, prediction);"
            + _SHARES_OF_CLASSES
            + """
            const T logit = PREDICTION_AT(label);
            const T weight = class_weights[label];
            const T share = weight * steepness(label, logit) / softmax.total;
            const T own = -softmax.others(label, logit) * share;
            const T factor = weight * pow(doubt(label, logit), T(gamma));
            value = factor * softmax.negative_log(label, logit);
            GRADIENT_BUT(label, own, share * softmax.exponential(column, prediction));
            """,
            targets_are_classes=True,
        ),
        CudaText(
            "const auto softmax = SOFTMAX_OF_ROW(double(prediction));"
            + _SHARES_OF_DISTRIBUTIONS
            + """
            const auto share = [&](long long column, double logit, double target) {
                return weighed(class_weights[column] * target, steepness(column, logit));
            };
            value = write_surplus<OF_BOTH>(
                row, softmax, AT_PREDICTION(double(prediction)),
                AT_COLUMN(share(column, prediction, target)),
                [&](long long column, T prediction, double surplus) { return surplus; },
                AT_COLUMN(weighed(
                    class_weights[column] * target * pow(doubt(column, prediction), gamma),
                    softmax.negative_log(column, prediction))));
            """,
            targets_are_classes=False,
        ),
    ),
    examples=(
        # p = 1/2 each: a quarter of log 2; steepness 1/4 (1 + 2 log 2).
        Example(
            {"predictions": [[0.0, 0.0]], "targets": [0]},
            value=LOG_2 / 4,
            gradients={"predictions": [[-0.125 - LOG_2 / 4, 0.125 + LOG_2 / 4]]},
        ),
        Example(
            {"predictions": [[0.0, LOG_3]], "targets": [0]},
            parameters={"gamma": 0.0, "class_weights": [2.0, 1.0]},
            value=LOG_4,  # the mean divides by the weight of 2
            gradients={"predictions": [[-0.75, 0.75]]},
        ),
        # p = 1/4 and 3/4 with a share of 1/2 each: (9/16 log 4 + 1/16 log 4/3) / 2.
        Example(
            {"predictions": [[0.0, LOG_3]], "targets": [[0.5, 0.5]]},
            value=LOG_4 * 10 / 32 - LOG_3 / 32,
            gradients={"targets": [[9 / 16 * LOG_4, (LOG_4 - LOG_3) / 16]]},
        ),
    ),
)
def softmax_focal(
    xp: Any,
    predictions: Array,
    targets: Array,
    *,
    gamma: Annotated[float, NONNEGATIVE] = 2.0,
    class_weights: Annotated[Vector, NONNEGATIVE] = (),
) -> BodyResult:
    """Cross-entropy that gives less weight to classes that are nearly certain already.

        value = -sum_c w_c y_c (1 - p_c)^gamma log p_c,  p = softmax(x)
        class index t: value = -w_t (1 - p_t)^gamma log p_t
        gradient = (sum_c s_c) p - s,
          s_c = w_c y_c (1 - p_c)^gamma (1 - gamma p_c log p_c / (1 - p_c))

    With class indices the mean divides by the weights of the targets, as for cross-entropy, which
    this is with gamma = 0.  Where several classes have a share and the prediction nearly equals
    them, the gradient cancels and has fewer digits.

    Reference: T.-Y. Lin et al., Focal loss for dense object detection, 2017, section 3.
    """
    if targets.ndim == 1:
        return _from_classes(xp, softmax(xp, predictions), targets, gamma, class_weights)
    return _from_distributions(xp, predictions, targets, gamma, class_weights)


def _from_classes(
    xp: Any, parts: Softmax, classes: Array, gamma: float, class_weights: Any
) -> BodyResult:
    others = parts.others(xp, classes)
    probabilities = parts.exponentials[parts.rows, classes] / parts.total
    costs = parts.negative_log(xp, classes)
    factor, steepness = _factors(xp, others / parts.total, probabilities, costs, gamma)
    if len(class_weights):
        factor = factor * class_weights[classes]
        steepness = steepness * class_weights[classes]
    share = steepness / parts.total
    gradient = parts.exponentials
    gradient *= share[:, None]
    gradient[parts.rows, classes] = -others * share
    return BodyResult(factor * costs, {"predictions": gradient})


def _from_distributions(
    xp: Any, predictions: Array, targets: Array, gamma: float, class_weights: Any
) -> BodyResult:
    """Computes in float64: where p is nearly the target, a gradient is only the steepness."""
    parts = softmax(xp, predictions.astype(np.float64))
    costs = parts.negative_logs(xp)
    factor, steepness = _factors(xp, parts.complements(), parts.probabilities(), costs, gamma)
    if len(class_weights):
        factor *= class_weights
        steepness *= class_weights
    value = weighted(xp, targets * factor, costs).sum(axis=-1)
    gradient = parts.logit_gradient(xp, weighted(xp, targets, steepness))
    return BodyResult(
        value.astype(predictions.dtype),
        {
            "predictions": gradient.astype(predictions.dtype),
            "targets": lambda: weighted(xp, factor, costs).astype(predictions.dtype),
        },
    )


def _factors(
    xp: Any, doubts: Array, probabilities: Array, costs: Array, gamma: float
) -> tuple[Array, Array]:
    """Returns the factors of a cost, and the factors of its derivatives."""
    factor = doubts * doubts if gamma == 2 else xp.power(doubts, gamma)
    bend = weighted(xp, probabilities, costs)
    # Where 1 - p underflows, so does the cost that it is multiplied by.
    bend /= xp.clip(doubts, xp.finfo(doubts.dtype).tiny, xp.inf)
    bend *= gamma
    bend += 1
    return factor, factor * bend
