"""Losses of classes and of answers."""

from collections.abc import Sequence
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
) -> Any:
    """PyTorch's documented definition, term by term."""
    count = len(predictions)
    weights = [mpmath.mpf(w) for w in class_weights] or [mpmath.mpf(1)] * count
    smoothing = mpmath.mpf(label_smoothing)
    kind = prediction_kind.name if prediction_kind else "LOGITS"
    if kind == "LOGITS":
        scaled = [p / temperature for p in predictions]
        total = sum(mpmath.exp(p) for p in scaled)
        costs = [mpmath.log(total) - p for p in scaled]
    elif kind == "PROBABILITIES":
        costs = [-_log(p) for p in predictions]
    else:
        costs = [-p for p in predictions]
    if isinstance(targets, int):
        spread = sum(_times(smoothing / count * w, c) for w, c in zip(weights, costs, strict=True))
        return _times((1 - smoothing) * weights[targets], costs[targets]) + spread
    return sum(
        _times(w * (y * (1 - smoothing) + smoothing / count), c)
        for w, y, c in zip(weights, targets, costs, strict=True)
    )


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
