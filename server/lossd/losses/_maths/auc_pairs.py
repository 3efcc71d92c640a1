"""Sums over all pairs of a positive and a negative example.

No matrix of all pairs is ever held.  Everything is computed in float64, since the sums are long.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lossd.losses._body import BatchContext
from lossd.losses._maths.scans import running_sum
from lossd.losses._maths.sigmoid import softplus
from lossd.schema import Array

# Pairs are computed in tiles of this many examples by as many others, whatever the threads.
_IN_CACHE, _AT_ONCE = (128, 2048), (2048, 8192)


@dataclass(frozen=True, slots=True)
class ClassScores:
    """The scores of one class, in float64, with their weights."""

    scores: Array
    weights: Array


@dataclass(frozen=True, slots=True)
class Label:
    """The examples of one label: ``above`` are the positives, which should score higher."""

    above: ClassScores
    below: ClassScores
    positive: Array

    @classmethod
    def split(cls, scores: Array, positive: Array, batch: BatchContext) -> "Label":
        """Splits the scores of all examples by class."""
        scores = scores.astype(np.float64)
        above, below = (ClassScores(scores[s], batch.weights[s]) for s in (positive, ~positive))
        return cls(above, below, positive)

    @property
    def has_pairs(self) -> bool:
        """Whether there are examples of both classes."""
        return len(self.above.scores) > 0 and len(self.below.scores) > 0

    @property
    def weight(self) -> Any:
        """The weight of all pairs; a pair's is the product of those of its examples."""
        return self.above.weights.sum() * self.below.weights.sum()

    def placed(self, xp: Any, of_above: Array, of_below: Array) -> Array:
        """Returns numbers for the examples of each class, in the order of all examples."""
        found = xp.empty(len(self.positive))
        found[self.positive] = of_above
        found[~self.positive] = of_below
        return found


@dataclass(frozen=True, slots=True)
class Pairs:
    """The mean over the pairs of a label, and a function for its derivatives."""

    value: Any
    derivatives: Callable[[], tuple[Array, Array]]


def squared_hinge(xp: Any, label: Label, margin: float) -> Pairs:
    """Returns the mean of max(0, margin - difference)^2, from two sorted walks.

    A walk goes down the scores of the negatives and of the positives less the margin, merged.  A
    pair counts where the negative comes first, by the square of the distance between the two.  With
    S0, S1 and S2 the weighted sums over the negatives so far of powers of the distances, a step of
    length w turns S2 into S2 + 2 w S1 + w^2 S0 and S1 into S1 + w S0.  These are running sums of
    numbers that are not negative, so nothing cancels, as it would in sums of scores and of their
    squares.
    """
    above, below = label.above, label.below
    raw = xp.concatenate((below.scores, above.scores))
    if not bool(xp.isfinite(raw).all()):
        return _from_infinite(xp, label, margin)
    is_above = xp.arange(len(raw)) >= len(below.scores)
    order = xp.argsort(xp.where(is_above, margin - raw, -raw), kind="stable")
    raw, is_above = raw[order], is_above[order]
    weights = xp.concatenate((below.weights, above.weights))[order]
    of_above, of_below = xp.where(is_above, weights, 0), xp.where(is_above, 0, weights)
    # From the scores, whose difference is exact where they are close, and not from the sorted keys,
    # which are rounded, perhaps past a neighbour.
    turns = is_above[1:].astype(np.float64) - is_above[:-1]
    ways = xp.maximum(raw[:-1] - raw[1:] + margin * turns, 0)
    passed, first = _walk(xp, of_below, ways)
    second = _running(xp, ways * (2 * first[:-1] + ways * passed[:-1]))

    def derivatives() -> tuple[Array, Array]:
        _, back = _walk(xp, of_above[::-1], ways[::-1])
        found = xp.empty_like(raw)
        found[order] = weights * xp.where(is_above, -first, back[::-1]) * (2 / label.weight)
        return found[len(below.scores) :], found[: len(below.scores)]

    return Pairs((of_above * second).sum() / label.weight, derivatives)


def _walk(xp: Any, weights: Array, ways: Array) -> tuple[Array, Array]:
    """Returns S0 and S1 at each step: the weights so far, and those times the distances."""
    passed = running_sum(xp, weights)
    return passed, _running(xp, ways * passed[:-1])


def _running(xp: Any, steps: Array) -> Array:
    """Returns the sum of the steps before each position, one more than there are steps."""
    return xp.concatenate((xp.zeros(1), running_sum(xp, steps)))


def _from_infinite(xp: Any, label: Label, margin: float) -> Pairs:
    """Handles infinite scores: 0 on the right side; elsewhere the gradients are NaN."""
    above, below = label.above, label.below
    near = above.scores != xp.inf, below.scores != -xp.inf
    sides = [
        ClassScores(s.scores[n], s.weights[n]) for s, n in zip((above, below), near, strict=True)
    ]
    left = Label(sides[0], sides[1], label.positive)
    share = left.weight / label.weight
    if not all(bool(xp.isfinite(side.scores).all()) for side in sides):
        missing = any(bool(xp.isnan(side.scores).any()) for side in sides)
        unknown = [xp.full(len(side.scores), xp.nan) for side in (above, below)]
        return Pairs(xp.nan if missing else xp.inf, lambda: (unknown[0], unknown[1]))
    pairs = squared_hinge(xp, left, margin) if left.has_pairs else None

    def derivatives() -> tuple[Array, Array]:
        placed = [xp.zeros(len(kept)) for kept in near]
        if pairs is not None:
            for place, kept, found in zip(placed, near, pairs.derivatives(), strict=True):
                place[kept] = found * share
        return placed[0], placed[1]

    return Pairs(0.0 if pairs is None else pairs.value * share, derivatives)


def logistic(xp: Any, label: Label, batch: BatchContext) -> Pairs:
    """Returns the mean of log(1 + exp(-difference)), tile by tile.

    The pairs are visited once for the value and the positives and, for the gradient, once more for
    the negatives, so that no tile waits for another and every sum has a fixed order.
    """
    above, below = label.above, label.below
    values, by_above = _against(xp, above, below, batch, -1)

    def derivatives() -> tuple[Array, Array]:
        _, by_below = _against(xp, below, above, batch, 1)
        scale = 1 / label.weight
        return -by_above * above.weights * scale, by_below * below.weights * scale

    return Pairs((above.weights * values).sum() / label.weight, derivatives)


def _against(
    xp: Any, own: ClassScores, other: ClassScores, batch: BatchContext, sign: int
) -> tuple[Array, Array]:
    """Returns for each score the sums over others of w log(1 + exp(d)) and w sigmoid(d).

    d is ``sign`` times the difference of the score and the other one.
    """
    values, derivatives = xp.zeros_like(own.scores), xp.zeros_like(own.scores)
    height, width = _IN_CACHE if batch.in_cache else _AT_ONCE

    def tile(index: int) -> None:
        rows = slice(index * height, (index + 1) * height)
        for start in range(0, len(other.scores), width):
            columns = slice(start, start + width)
            ways = sign * (own.scores[rows, None] - other.scores[columns])
            terms, shares = softplus(xp, ways)
            values[rows] += (terms * other.weights[columns]).sum(axis=-1)
            derivatives[rows] += (shares * other.weights[columns]).sum(axis=-1)

    batch.for_each(-(-len(own.scores) // height), tile)
    return values, derivatives
