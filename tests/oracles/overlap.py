"""Losses of a region: each takes the elements of one example, with or without their classes."""

from collections.abc import Sequence
from typing import Any

import mpmath


def _sigmoid(logit: Any) -> Any:
    return 1 / (1 + mpmath.exp(-logit))


def _softmax(logits: Sequence[Any]) -> list[Any]:
    exponentials = [mpmath.exp(x) for x in logits]
    return [x / sum(exponentials) for x in exponentials]


def probability(given: Any, kind: str) -> Any:
    """The probability that a number stands for."""
    return {
        "LOGITS": _sigmoid,
        "LOG_PROBABILITIES": mpmath.exp,
        "PROBABILITIES": lambda probability: probability,
    }[kind](given)


def _regions(predictions: Any, targets: Any, kind: str) -> list[tuple[list[Any], list[Any]]]:
    """Probabilities and true shares, class by class."""
    if not isinstance(predictions[0], tuple):
        return [([probability(x, kind) for x in predictions], list(targets))]
    rows = [
        _softmax(row) if kind == "LOGITS" else [probability(x, kind) for x in row]
        for row in predictions
    ]
    count = len(predictions[0])
    shares = [
        [mpmath.mpf(t == c) for c in range(count)] if isinstance(t, int) else t for t in targets
    ]
    return [([r[c] for r in rows], [s[c] for s in shares]) for c in range(count)]


def _overlap(
    predictions: Any,
    targets: Any,
    weights: tuple[Any, Any, Any],
    *,
    prediction_kind: Any = None,
    smooth: float = 1e-5,
    empty_target: Any = None,
    gamma: float = 1,
    class_axis: int | None = None,
) -> Any:
    del class_axis  # always the last one here
    kind = prediction_kind.name if prediction_kind else "LOGITS"
    hits, alpha, beta = weights
    losses = []
    for given, truth in _regions(predictions, targets, kind):
        if empty_target and empty_target.name == "SKIP" and not any(truth):
            continue
        both = sum(p * t for p, t in zip(given, truth, strict=True))
        false_positives, false_negatives = sum(given) - both, sum(truth) - both
        total = hits * both + alpha * false_positives + beta * false_negatives + smooth
        losses.append((1 - (hits * both + smooth) / total) ** gamma if total else mpmath.mpf(0))
    return sum(losses) / max(len(losses), 1)


def dice(predictions: Any, targets: Any, **parameters: Any) -> Any:
    """Dice, 1945: twice the intersection over the sum of the sizes."""
    return _overlap(predictions, targets, (2, 1, 1), **parameters)


def jaccard(predictions: Any, targets: Any, **parameters: Any) -> Any:
    """Jaccard, 1912: the intersection over the union."""
    return _overlap(predictions, targets, (1, 1, 1), **parameters)


def tversky(
    predictions: Any, targets: Any, alpha: float = 0.5, beta: float = 0.5, **parameters: Any
) -> Any:
    """Tversky, 1977: with alpha for what is predicted and false, beta for what is missed."""
    exact = mpmath.mpf(alpha), mpmath.mpf(beta)
    return _overlap(predictions, targets, (1, *exact), **parameters)


def _lovasz_extension(errors: Sequence[Any], truth: Sequence[bool]) -> Any:
    """Of the Jaccard loss of a set of errors, from its definition."""
    order = sorted(range(len(errors)), key=lambda i: -errors[i])
    total, before = mpmath.mpf(0), mpmath.mpf(0)
    right, union = sum(map(bool, truth)), sum(map(bool, truth))
    for place in order:
        right, union = (right - 1, union) if truth[place] else (right, union + 1)
        after = 1 - mpmath.mpf(right) / union
        total += errors[place] * (after - before)
        before = after
    return total


def lovasz_hinge(predictions: Sequence[Any], targets: Sequence[Any]) -> Any:
    """Berman et al., 2018: the extension at the hinge losses."""
    errors = [
        max(0, 1 - x * (1 if t == 1 else -1)) for x, t in zip(predictions, targets, strict=True)
    ]
    # Below the margin there is no error; what is left is in the order of the scores.
    return _lovasz_extension(errors, [t == 1 for t in targets])


def lovasz_softmax(predictions: Any, targets: Sequence[int], class_axis: int = -1) -> Any:
    """Berman et al., 2018: the extension at the errors of each class that is present."""
    del class_axis  # always the last one here
    rows = [_softmax(row) for row in predictions]
    losses = []
    for present in sorted({int(t) for t in targets}):
        truth = [t == present for t in targets]
        errors = [1 - r[present] if t else r[present] for r, t in zip(rows, truth, strict=True)]
        losses.append(_lovasz_extension(errors, truth))
    return sum(losses) / len(losses)
