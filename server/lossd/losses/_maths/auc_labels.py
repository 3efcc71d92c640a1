"""Sums over pairs of examples for many labels at once, where each has few examples.

One by one, a label takes as long as thousands of examples do.  Here labels with equally many
positives are rows of matrices, and everything that is added up is added in the order, and in the
groups, of ``auc_pairs``: the results have the same bits.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lossd.losses._maths.auc_pairs import LARGE, SMALL, falling_bits
from lossd.losses._maths.masked_products import product
from lossd.losses._maths.scans import running_sum
from lossd.losses._maths.sigmoid import softplus
from lossd.schema import Array

# With more, a label takes about as long for itself.
MOST_EXAMPLES = 64
# Examples of labels, or pairs of them, that are looked at together.
_BLOCK = 1 << 14


def alike(is_above: Array, *, by_pairs: bool) -> Iterator[Array]:
    """Yields the columns of labels with equally many positives, some at a time.

    They are so few that their examples, or the pairs of them, fit the caches of a CPU.
    """
    counts = np.count_nonzero(is_above, axis=0)
    for count in np.unique(counts).tolist():
        columns = np.flatnonzero(counts == count)
        each = count * (len(is_above) - count) if by_pairs else len(is_above)
        step = max(1, _BLOCK // each)
        for start in range(0, len(columns), step):
            yield columns[start : start + step]


@dataclass(frozen=True, slots=True)
class OfLabels:
    """The values of some labels, and their derivatives, (labels, examples).

    Where ``are_plain`` is False they are not to be used: weights are far apart, or scores infinite.
    """

    values: Array
    derivatives: Array
    are_plain: Array


def squared_hinges(scores: Array, is_above: Array, weights: Array, margin: float) -> OfLabels:
    """Returns the means of max(0, margin - difference)^2 of labels with equally many positives.

    Scores and whether they are of positives lie row by row, (labels, examples).
    """
    weight, are_plain = _pair_weights(*_classes(is_above), weights)
    are_plain &= np.isfinite(scores).all(axis=1)
    order = _merged(scores, is_above, margin)
    raw = _raw(scores, order)
    positive = np.take_along_axis(is_above, order, axis=1)
    own = np.take(weights, order)
    ways = _ways(raw, positive, margin)
    far = product(np, ways, _before(own * ~positive)[:, :-1])
    firsts = _before(far)
    seconds = _before(product(np, ways, 2 * firsts[:, :-1] + far))[:, 1:]
    values = np.where(positive, own * seconds, 0).sum(axis=1) / weight
    back = _back(ways, own * positive)
    walked = own * np.where(positive, -firsts[:, 1:], back) * (2 / weight)[:, None]
    derivatives = np.empty_like(walked)
    np.put_along_axis(derivatives, order, walked, axis=1)
    return OfLabels(values, derivatives, are_plain)


def logistics(scores: Array, is_above: Array, weights: Array) -> OfLabels:
    """Returns the same of log(1 + exp(-difference))."""
    above, below = _classes(is_above)
    weight, are_plain = _pair_weights(above, below, weights)
    derivatives = np.empty(scores.shape)
    values = np.zeros(len(scores))
    for places, others, sign in ((above, below, -1), (below, above, 1)):
        own, of_others = np.take(weights, places), np.take(weights, others)
        ways = sign * (_raw(scores, places)[:, :, None] - _raw(scores, others)[:, None, :])
        terms, shares = softplus(np, ways)
        if sign < 0:
            values = ((terms * of_others[:, None, :]).sum(axis=-1) * own).sum(axis=-1) / weight
        found = (shares * of_others[:, None, :]).sum(axis=-1) * own
        found = (found if sign > 0 else -found) / weight[:, None]
        np.put_along_axis(derivatives, places, found, axis=1)
    return OfLabels(values, derivatives, are_plain)


def _classes(is_above: Array) -> tuple[Array, Array]:
    """Returns the places of positives and of negatives, of which all labels have as many."""
    count = int(np.count_nonzero(is_above[0]))
    places = np.argsort(~is_above, axis=1, kind="stable")
    return places[:, :count], places[:, count:]


def _pair_weights(above: Array, below: Array, weights: Array) -> tuple[Array, Array]:
    """Returns the weights of all pairs, and where those of no class are huge or tiny."""
    sums = [np.take(weights, places).sum(axis=1) for places in (above, below)]
    plain = [(total == 0) | ((total > SMALL) & (total < LARGE)) for total in sums]
    return sums[0] * sums[1], plain[0] & plain[1]


def _raw(scores: Array, places: Array) -> Array:
    return np.take_along_axis(scores, places, axis=1).astype(np.float64)


def _merged(scores: Array, is_above: Array, margin: float) -> Array:
    """Returns the places of negatives and of positives less the margin, from the highest down."""
    falling = falling_bits(np, scores) if scores.dtype == np.float32 else -scores
    order = np.argsort(falling, axis=1, kind="stable")
    order = _by(order, np.take_along_axis(is_above, order, axis=1))
    raw = _raw(scores, order)
    positive = np.take_along_axis(is_above, order, axis=1)
    return _by(order, np.where(positive, margin - raw, -raw))


def _by(order: Array, keys: Array) -> Array:
    return np.take_along_axis(order, np.argsort(keys, axis=1, kind="stable"), axis=1)


def _ways(raw: Array, positive: Array, margin: float) -> Array:
    """Returns the way to each example from the one before it; 0 to the first."""
    turns = np.diff(positive.astype(np.float64), axis=1)
    ways = np.zeros(raw.shape)
    np.maximum(raw[:, :-1] - raw[:, 1:] + margin * turns, 0, out=ways[:, 1:])
    return ways


def _back(ways: Array, of_above: Array) -> Array:
    """Returns the sums of the distances to the positives still to come."""
    out = np.concatenate((np.zeros((len(ways), 1)), ways[:, :0:-1]), axis=1)
    firsts = _before(product(np, out, _before(of_above[:, ::-1])[:, :-1]))
    return firsts[:, :0:-1]


def _before(steps: Array) -> Array:
    """Returns the sum before each step, and that after the last."""
    return running_sum(np, np.concatenate((np.zeros((len(steps), 1)), steps), axis=1))
