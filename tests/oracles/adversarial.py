"""Losses of critics, generators and feature maps: each takes all there is of them."""

from collections.abc import Callable, Sequence
from typing import Any

import mpmath

Rows = Sequence[Sequence[Any]]


def _softplus(x: Any) -> Any:
    return mpmath.log(1 + mpmath.exp(x))


def _mean(rows: Rows, weights: Sequence[Any], term: Callable[[Any], Any]) -> Any:
    """The weighted mean over examples of the mean over their elements."""
    values = [sum(term(x) for x in row) / len(row) for row in rows]
    return sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)


def _critic(objective: str, smoothing: Any) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """Returns the costs of a score that should be high, and of one that should be low."""
    target = 1 - mpmath.mpf(smoothing)
    entropy = (
        lambda x: target * _softplus(-x) + (1 - target) * _softplus(x),
        _softplus,
    )
    return {
        "LEAST_SQUARES": (lambda x: (x - target) ** 2 / 2, lambda x: x**2 / 2),
        "HINGE": (lambda x: max(0, 1 - x), lambda x: max(0, 1 + x)),
        "WASSERSTEIN": (lambda x: -x, lambda x: x),
    }.get(objective, entropy)


def _averaged(high: Rows, low: Rows, costs: Any, weights: Any) -> Any:
    """Each side against the mean of the other."""
    means = [_mean(rows, own, lambda x: x) for rows, own in zip((high, low), weights, strict=True)]
    return _mean(high, weights[0], lambda x: costs[0](x - means[1])) + _mean(
        low, weights[1], lambda x: costs[1](x - means[0])
    )


def _paired(high: Rows, low: Rows, cost: Callable[[Any], Any], weights: Any) -> Any:
    apart = [[x - y for x, y in zip(a, b, strict=True)] for a, b in zip(high, low, strict=True)]
    return _mean(apart, weights, cost)


def discriminator_loss(
    real: Rows,
    fake: Rows,
    *,
    objective: Any = None,
    label_smoothing: float = 0,
    weights: Sequence[Any] = (),
) -> Any:
    """The mean of the real terms plus the mean of the generated ones."""
    name = objective.name if objective else "NON_SATURATING"
    costs = _critic(name, label_smoothing)
    given = weights or [1] * (len(real) + len(fake))
    parts = given[: len(real)], given[len(real) :]
    if name == "RELATIVISTIC":
        return _paired(real, fake, costs[0], weights or [1] * len(real))
    if name == "RELATIVISTIC_AVERAGE":
        return _averaged(real, fake, costs, parts)
    return _mean(real, parts[0], costs[0]) + _mean(fake, parts[1], costs[1])


def generator_loss(
    fake: Rows, real: Rows = (), *, objective: Any = None, weights: Sequence[Any] = ()
) -> Any:
    """The mean of the generated terms; relativistic ones are the critic's with roles exchanged."""
    name = objective.name if objective else "NON_SATURATING"
    costs = _critic(name, 0)
    if name == "RELATIVISTIC":
        return _paired(fake, real, costs[0], weights or [1] * len(fake))
    given = weights or [1] * (len(real) + len(fake))
    if name == "RELATIVISTIC_AVERAGE":
        return _averaged(fake, real, costs, (given[len(real) :], given[: len(real)]))
    cost = {
        "MINIMAX": lambda x: -_softplus(x),
        "HINGE": lambda x: -x,
    }.get(name, costs[0])
    return _mean(fake, given, cost)


def _elements(row: Any) -> list[Any]:
    return [x for part in row for x in _elements(part)] if isinstance(row, tuple) else [row]


def _norm(numbers: Sequence[Any]) -> Any:
    return mpmath.sqrt(sum(x**2 for x in numbers))


def gradient_penalty(
    input_gradients: Any,
    *,
    variant: Any = None,
    target_norm: float = 1,
    one_sided: bool = False,
) -> Any:
    """Gulrajani et al., 2017, and Mescheder et al., 2018."""
    norm = _norm(_elements(input_gradients))
    if variant and variant.name == "R1":
        return norm**2 / 2
    excess = norm - mpmath.mpf(target_norm)
    return max(0, excess) ** 2 if one_sided else excess**2


def feature_matching(
    predictions: Sequence[Any],
    targets: Sequence[Any],
    *,
    layer_weights: Sequence[float] = (),
    distance: Any = None,
    style_weight: float = 0,
) -> Any:
    """A tuple of layers, each a tuple of channels, each a tuple of places."""
    total = mpmath.mpf(0)
    weights = layer_weights or [1] * len(predictions)
    for weight, x, y in zip(weights, predictions, targets, strict=True):
        content = _apart(_elements(x), _elements(y), distance.name if distance else "")
        count = len(_elements(x))
        style = sum(
            (_gram(x, i, j) / count - _gram(y, i, j) / count) ** 2
            for i in range(len(x))
            for j in range(len(x))
        )
        total += mpmath.mpf(weight) * (content + mpmath.mpf(style_weight) * style)
    return total


def _apart(x: Sequence[Any], y: Sequence[Any], distance: str) -> Any:
    if distance == "COSINE":
        return 1 - sum(a * b for a, b in zip(x, y, strict=True)) / (_norm(x) * _norm(y))
    mean = sum((a - b) ** 2 for a, b in zip(x, y, strict=True)) / len(x)
    return mpmath.sqrt(mean) if distance == "EUCLIDEAN" else mean


def _gram(maps: Any, row: int, column: int) -> Any:
    return sum(a * b for a, b in zip(maps[row], maps[column], strict=True))
