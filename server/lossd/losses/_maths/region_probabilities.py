"""The probability that an element belongs to a region, and that it does not.

Both are computed, neither as one minus the other: for a nearly certain prediction the small one
keeps its digits, and so does every error count that is a sum of small ones.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lossd.losses._inputs import DistributionKind
from lossd.losses._maths.softmax import Softmax, softmax
from lossd.schema import Array


@dataclass(frozen=True, slots=True)
class FaintSlopes:
    """Derivatives with respect to p that need more than their type: slopes over exp of a scale.

    ``scale`` is about the largest log p, so that what a small p makes of them is a number again.
    ``shares`` are log p and 1 - p.
    """

    xp: Any
    slopes: Array
    scale: Array
    shares: tuple[Array, Array]

    def by_share(self) -> Array:
        """Returns the derivatives with respect to p, which need not be 0 where p is."""
        return finite_product(self.xp, self.xp.exp(-self.scale), self.slopes)

    def by_log(self) -> Array:
        """Returns the derivatives with respect to log p."""
        return finite_product(self.xp, self.xp.exp(self.shares[0] - self.scale), self.slopes)


def finite_product(xp: Any, left: Any, right: Any) -> Array:
    """Returns a product of factors of which one may be infinite where the other is 0: it is 0."""
    return xp.where(xp.asarray((left == 0) | (right == 0)), 0, left * right)


@dataclass(frozen=True, slots=True)
class RegionProbabilities:
    """The probabilities p, ``inside``, and 1 - p, ``outside``, of each element.

    ``back`` turns derivatives with respect to p into derivatives with respect to the numbers that
    were given, and ``spread`` does so for those that are finite only together with their p.
    """

    inside: Array
    outside: Array
    back: Callable[[Array], Array]
    spread: Callable[[FaintSlopes], Array]


def answer_shares(xp: Any, predictions: Array, kind: DistributionKind) -> RegionProbabilities:
    """Returns the probabilities of yes-or-no answers: p is the sigmoid of a logit."""
    if kind is DistributionKind.PROBABILITIES:
        return RegionProbabilities(
            predictions,
            1 - predictions,
            lambda derivatives: derivatives,
            lambda faint: faint.by_share(),
        )
    if kind is DistributionKind.LOG_PROBABILITIES:
        inside = xp.exp(predictions)
        outside = -xp.expm1(predictions)
        return RegionProbabilities(
            inside,
            outside,
            lambda derivatives: derivatives * inside,
            lambda faint: faint.by_log(),
        )
    # NumPy's clip takes a third of the time of its minimum and maximum with a number.
    inside, outside = xp.clip(predictions, -xp.inf, 0), -xp.clip(predictions, 0, xp.inf)
    xp.exp(inside, out=inside)
    xp.exp(outside, out=outside)
    total = inside * outside  # exp(-|x|), since one of the factors is 1
    total += 1
    inside /= total
    outside /= total
    return RegionProbabilities(
        inside,
        outside,
        lambda derivatives: derivatives * inside * outside,
        lambda faint: faint.by_log() * faint.shares[1],
    )


def class_shares(xp: Any, predictions: Array, kind: DistributionKind) -> RegionProbabilities:
    """Returns the probabilities of exclusive classes on axis 1: p is the softmax of logits."""
    if kind is not DistributionKind.LOGITS:
        return answer_shares(xp, predictions, kind)
    parts, placed = _softmax_of_classes(xp, predictions)
    inside = parts.probabilities()

    def back(derivatives: Array) -> Array:
        """Returns p_c times the mean of g_c - g_k under p, from differences to the best class's g.

        The best class's own difference is exactly 0, so its large p multiplies no rounding error.
        """
        by_class = _moved(xp, derivatives).reshape(inside.shape)
        apart = by_class - by_class[parts.rows, parts.best][:, None]
        mean = (inside * apart).sum(axis=-1)
        return placed(inside * (apart - mean[:, None]))

    def spread(faint: FaintSlopes) -> Array:
        """Returns g_c less p_c times the sum of all g, of derivatives with respect to log p.

        Of the best class that is (1 - p) g less p times the others', since its p may be 1.
        """
        by_class, logs, others = (
            _moved(xp, a).reshape(inside.shape) for a in (faint.by_log(), *faint.shares)
        )
        best, shares = (parts.rows, parts.best), xp.exp(logs)
        of_best = by_class[best]
        by_class[best] = 0
        rest = by_class.sum(axis=-1)
        by_class -= shares * (rest + of_best)[:, None]
        by_class[best] = of_best * others[best] - shares[best] * rest
        return placed(by_class)

    return RegionProbabilities(placed(inside), placed(parts.complements()), back, spread)


def log_shares(
    xp: Any, predictions: Array, kind: DistributionKind, *, exclusive: bool
) -> tuple[Array, Array]:
    """Computes log p and 1 - p in float64; classes that exclude each other are on axis 1."""
    given = predictions.astype(np.float64)
    if kind is DistributionKind.PROBABILITIES:
        return xp.log(given), 1 - given
    if kind is DistributionKind.LOG_PROBABILITIES:
        return given, -xp.expm1(given)
    if not exclusive:
        tail = xp.exp(-abs(given))
        no = xp.where(given < 0, 1, tail) / (1 + tail)
        return xp.clip(given, -xp.inf, 0) - xp.log1p(tail), no
    parts, placed = _softmax_of_classes(xp, given)
    return placed(-parts.negative_logs(xp)), placed(parts.complements())


def class_log_odds(xp: Any, logits: Array) -> Array:
    """Computes log(p / (1 - p)) in float64, of classes on axis 1 that exclude each other."""
    parts, placed = _softmax_of_classes(xp, logits.astype(np.float64))
    return placed(parts.log_odds(xp))


def _softmax_of_classes(xp: Any, logits: Array) -> tuple[Softmax, Callable[[Array], Array]]:
    """Returns the softmax of classes on axis 1, and a function that moves its rows back there."""
    examples, classes, elements = logits.shape
    parts = softmax(xp, _moved(xp, logits).reshape(examples * elements, classes))

    def placed(values: Array) -> Array:
        return _moved(xp, values.reshape(examples, elements, classes))

    return parts, placed


def _moved(xp: Any, values: Array) -> Array:
    """Returns a C-contiguous copy with the last two of three axes exchanged."""
    return xp.ascontiguousarray(values.transpose(0, 2, 1))
