"""The probability that an element belongs to a region, and that it does not.

Both are computed, neither is one less the other: of a prediction that is nearly certain the small
one keeps its digits, and with it every error count that is a sum of small ones.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lossd.losses._declare import DistributionKind
from lossd.losses._schema import Array
from lossd.losses._softmax import softmax


@dataclass(frozen=True, slots=True)
class Shares:
    """The probabilities p, ``inside``, and 1 - p, ``outside``, of each element.

    ``back`` turns derivatives by p into derivatives by the numbers that were given.
    """

    inside: Array
    outside: Array
    back: Callable[[Array], Array]


def answer_shares(xp: Any, predictions: Array, kind: DistributionKind) -> Shares:
    """Of yes-or-no answers: p is the sigmoid of a logit."""
    if kind is DistributionKind.PROBABILITIES:
        return Shares(predictions, 1 - predictions, lambda slopes: slopes)
    if kind is DistributionKind.LOG_PROBABILITIES:
        inside = xp.exp(predictions)
        return Shares(inside, -xp.expm1(predictions), lambda slopes: slopes * inside)
    # NumPy's clip takes a third of the time of its minimum and maximum with a number.
    inside, outside = xp.clip(predictions, -xp.inf, 0), -xp.clip(predictions, 0, xp.inf)
    xp.exp(inside, out=inside)
    xp.exp(outside, out=outside)
    total = inside * outside  # exp(-|x|), since one of the two is 1
    total += 1
    inside /= total
    outside /= total
    return Shares(inside, outside, lambda slopes: slopes * inside * outside)


def class_shares(xp: Any, predictions: Array, kind: DistributionKind) -> Shares:
    """Of classes on axis 1 that exclude each other: p is the softmax of logits."""
    if kind is not DistributionKind.LOGITS:
        return answer_shares(xp, predictions, kind)
    examples, classes, elements = predictions.shape
    rows = _moved(xp, predictions).reshape(examples * elements, classes)
    parts = softmax(xp, rows)
    inside = parts.probabilities()

    def placed(values: Array) -> Array:
        return _moved(xp, values.reshape(examples, elements, classes))

    def back(slopes: Array) -> Array:
        """p_c times the mean of g_c - g_k under p, from differences to the likeliest class's g.

        That one's own difference is exactly 0, so its large p multiplies nothing that was rounded.
        """
        by_class = _moved(xp, slopes).reshape(rows.shape)
        apart = by_class - by_class[parts.rows, parts.best][:, None]
        mean = (inside * apart).sum(axis=-1)
        return placed(inside * (apart - mean[:, None]))

    return Shares(placed(inside), placed(parts.complements()), back)


def _moved(xp: Any, values: Array) -> Array:
    """A C-contiguous copy with the last two of three axes exchanged."""
    return xp.ascontiguousarray(values.transpose(0, 2, 1))
