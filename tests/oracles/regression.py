"""Losses of a residual: each averages over the elements of one example."""

from collections.abc import Callable, Sequence
from typing import Any


def _mean(predictions: Sequence[Any], targets: Sequence[Any], formula: Callable[[Any], Any]) -> Any:
    residuals = [p - t for p, t in zip(predictions, targets, strict=True)]
    return sum(formula(residual) for residual in residuals) / len(residuals)


def squared_error(predictions: Sequence[Any], targets: Sequence[Any]) -> Any:
    """Legendre, 1805."""
    return _mean(predictions, targets, lambda r: r * r)


def absolute_error(predictions: Sequence[Any], targets: Sequence[Any]) -> Any:
    """Boscovich, 1757."""
    return _mean(predictions, targets, abs)


def huber(predictions: Sequence[Any], targets: Sequence[Any], delta: float = 1) -> Any:
    """Huber, 1964."""
    return _mean(
        predictions,
        targets,
        lambda r: r * r / 2 if abs(r) <= delta else delta * abs(r) - delta * delta / 2,
    )
