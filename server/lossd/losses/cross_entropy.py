"""Cross-entropy over classes."""

import enum
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any

import numpy as np

from lossd.losses._body import BodyResult, Output
from lossd.losses._declare import CudaText, Example, Shape, loss
from lossd.losses._inputs import (
    CLASS_AXIS,
    DISTRIBUTION,
    IGNORE_INDEX,
    Content,
    DistributionKind,
    Input,
)
from lossd.losses._maths.constants import LOG_3, LOG_4, LOG_10
from lossd.losses._maths.likelihood_texts import DENSE, OF_CLASSES
from lossd.losses._maths.masked_products import quotients, selected, weighted
from lossd.losses._maths.softmax import Softmax, softmax
from lossd.schema import (
    FLOAT32_LOW,
    NONNEGATIVE,
    POSITIVE,
    UNIT,
    Array,
    Differentiable,
    Interval,
    ParameterError,
    Vector,
    exactly,
)


class CrossEntropyOutput(enum.Enum):
    """The auxiliary outputs, from the softmax."""

    LOG_SUM_EXP = Output("log_sum_exp", "log of the sum of the exponentials of the logits")
    TARGET_LOG_PROBABILITY = Output(
        "target_log_probability", "log p of the target class, or sum of target times log p"
    )
    ENTROPY = Output("entropy", "entropy of the predicted distribution, in nats")
    PREDICTED_CLASS = Output(
        "predicted_class", "the largest logit's class, the lowest one of several", is_index=True
    )


# Half of softmax([0, log 3]) and a label-smoothed row, by hand.

# The product of a share and what the row has of it, which may be infinite, or NaN in rows that are.
_TIMES = """
    const auto times = [&](auto share, T of_row) {
        auto product = share * of_row;
        if (of_row == of_row && of_row - of_row != 0) product = weighed(share, of_row);
        return product;
    };
"""

# A target for each class: see _from_distributions, whose steps these are.
_DENSE = (
    _TIMES
    + """
    const T kept = 1 - label_smoothing, spread = label_smoothing / columns;
    const auto dense = [&](long long column, T target) {
        return class_weights[column] * (target * kept + spread);
    };
    // Rounded to T, labels that are smoothed nearly away would lose what is left of them.
    const double left = 1 - label_smoothing, even = label_smoothing / columns;
    const auto exact = [&](long long column, T target) {
        return double(class_weights[column]) * (target * left + even);
    };
    const auto use = [&](auto logit, auto common) {
        const auto softmax = SOFTMAX_OF_ROW(logit(column, prediction));
        const T log_sum = common + softmax.log_sum_exp();
        const T pull = weighed(T(2 * z_loss), log_sum) / softmax.total;
        const auto slope = [&](long long column, T prediction, auto surplus) {
            return T(surplus + times(softmax.exponential(column, logit(column, prediction)), pull))
                / T(temperature);
        };
        value = weighed(weighed(T(z_loss), log_sum), log_sum) + write_surplus<OF_TARGETS>(
            row, softmax, AT_PREDICTION(logit(column, prediction)),
            AT_TARGET(dense(column, target)), slope,
            AT_COLUMN(weighed(
                dense(column, target),
                T(softmax.negative_log(column, logit(column, prediction))))),
            AT_TARGET(exact(column, target)));
    };
    with_logits(row, temperature, class_priors, prior_strength, use);
"""
)


def _texts_of_likelihood() -> Iterator[CudaText]:
    """Yields the texts for predictions that are no logits."""
    for kind, text in OF_CLASSES.items():
        when = {"prediction_kind": kind, "label_smoothing": 0}
        yield CudaText(text, when=when, targets_are_classes=True)
    for kind, text in DENSE.items():
        for are_classes in (True, False):
            yield CudaText(text, when={"prediction_kind": kind}, targets_are_classes=are_classes)


@loss(
    Shape.ROWWISE,
    inputs=(
        DISTRIBUTION,
        Input(
            "targets",
            "the class of each example, or a probability for each of its classes",
            content=Content.CLASSES,
            differentiable=Differentiable.ON_REQUEST,
            domain=Interval(0, float("inf"), high_open=True),
        ),
    ),
    layout=(CLASS_AXIS, IGNORE_INDEX),
    cuda=(
        CudaText(
            _TIMES
            + """
            const auto use = [&](auto logit, auto common) {
                // A log of the sum near 0 has more digits from the best logit.
                const auto from = z_loss == 0 ? label : -1;
                const auto softmax = SOFTMAX_FROM(from, logit(column, prediction));
                const auto target_logit = logit(label, PREDICTION_AT(label));
                const T weight = class_weights[label];
                const T log_sum = common + softmax.log_sum_exp();
                const T unit = 1 / (softmax.total * T(temperature));
                const T share = weight * unit;
                T pull = 0;
                if (z_loss != 0) pull = weighed(T(2 * z_loss), log_sum) * unit;
                const T own = times(softmax.exponential(label, target_logit), pull)
                    - times(softmax.others(label, target_logit), share);
                value = weight * softmax.negative_log(label, target_logit)
                    + weighed(weighed(T(z_loss), log_sum), log_sum);
                GRADIENT_BUT(
                    label,
                    own,
                    T(times(
                        softmax.exponential(column, logit(column, prediction)), share + pull)));
            };
            with_logits(row, temperature, class_priors, prior_strength, use);
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
        *_texts_of_likelihood(),
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
        # Equal logits and priors of 1 to 3, squared: a softmax of [1/10, 9/10].
        Example(
            {"predictions": [[0.0, 0.0]], "targets": [0]},
            parameters={"class_priors": (5.0, 15.0), "prior_strength": 2.0},
            value=LOG_10,
            gradients={"predictions": [[-0.9, 0.9]]},
        ),
        # The logits' exponentials sum to 4.
        Example(
            {"predictions": [[0.0, LOG_3]], "targets": [0]},
            parameters={"z_loss": 0.5},
            value=LOG_4 + LOG_4**2 / 2,
            gradients={"predictions": [[-0.75 + LOG_4 / 4, 0.75 + 0.75 * LOG_4]]},
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
    class_priors: Annotated[Vector, POSITIVE] = (),
    prior_strength: Annotated[float, NONNEGATIVE] = 1.0,
    z_loss: Annotated[float, NONNEGATIVE] = 0.0,
    outputs: Sequence[CrossEntropyOutput] = (),
) -> BodyResult:
    """Negative log-likelihood of the target class, or of a target distribution.

        value = -sum_c w_c y_c log p_c + z l^2
        x' = x / temperature + strength log prior,  p = softmax(x'),  l = log sum_c exp x'_c
        class index t with smoothing e, C classes:
          value = -(1 - e) w_t log p_t - e / C sum_c w_c log p_c + z l^2
        gradient = ((sum_c w_c y_c) p - w y + 2 z l p) / temperature

    Probability targets are smoothed to (1 - e) y + e / C and need not sum to 1.  With predictions
    that are probabilities or log-probabilities, the gradient is with respect to the numbers given.
    A logit of -inf is an impossible class; as a target it gives an infinite value.

    Class priors are divided by their sum, so that counts of labels serve as they are.  A model that
    is trained with them, and used without, is balanced over the classes.  The z-loss keeps the
    logits from drifting; it belongs to the example, so class weights do not scale it.  The outputs
    are computed from the softmax p, without weights and smoothing.  Temperature, priors, z-loss and
    outputs need logits.

    Reference: D. R. Cox, The regression analysis of binary sequences, 1958; smoothing: C. Szegedy
    et al., Rethinking the inception architecture, 2016, section 7; priors: A. K. Menon et al.,
    Long-tail learning via logit adjustment, 2021, section 5; z-loss: A. Chowdhery et al., PaLM,
    2022, section 5.
    """
    if prior_strength != 1 and not len(class_priors):
        raise ParameterError(
            "prior_strength",
            "prior_strength must be 1 unless class_priors are given, "
            f"got {exactly(prior_strength)}",
        )
    if prediction_kind is not DistributionKind.LOGITS:
        _refuse_what_needs_logits(temperature, class_priors, z_loss, outputs)
        given = _from_probabilities(xp, predictions, prediction_kind)
        dense = _dense_targets(xp, predictions, targets, class_weights, label_smoothing)
        return _likelihood(xp, *given, dense, _target_factor(xp, class_weights, label_smoothing))
    priors, offset = _log_priors(xp, class_priors, prior_strength)
    parts = softmax(xp, predictions, priors, temperature=temperature, offset=offset)
    penalty = _Penalty.of(xp, parts, z_loss) if z_loss else None
    # Before the gradient overwrites the exponentials.
    beyond = {output.value.name: _OUTPUTS[output](xp, parts, targets) for output in outputs}
    if targets.ndim == 1 and label_smoothing == 0:
        value, gradients = _from_classes(xp, parts, targets, class_weights, penalty)
    else:
        dense = _dense_targets(xp, predictions, targets, class_weights, label_smoothing)
        factor = _target_factor(xp, class_weights, label_smoothing)

        def exact(rows: Array) -> Array:
            wide, own = predictions[rows].astype(np.float64), targets[rows]
            own = own if own.ndim == 1 else own.astype(np.float64)
            return _dense_targets(xp, wide, own, class_weights, label_smoothing)

        value, gradients = _from_distributions(
            xp, parts, dense, exact, factor=factor, penalty=penalty
        )
    if temperature != 1:
        gradients["predictions"] /= temperature
    return BodyResult(value, gradients, beyond)


def _log_priors(xp: Any, class_priors: Any, strength: float) -> tuple[Array | None, float]:
    """Returns what the priors add to the logits: to each its own, and the same to all of them.

    The largest prior adds nothing of its own, so that no strength swallows the logits of classes
    that are as likely.
    """
    if not len(class_priors):
        return None, 0.0
    priors = class_priors.astype(np.float64)
    largest = priors.max()
    shares = priors / largest
    # Those that are too small for a share have a log of it.
    logs = xp.log(priors) - xp.log(largest)
    logs = xp.where(shares < FLOAT32_LOW, logs, xp.log(shares))
    return strength * logs, float(-strength * xp.log(shares.sum()))


def _refuse_what_needs_logits(
    temperature: float, class_priors: Any, z_loss: float, outputs: Sequence[CrossEntropyOutput]
) -> None:
    rules = (
        ("temperature", temperature == 1, "1", exactly(temperature)),
        ("class_priors", not len(class_priors), "empty", f"{len(class_priors)} numbers"),
        ("z_loss", z_loss == 0, "0", exactly(z_loss)),
        ("outputs", not outputs, "empty", ", ".join(output.name for output in outputs)),
    )
    for name, content, rule, got in rules:
        if not content:
            raise ParameterError(
                name, f"{name} must be {rule} unless predictions are logits, got {got}"
            )


Gradients = dict[str, Any]  # an Array, or a function that computes one


@dataclass(frozen=True, slots=True)
class _Penalty:
    """The z-loss of each row, z l^2 with l = log sum exp, and its derivative with respect to l."""

    value: Array
    derivative: Array

    @classmethod
    def of(cls, xp: Any, parts: Softmax, z_loss: float) -> "_Penalty":
        log_sum = parts.log_sum_exp(xp)
        return cls(z_loss * log_sum * log_sum, 2 * z_loss * log_sum)


def _from_classes(
    xp: Any, parts: Softmax, classes: Array, class_weights: Any, penalty: _Penalty | None
) -> tuple[Array, Gradients]:
    """Computes the common case, logits and class indices, in as few passes as possible."""
    value = parts.negative_log(xp, classes)
    unit = share = 1 / parts.total
    if len(class_weights):
        weights = class_weights[classes]
        value = value * weights
        share = unit * weights
    own = -parts.others(xp, classes) * share
    gradient = parts.exponentials
    if penalty is not None:
        value = value + penalty.value
        z_loss_gradient = penalty.derivative * unit
        own += weighted(xp, gradient[parts.rows, classes], z_loss_gradient)
        share = share + z_loss_gradient
        gradient = weighted(xp, gradient, share[:, None])  # of which some may be infinite
        gradient[xp.isnan(share)] = xp.nan
    else:
        gradient *= share[:, None]
    gradient[parts.rows, classes] = own
    return value, {"predictions": gradient}


def _from_distributions(
    xp: Any,
    parts: Softmax,
    dense: Array,
    exact: Callable[[Array], Array],
    *,
    factor: Callable[[Array], Array],
    penalty: _Penalty | None,
) -> tuple[Array, Gradients]:
    """Computes the loss from logits and a weighted target for each class, w_c y_c.

    ``exact`` returns the targets of some rows in float64.
    """
    negative_logs = parts.negative_logs(xp)
    value = selected(xp, dense, negative_logs).sum(axis=-1)
    pulled = None
    if penalty is not None:
        value = value + penalty.value
        pulled = weighted(xp, parts.probabilities(), penalty.derivative[:, None])
        pulled[xp.isnan(penalty.derivative)] = xp.nan
    gradient = parts.logit_gradient(xp, dense, exact)
    if pulled is not None:
        gradient += pulled
    return value, {"predictions": gradient, "targets": lambda: factor(negative_logs)}


def _from_probabilities(
    xp: Any, predictions: Array, kind: DistributionKind
) -> tuple[Array, Callable[[Array], Array]]:
    """Returns -log p, and a function that multiplies shares by its derivative."""
    if kind is DistributionKind.LOG_PROBABILITIES:
        return -predictions, lambda shares: 0 - shares
    return -xp.log(predictions), lambda shares: quotients(xp, shares, -predictions)


def _likelihood(
    xp: Any,
    negative_logs: Array,
    slopes: Callable[[Array], Array],
    dense: Array,
    factor: Callable[[Array], Array],
) -> BodyResult:
    """Returns the expectation of -log p for predictions that are (log-)probabilities."""
    value = selected(xp, dense, negative_logs).sum(axis=-1)
    return BodyResult(
        value, {"predictions": slopes(dense), "targets": lambda: factor(negative_logs)}
    )


def _dense_targets(
    xp: Any, predictions: Array, targets: Array, class_weights: Any, smoothing: float
) -> Array:
    """Returns w_c y_c for every class, smoothing included.

    With class indices only the smoothed share has each class's own weight.
    """
    count = predictions.shape[1]
    if targets.ndim == 2:
        dense = targets * (1 - smoothing) + smoothing / count
    else:
        dense = xp.full_like(predictions, smoothing / count)
        dense[xp.arange(len(targets)), targets] += 1 - smoothing
    return dense * class_weights if len(class_weights) else dense


def _target_factor(xp: Any, class_weights: Any, smoothing: float) -> Callable[[Array], Array]:
    """Returns the factor of -log p in a target's derivative: its weight, less the smoothing."""

    def factor(negative_logs: Array) -> Array:
        share = class_weights * (1 - smoothing) if len(class_weights) else 1 - smoothing
        return weighted(xp, share, negative_logs)

    return factor


def _target_log_probability(xp: Any, parts: Softmax, targets: Array) -> Array:
    if targets.ndim == 1:
        return 0 - parts.negative_log(xp, targets)
    return 0 - selected(xp, targets, parts.negative_logs(xp)).sum(axis=-1)


_OUTPUTS: Mapping[CrossEntropyOutput, Callable[[Any, Softmax, Array], Array]] = MappingProxyType(
    {
        CrossEntropyOutput.LOG_SUM_EXP: lambda xp, parts, _: parts.log_sum_exp(xp),
        CrossEntropyOutput.TARGET_LOG_PROBABILITY: _target_log_probability,
        CrossEntropyOutput.ENTROPY: lambda xp, parts, _: parts.entropy(xp),
        CrossEntropyOutput.PREDICTED_CLASS: lambda _, parts, __: parts.best,
    }
)
