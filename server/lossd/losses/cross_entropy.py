"""Cross-entropy over classes."""

from collections.abc import Callable
from typing import Annotated, Any

from lossd.losses._declare import (
    CLASS_AXIS,
    IGNORE_INDEX,
    NONNEGATIVE,
    POSITIVE,
    PREDICTIONS,
    UNIT,
    Array,
    CudaText,
    Differentiable,
    DistributionKind,
    Evaluation,
    Example,
    Holds,
    Input,
    Interval,
    ParameterError,
    Shape,
    Vector,
    loss,
)
from lossd.losses._softmax import softmax

# Half of softmax([0, log 3]) and a label-smoothed row, by hand.
LOG_3, LOG_4 = 1.0986122886681098, 1.3862943611198906

# A target for each class: see _from_distributions, whose steps these are.
_DENSE = """
    const auto dense = [&](long long column, T target) {
        const T answer = target * (1 - label_smoothing) + label_smoothing / columns;
        return class_weights[column] * answer;
    };
    const Softmax softmax = SOFTMAX_OF_ROW(prediction / temperature);
    const long long best = softmax.best.column;
    const T mass = SUM_OVER_ROW(dense(column, target));
    const T others = SUM_OVER_ROW(column == best ? T(0) : dense(column, target));
    value = SUM_OVER_ROW(weighed(
        dense(column, target), softmax.negative_log(column, prediction / temperature)));
    const T share = mass / softmax.total;
    const bool is_likely = softmax.rest < 1;
    GRADIENT_OF_ROW(
        (column == best && is_likely
             ? others - mass * (softmax.rest / softmax.total)
             : share * softmax.exponential(column, prediction / temperature)
                   - dense(column, target)) / temperature);
"""


@loss(
    Shape.ROWWISE,
    inputs=(
        PREDICTIONS,
        Input(
            "targets",
            "the class of each example, or a probability for each of its classes",
            holds=Holds.CLASSES,
            differentiable=Differentiable.ON_REQUEST,
            domain=Interval(0, float("inf"), high_open=True),
        ),
    ),
    layout=(CLASS_AXIS, IGNORE_INDEX),
    cuda=(
        CudaText(
            """
            const Softmax softmax = SOFTMAX_OF_ROW(prediction / temperature);
            const T logit = PREDICTION_AT(label) / temperature;
            const T weight = class_weights[label];
            const T share = weight / (softmax.total * temperature);
            const T own = -softmax.others(label, logit) * share;
            value = weight * softmax.negative_log(label, logit);
            GRADIENT_OF_ROW(
                column == label
                    ? own
                    : share * softmax.exponential(column, prediction / temperature));
            """,
            when={"prediction_kind": DistributionKind.LOGITS, "label_smoothing": 0},
            targets_are_classes=True,
        ),
        CudaText(
            _DENSE,
            when={"prediction_kind": DistributionKind.LOGITS},
            targets_are_classes=True,
        ),
        CudaText(
            _DENSE,
            when={"prediction_kind": DistributionKind.LOGITS},
            targets_are_classes=False,
        ),
    ),
    examples=(
        Example(
            {"predictions": [[0.0, LOG_3]], "targets": [0]},
            value=LOG_4,
            gradients={"predictions": [[-0.75, 0.75]]},
        ),
        Example(
            {"predictions": [[0.0, LOG_3]], "targets": [[0.5, 0.5]]},
            value=LOG_4 - LOG_3 / 2,
            gradients={
                "predictions": [[-0.25, 0.25]],
                "targets": [[LOG_4, LOG_4 - LOG_3]],
            },
        ),
        Example(
            {"predictions": [[0.0, LOG_3]], "targets": [1]},
            parameters={"label_smoothing": 0.5},
            value=LOG_4 - 0.75 * LOG_3,
            gradients={"predictions": [[0.0, 0.0]]},
        ),
        Example(
            {"predictions": [[0.25, 0.75]], "targets": [0]},
            parameters={"prediction_kind": DistributionKind.PROBABILITIES},
            value=LOG_4,
            gradients={"predictions": [[-4.0, 0.0]]},
        ),
        Example(
            {"predictions": [[-LOG_4, LOG_3 - LOG_4]], "targets": [0]},
            parameters={"prediction_kind": DistributionKind.LOG_PROBABILITIES},
            value=LOG_4,
            gradients={"predictions": [[-1.0, 0.0]]},
        ),
    ),
)
def cross_entropy(
    xp: Any,
    predictions: Array,
    targets: Array,
    *,
    prediction_kind: DistributionKind = DistributionKind.LOGITS,
    class_weights: Annotated[Vector, NONNEGATIVE] = (),
    label_smoothing: Annotated[float, UNIT] = 0.0,
    temperature: Annotated[float, POSITIVE] = 1.0,
) -> Evaluation:
    """Negative log-likelihood of the target class, or of a target distribution.

        value = -sum_c w_c y_c log p_c,  p = softmax(x / temperature)
        class index t with smoothing e, C classes:
          value = -(1 - e) w_t log p_t - e / C sum_c w_c log p_c
        gradient = ((sum_c w_c y_c) p - w y) / temperature

    Probability targets are smoothed to (1 - e) y + e / C and need not sum to 1.  With predictions
    that are probabilities or log-probabilities, the gradient is with respect to the numbers given.
    A logit of -inf is an impossible class; as a target it gives an infinite value.

    Reference: D. R. Cox, The regression analysis of binary sequences, 1958; smoothing: C. Szegedy
    et al., Rethinking the inception architecture, 2016, section 7.
    """
    if prediction_kind is not DistributionKind.LOGITS:
        if temperature != 1:
            raise ParameterError(
                "temperature",
                f"temperature must be 1 unless predictions are logits, got {temperature:g}",
            )
        given = _from_probabilities(xp, predictions, prediction_kind)
        dense = _dense_targets(xp, predictions, targets, class_weights, label_smoothing)
        return _likelihood(xp, *given, dense, _target_factor(class_weights, label_smoothing))
    logits = predictions if temperature == 1 else predictions / temperature
    if targets.ndim == 1 and label_smoothing == 0:
        return _from_classes(xp, logits, targets, class_weights, temperature)
    dense = _dense_targets(xp, predictions, targets, class_weights, label_smoothing)
    factor = _target_factor(class_weights, label_smoothing)
    return _from_distributions(xp, logits, dense, factor, temperature)


def _from_classes(
    xp: Any, logits: Array, classes: Array, class_weights: Any, temperature: float
) -> Evaluation:
    """Logits and class indices: the common case, in as few passes as can be."""
    parts = softmax(xp, logits)
    value = parts.negative_log(xp, classes)
    share = 1 / (parts.total * temperature)
    if len(class_weights):
        weights = class_weights[classes]
        value = value * weights
        share = share * weights
    own = -parts.others(xp, classes) * share
    gradient = parts.exponentials
    gradient *= share[:, None]
    gradient[parts.rows, classes] = own
    return Evaluation(value, {"predictions": gradient})


def _from_distributions(
    xp: Any, logits: Array, dense: Array, factor: Callable[[Array], Array], temperature: float
) -> Evaluation:
    """Logits and a weighted target for each class, w_c y_c."""
    parts = softmax(xp, logits)
    negative_logs = parts.negative_logs(xp)
    value = _expectation(xp, dense, negative_logs).sum(axis=-1)
    # At the best class sum(w y) p - w y is the others' targets less sum(w y) (1 - p): the form that
    # keeps its digits where p is near 1, and loses them where p is small.
    others = dense.copy()
    others[parts.rows, parts.best] = 0
    mass = dense.sum(axis=-1)
    at_best = xp.where(
        parts.rest < 1,
        others.sum(axis=-1) - mass * (parts.rest / parts.total),
        mass / parts.total - dense[parts.rows, parts.best],
    )
    gradient = parts.exponentials
    gradient *= (mass / parts.total)[:, None]
    gradient -= dense
    gradient[parts.rows, parts.best] = at_best
    if temperature != 1:
        gradient /= temperature
    return Evaluation(value, {"predictions": gradient, "targets": lambda: factor(negative_logs)})


def _from_probabilities(xp: Any, predictions: Array, kind: DistributionKind) -> tuple[Array, Array]:
    """-log p and its derivative by the given number."""
    if kind is DistributionKind.LOG_PROBABILITIES:
        return -predictions, xp.full_like(predictions, -1)
    return -xp.log(predictions), -1 / predictions


def _likelihood(
    xp: Any,
    negative_logs: Array,
    slopes: Array,
    dense: Array,
    factor: Callable[[Array], Array],
) -> Evaluation:
    """The expectation of -log p for predictions that are given as (log-)probabilities."""
    value = _expectation(xp, dense, negative_logs).sum(axis=-1)
    gradient = _expectation(xp, dense, slopes)
    return Evaluation(value, {"predictions": gradient, "targets": lambda: factor(negative_logs)})


def _expectation(xp: Any, dense: Array, terms: Array) -> Array:
    """Each target times its term; a target of 0 takes nothing, also of infinity and NaN."""
    return xp.where(dense == 0, 0, dense * terms)


def _dense_targets(
    xp: Any, predictions: Array, targets: Array, class_weights: Any, smoothing: float
) -> Array:
    """w_c y_c for every class, with the smoothing in it.

    With class indices only the smoothing share carries each class's own weight.
    """
    count = predictions.shape[1]
    if targets.ndim == 2:
        dense = targets * (1 - smoothing) + smoothing / count
    else:
        dense = xp.full_like(predictions, smoothing / count)
        dense[xp.arange(len(targets)), targets] += 1 - smoothing
    return dense * class_weights if len(class_weights) else dense


def _target_factor(class_weights: Any, smoothing: float) -> Callable[[Array], Array]:
    """What the derivative by a target has over -log p: its weight and what smoothing leaves."""

    def factor(negative_logs: Array) -> Array:
        scaled = negative_logs * (1 - smoothing)
        return scaled * class_weights if len(class_weights) else scaled

    return factor
