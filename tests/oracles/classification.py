"""Losses of classes and of answers."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import mpmath

LOWEST_LOG = -100


def _log(number: Any) -> Any:
    return mpmath.log(number) if number > 0 else -mpmath.inf


def _times(share: Any, cost: Any) -> Any:
    return 0 if share == 0 else share * cost


def cross_entropy(
    predictions: Sequence[Any],
    targets: Any,
    *,
    prediction_kind: Any = None,
    class_weights: Sequence[float] = (),
    label_smoothing: float = 0,
    temperature: float = 1,
    class_priors: Sequence[float] = (),
    prior_strength: float = 1,
    z_loss: float = 0,
    outputs: Any = (),  # noqa: ARG001 - they change nothing
) -> Any:
    """PyTorch's documented definition, term by term; Menon et al. (2021), PaLM's z-loss."""
    count = len(predictions)
    weights = [mpmath.mpf(w) for w in class_weights] or [mpmath.mpf(1)] * count
    smoothing = mpmath.mpf(label_smoothing)
    kind = prediction_kind.name if prediction_kind else "LOGITS"
    penalty = mpmath.mpf(0)
    if kind == "LOGITS":
        logits = _adjusted(predictions, temperature, class_priors, prior_strength)
        log_total = mpmath.log(sum(mpmath.exp(p) for p in logits))
        costs = [log_total - p for p in logits]
        penalty = _times(z_loss, log_total**2)
    elif kind == "PROBABILITIES":
        costs = [-_log(p) for p in predictions]
    else:
        costs = [-p for p in predictions]
    if isinstance(targets, int):
        spread = sum(_times(smoothing / count * w, c) for w, c in zip(weights, costs, strict=True))
        return _times((1 - smoothing) * weights[targets], costs[targets]) + spread + penalty
    return penalty + sum(
        _times(w * (y * (1 - smoothing) + smoothing / count), c)
        for w, y, c in zip(weights, targets, costs, strict=True)
    )


def _adjusted(
    predictions: Sequence[Any], temperature: float, priors: Sequence[float], strength: float
) -> list[Any]:
    scaled = [p / temperature for p in predictions]
    if not priors:
        return scaled
    total = sum(mpmath.mpf(prior) for prior in priors)
    return [
        x + strength * mpmath.log(prior / total) for x, prior in zip(scaled, priors, strict=True)
    ]


def _exponentials(predictions: Sequence[Any], parameters: Mapping[str, Any]) -> list[Any]:
    logits = _adjusted(
        predictions,
        parameters.get("temperature", 1),
        parameters.get("class_priors", ()),
        parameters.get("prior_strength", 1),
    )
    return [mpmath.exp(x) for x in logits]


def _log_sum_exp(predictions: Sequence[Any], targets: Any, **parameters: Any) -> Any:
    del targets
    return _log(sum(_exponentials(predictions, parameters)))


def _target_log_probability(predictions: Sequence[Any], targets: Any, **parameters: Any) -> Any:
    terms = _exponentials(predictions, parameters)
    logs = [_log(term / sum(terms)) for term in terms]
    if isinstance(targets, int):
        return logs[targets]
    return sum(_times(y, log) for y, log in zip(targets, logs, strict=True))


def _entropy(predictions: Sequence[Any], targets: Any, **parameters: Any) -> Any:
    del targets
    terms = _exponentials(predictions, parameters)
    return -sum(_times(term / sum(terms), _log(term / sum(terms))) for term in terms)


def _predicted_class(predictions: Sequence[Any], targets: Any, **parameters: Any) -> int:
    del targets
    terms = _exponentials(predictions, parameters)
    return terms.index(max(terms))


CROSS_ENTROPY_OUTPUTS: Mapping[str, Callable[..., Any]] = {
    "log_sum_exp": _log_sum_exp,
    "target_log_probability": _target_log_probability,
    "entropy": _entropy,
    "predicted_class": _predicted_class,
}


def binary_cross_entropy(
    predictions: Sequence[Any],
    targets: Sequence[Any],
    prediction_kind: Any = None,
    positive_weights: Sequence[float] = (),
    label_smoothing: float = 0,
) -> Any:
    """Mean over the answers of -(w y log p + (1 - y) log(1 - p))."""
    weights = list(positive_weights) or [1]
    weights = weights * len(predictions) if len(weights) == 1 else weights
    smoothing = mpmath.mpf(label_smoothing)
    kind = prediction_kind.name if prediction_kind else "LOGITS"
    total = mpmath.mpf(0)
    for given, target, weight in zip(predictions, targets, weights, strict=True):
        yes, no = _costs(given, kind)
        y = target * (1 - smoothing) + smoothing / 2
        total += _times(weight * y, yes) + _times(1 - y, no)
    return total / len(predictions)


def _costs(given: Any, kind: str) -> tuple[Any, Any]:
    """-log p and -log(1 - p)."""
    if kind == "LOGITS":
        return mpmath.log(1 + mpmath.exp(-given)), mpmath.log(1 + mpmath.exp(given))
    if kind == "LOG_PROBABILITIES":
        return -given, -_log(1 - mpmath.exp(given))
    return -max(_log(given), LOWEST_LOG), -max(_log(1 - given), LOWEST_LOG)


def _softmax(logits: Sequence[Any], temperature: float = 1) -> list[Any]:
    powers = [mpmath.exp(logit / temperature) for logit in logits]
    return [power / sum(powers) for power in powers]


def _distribution(given: Sequence[Any], kind: Any, default: str, temperature: float) -> list[Any]:
    name = kind.name if kind else default
    if name == "LOGITS":
        return _softmax(given, temperature)
    return [mpmath.exp(x) for x in given] if name == "LOG_PROBABILITIES" else list(given)


def kl_divergence(
    predictions: Sequence[Any],
    targets: Sequence[Any],
    *,
    prediction_kind: Any = None,
    target_kind: Any = None,
    temperature: float = 1,
    scale_by_squared_temperature: bool = False,
) -> Any:
    """Kullback and Leibler, 1951."""
    q = _distribution(predictions, prediction_kind, "LOGITS", temperature)
    p = _distribution(targets, target_kind, "PROBABILITIES", temperature)
    total = sum(_times(a, _log(a) - _log(b)) for a, b in zip(p, q, strict=True))
    return total * (temperature**2 if scale_by_squared_temperature else 1)


def hinge(
    predictions: Sequence[Any], targets: Sequence[Any], margin: float = 1, power: float = 1
) -> Any:
    """Mean over the answers of what they miss the margin by."""
    missed = [max(0, margin - y * x) for x, y in zip(predictions, targets, strict=True)]
    return sum(m**power for m in missed) / len(missed)


def multiclass_hinge(
    predictions: Sequence[Any],
    targets: int,
    variant: Any = None,
    margin: float = 1,
    power: float = 1,
) -> Any:
    """The worst of what the target misses the margin by, or all of it."""
    wrong = [x for j, x in enumerate(predictions) if j != targets]
    missed = [max(0, margin - predictions[targets] + x) ** power for x in wrong]
    if variant and variant.name == "WESTON_WATKINS":
        return mpmath.mpf(sum(missed))
    return mpmath.mpf(max(missed, default=0))


def focal(
    predictions: Sequence[Any],
    targets: Sequence[Any],
    gamma: float = 2,
    alpha: float | None = None,
) -> Any:
    """torchvision's formula, in probabilities."""
    total = mpmath.mpf(0)
    for x, y in zip(predictions, targets, strict=True):
        yes, no = 1 / (1 + mpmath.exp(-x)), 1 / (1 + mpmath.exp(x))
        doubt = max(yes * (1 - y) + no * y, mpmath.mpf(0))
        balance = 1 if alpha is None else alpha * y + (1 - mpmath.mpf(alpha)) * (1 - y)
        costs = (
            _times(y, mpmath.log(1 + mpmath.exp(-x))),
            _times(1 - y, mpmath.log(1 + mpmath.exp(x))),
        )
        total += balance * doubt**gamma * sum(costs)
    return total / len(predictions)


def softmax_focal(
    predictions: Sequence[Any],
    targets: Any,
    gamma: float = 2,
    class_weights: Sequence[float] = (),
) -> Any:
    """Lin et al., 2017, for each class."""
    count = len(predictions)
    weights = list(class_weights) or [1] * count
    shares = [int(c == targets) for c in range(count)] if isinstance(targets, int) else targets
    p = _softmax(predictions)
    total = mpmath.mpf(0)
    for c, share in enumerate(shares):
        doubt = mpmath.mpf(sum(p[:c] + p[c + 1 :]))
        total += _times(mpmath.mpf(weights[c]) * share, -_log(p[c]) * doubt**gamma)
    return total


def expected_risk(log_probabilities: Sequence[Any], risks: Sequence[Any], alpha: float = 1) -> Any:
    """Shen et al., 2016, with probabilities that are renormalised over the candidates."""
    powers = [mpmath.exp(x) ** mpmath.mpf(alpha) for x in log_probabilities]
    return sum(p * r for p, r in zip(powers, risks, strict=True)) / sum(powers)
