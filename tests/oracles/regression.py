"""Losses of a residual: each averages over the elements of one example."""

from collections.abc import Callable, Sequence
from typing import Any

import mpmath


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


def smooth_l1(predictions: Sequence[Any], targets: Sequence[Any], beta: float = 1) -> Any:
    """Girshick, 2015, with a width."""
    beta = mpmath.mpf(beta)
    return _mean(
        predictions, targets, lambda r: r * r / (2 * beta) if abs(r) < beta else abs(r) - beta / 2
    )


def log_cosh(predictions: Sequence[Any], targets: Sequence[Any]) -> Any:
    """From exponentials; 120 digits hold what cancels."""
    return _mean(
        predictions,
        targets,
        lambda r: mpmath.log((mpmath.exp(r) + mpmath.exp(-r)) / 2),
    )


def quantile(predictions: Sequence[Any], targets: Sequence[Any], quantile: float = 0.5) -> Any:
    """Koenker and Bassett, 1978: the larger of two lines."""
    share = mpmath.mpf(quantile)
    return _mean(predictions, targets, lambda r: max(-share * r, (1 - share) * r))


def poisson_nll(
    predictions: Sequence[Any],
    targets: Sequence[Any],
    log_input: bool = True,  # noqa: FBT001, FBT002 - as PyTorch calls it
    full: bool = False,  # noqa: FBT001, FBT002
) -> Any:
    """PyTorch's documented definition, without its eps."""
    total = mpmath.mpf(0)
    for given, count in zip(predictions, targets, strict=True):
        rate = mpmath.exp(given) if log_input else given
        total += rate
        if count:
            total -= count * (given if log_input else mpmath.log(given))
        if full and count > 1:
            total += count * mpmath.log(count) - count + mpmath.log(2 * mpmath.pi * count) / 2
    return total / len(predictions)


def gaussian_nll(
    predictions: Sequence[Any],
    targets: Sequence[Any],
    variances: Sequence[Any],
    full: bool = False,  # noqa: FBT001, FBT002 - as PyTorch calls it
    eps: float = 1e-6,
) -> Any:
    """-log of the density, with a floor for the variance."""
    total = mpmath.mpf(0)
    for given, target, variance in zip(predictions, targets, variances, strict=True):
        floored = max(variance, mpmath.mpf(eps))
        density = mpmath.exp(-((given - target) ** 2) / (2 * floored)) / mpmath.sqrt(
            2 * mpmath.pi * floored
        )
        total -= mpmath.log(density) + (0 if full else mpmath.log(2 * mpmath.pi) / 2)
    return total / len(predictions)
