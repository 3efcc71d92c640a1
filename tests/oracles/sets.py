"""Losses of a whole set: each takes the examples as rows of labels, and their weights."""

from collections.abc import Sequence
from typing import Any

import mpmath

from tests.oracles.overlap import probability


def _columns(rows: Sequence[Any]) -> list[tuple[Any, ...]]:
    if not isinstance(rows[0], tuple):
        return [tuple(rows)]
    return list(zip(*rows, strict=True))


def soft_f1(
    predictions: Sequence[Any],
    targets: Sequence[Any],
    prediction_kind: Any = None,
    weights: Sequence[Any] = (),
) -> Any:
    """The harmonic mean of soft precision and soft recall, less than 1 by the loss."""
    kind = prediction_kind.name if prediction_kind else "LOGITS"
    weights = weights or [1] * len(predictions)
    losses = []
    for given, truth in zip(_columns(predictions), _columns(targets), strict=True):
        shares = [probability(x, kind) for x in given]
        both = sum(w * p * t for w, p, t in zip(weights, shares, truth, strict=True))
        sizes = sum(w * (p + t) for w, p, t in zip(weights, shares, truth, strict=True))
        if sizes:
            losses.append(1 - 2 * both / sizes)
    return sum(losses) / max(len(losses), 1)


def pairwise_auc(
    predictions: Sequence[Any],
    targets: Sequence[Any],
    surrogate: Any = None,
    margin: float = 1,
    weights: Sequence[Any] = (),
) -> Any:
    """Every pair by itself."""
    weights = weights or [1] * len(predictions)
    losses = []
    for scores, truth in zip(_columns(predictions), _columns(targets), strict=True):
        rows = list(zip(scores, truth, weights, strict=True))
        above = [(x, w) for x, t, w in rows if t == 1]
        below = [(x, w) for x, t, w in rows if t != 1]
        if not above or not below:
            continue
        pairs = [(x - y, w * v) for x, w in above for y, v in below]
        if surrogate and surrogate.name == "LOGISTIC":
            total = sum(w * mpmath.log(1 + mpmath.exp(-d)) for d, w in pairs)
        else:
            total = sum(w * max(0, margin - d) ** 2 for d, w in pairs)
        losses.append(total / sum(w for _, w in pairs))
    return sum(losses) / max(len(losses), 1)
