"""Kullback-Leibler divergence of a prediction from a target distribution."""

from collections.abc import Callable
from typing import Annotated, Any

from lossd.losses._declare import (
    PREDICTIONS,
    CudaText,
    DistributionKind,
    Evaluation,
    Example,
    Input,
    Shape,
    loss,
)
from lossd.losses._schema import NONNEGATIVE, POSITIVE, Array, Differentiable, ParameterError
from lossd.losses._softmax import softmax
from lossd.losses._weighed import weighed

LOG_2, LOG_3, LOG_4 = 0.6931471805599453, 1.0986122886681098, 1.3862943611198906

# What the target says: the share of a class and its logarithm.
_SHARES = {
    DistributionKind.PROBABILITIES: """
    const auto share = [&](long long, T target) { return target; };
    const auto log_share = [&](long long, T target) { return log(target); };
""",
    DistributionKind.LOG_PROBABILITIES: """
    const auto share = [&](long long, T target) { return exp(target); };
    const auto log_share = [&](long long, T target) { return target; };
""",
    DistributionKind.LOGITS: """
    const Softmax aim = SOFTMAX_OF_ROW(target / temperature);
    const auto share = [&](long long column, T target) {
        return aim.exponential(column, target / temperature) / aim.total;
    };
    const auto log_share = [&](long long column, T target) {
        return -aim.negative_log(column, target / temperature);
    };
""",
}
_FROM_LOGITS = """
    const Softmax softmax = SOFTMAX_OF_ROW(prediction / temperature);
    const T factor = scale_by_squared_temperature ? temperature * temperature : T(1);
    const long long best = softmax.best.column;
    const T mass = SUM_OVER_ROW(share(column, target));
    const T others = SUM_OVER_ROW(column == best ? T(0) : share(column, target));
    value = factor * SUM_OVER_ROW(weighed(
        share(column, target),
        log_share(column, target) + softmax.negative_log(column, prediction / temperature)));
    const bool is_likely = softmax.rest < 1;
    GRADIENT_OF_ROW(
        factor / temperature * (column == best && is_likely
            ? others - mass * (softmax.rest / softmax.total)
            : mass / softmax.total * softmax.exponential(column, prediction / temperature)
                  - share(column, target)));
"""


def _distance_to_nothing(
    predictions: Array,
    targets: Array,
    *,
    target_kind: DistributionKind = DistributionKind.PROBABILITIES,
    **_others: object,
) -> Array:
    """At a probability of 0 the derivative by it is -inf."""
    del predictions
    is_smooth = target_kind is not DistributionKind.PROBABILITIES
    return abs(targets) + (float("inf") if is_smooth else 0)


@loss(
    Shape.ROWWISE,
    inputs=(
        PREDICTIONS,
        Input(
            "targets",
            "the distribution that the predictions should have",
            differentiable=Differentiable.ON_REQUEST,
            domain=NONNEGATIVE,
            domain_when={"target_kind": DistributionKind.PROBABILITIES},
        ),
    ),
    cuda=tuple(
        CudaText(
            shares + _FROM_LOGITS,
            when={"prediction_kind": DistributionKind.LOGITS, "target_kind": kind},
            targets_are_classes=False,
        )
        for kind, shares in _SHARES.items()
    ),
    examples=(
        # Of (1/4, 3/4) from (1/2, 1/2): log 2 / 2 + log (2/3) / 2.
        Example(
            {"predictions": [[0.0, LOG_3]], "targets": [[0.5, 0.5]]},
            value=LOG_2 - LOG_3 / 2,
            gradients={
                "predictions": [[-0.25, 0.25]],
                "targets": [[1 + LOG_2, 1 + LOG_2 - LOG_3]],
            },
        ),
        # A class of share 0 costs nothing.
        Example(
            {"predictions": [[0.25, 0.75]], "targets": [[0.0, 1.0]]},
            parameters={"prediction_kind": DistributionKind.PROBABILITIES},
            value=LOG_4 - LOG_3,
            gradients={"predictions": [[0.0, -4 / 3]], "targets": [[0.0, 1 + LOG_4 - LOG_3]]},
        ),
        Example(
            {"predictions": [[-LOG_4, LOG_3 - LOG_4]], "targets": [[-LOG_2, -LOG_2]]},
            parameters={
                "prediction_kind": DistributionKind.LOG_PROBABILITIES,
                "target_kind": DistributionKind.LOG_PROBABILITIES,
            },
            value=LOG_2 - LOG_3 / 2,
            gradients={
                "predictions": [[-0.5, -0.5]],
                "targets": [[(1 + LOG_2) / 2, (1 + LOG_2 - LOG_3) / 2]],
            },
        ),
        # Both are softened to the distributions of the first example.
        Example(
            {"predictions": [[0.0, 2 * LOG_3]], "targets": [[5.0, 5.0]]},
            parameters={
                "target_kind": DistributionKind.LOGITS,
                "temperature": 2.0,
                "scale_by_squared_temperature": True,
            },
            value=4 * (LOG_2 - LOG_3 / 2),
            gradients={"predictions": [[-0.5, 0.5]], "targets": [[LOG_3 / 2, -LOG_3 / 2]]},
        ),
    ),
    kinks={"targets": _distance_to_nothing},
)
def kl_divergence(
    xp: Any,
    predictions: Array,
    targets: Array,
    *,
    prediction_kind: DistributionKind = DistributionKind.LOGITS,
    target_kind: DistributionKind = DistributionKind.PROBABILITIES,
    temperature: Annotated[float, POSITIVE] = 1.0,
    scale_by_squared_temperature: bool = False,
) -> Evaluation:
    """What a prediction lacks of the target distribution, in nats.

        value = sum_c p_c (log p_c - log q_c),  p the target, q the prediction
        logits x: q = softmax(x / temperature), and so for targets that are logits
        gradient = ((sum_c p_c) q - p) / temperature
        by log-probabilities: -p;  by probabilities: -p / q
        by the targets: log p - log q + 1;  p (log p - log q + 1) by log-probabilities;
          p (log p - log q - value) / temperature by logits

    A class of target 0 contributes 0 to the value and to every gradient, its own included, although
    the derivative by a probability is -inf there.  A target of a class that the prediction holds
    impossible gives an infinite value.  A temperature goes with predictions that are logits; of the
    targets, only logits are divided by it.  scale_by_squared_temperature multiplies value and
    gradients by its square, as in distillation.  The mean is PyTorch's "batchmean".

    Reference: S. Kullback and R. A. Leibler, On information and sufficiency, 1951; temperature:
    G. Hinton et al., Distilling the knowledge in a neural network, 2015, section 2.
    """
    if temperature != 1 and prediction_kind is not DistributionKind.LOGITS:
        raise ParameterError(
            "temperature",
            f"temperature must be 1 unless predictions are logits, got {temperature:g}",
        )
    factor = temperature * temperature if scale_by_squared_temperature else 1.0
    shares, log_shares = _target(xp, targets, target_kind, temperature)
    costs, gradient = _prediction(xp, predictions, shares, prediction_kind, temperature)
    gaps = log_shares + costs
    value = weighed(xp, shares, gaps).sum(axis=-1)

    def by_targets() -> Array:
        slope = _TARGET_SLOPES[target_kind](xp, shares, gaps, value, temperature)
        return slope * factor

    if factor == 1:
        return Evaluation(value, {"predictions": gradient, "targets": by_targets})
    return Evaluation(value * factor, {"predictions": gradient * factor, "targets": by_targets})


def _target(
    xp: Any, targets: Array, kind: DistributionKind, temperature: float
) -> tuple[Array, Array]:
    """The share of each class, and its logarithm."""
    if kind is DistributionKind.PROBABILITIES:
        return targets, xp.log(targets)
    if kind is DistributionKind.LOG_PROBABILITIES:
        return xp.exp(targets), targets
    parts = softmax(xp, targets / temperature)
    return parts.probabilities(), -parts.negative_logs(xp)


def _prediction(
    xp: Any, predictions: Array, shares: Array, kind: DistributionKind, temperature: float
) -> tuple[Array, Array]:
    """-log q of each class, and the derivative of the divergence by the number given for it."""
    if kind is DistributionKind.LOG_PROBABILITIES:
        return -predictions, -shares
    if kind is DistributionKind.PROBABILITIES:
        return -xp.log(predictions), weighed(xp, shares, -1 / predictions)
    parts = softmax(xp, predictions if temperature == 1 else predictions / temperature)
    costs = parts.negative_logs(xp)
    gradient = parts.surplus(xp, shares)
    if temperature != 1:
        gradient /= temperature
    return costs, gradient


def _slope_of_probabilities(
    xp: Any, shares: Array, gaps: Array, value: Array, temperature: float
) -> Array:
    del value, temperature
    return xp.where(shares == 0, 0, gaps + 1)


def _slope_of_log_probabilities(
    xp: Any, shares: Array, gaps: Array, value: Array, temperature: float
) -> Array:
    del value, temperature
    return weighed(xp, shares, gaps + 1)


def _slope_of_logits(
    xp: Any, shares: Array, gaps: Array, value: Array, temperature: float
) -> Array:
    return weighed(xp, shares, gaps - value[:, None]) / temperature


_TARGET_SLOPES: dict[DistributionKind, Callable[..., Array]] = {
    DistributionKind.PROBABILITIES: _slope_of_probabilities,
    DistributionKind.LOG_PROBABILITIES: _slope_of_log_probabilities,
    DistributionKind.LOGITS: _slope_of_logits,
}
