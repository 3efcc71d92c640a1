"""Selects the triplets of a batch that count: all, the hardest, or the semi-hard ones.

Each function takes the distances of some anchors to all examples, which of these are positives and
negatives, and the margin.  It returns the value of each anchor, the gradients with respect to the
distances, and the positive and the negative of its hardest triplet.  Each anchor has at least one
of both.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from lossd.losses._maths.scans import running_minimum, running_sum
from lossd.schema import Array


@dataclass(frozen=True, slots=True)
class Candidates:
    """Distances of float64 from some anchors to all examples; a row of each is an anchor's."""

    distances: Array
    is_positive: Array
    is_negative: Array

    @property
    def numbers(self) -> tuple[Array, Array]:
        """How many positives and negatives there are, at least 1 so that one can divide by it."""
        counts = (flags.sum(axis=-1) for flags in (self.is_positive, self.is_negative))
        positives, negatives = (count + (count == 0) for count in counts)
        return positives, negatives


@dataclass(frozen=True, slots=True)
class Mined:
    """The result for each anchor."""

    values: Array
    derivatives: Array
    positives: Array
    negatives: Array


def hardest(xp: Any, candidates: Candidates) -> tuple[Array, Array]:
    """Returns the farthest positive and the nearest negative; among equals the lowest index."""
    positives = xp.where(candidates.is_positive, candidates.distances, -xp.inf).argmax(axis=-1)
    negatives = xp.where(candidates.is_negative, candidates.distances, xp.inf).argmin(axis=-1)
    return positives, negatives


def mine_hard(xp: Any, candidates: Candidates, margin: float) -> Mined:
    """Computes the hardest triplet alone."""
    each = xp.arange(len(candidates.distances))
    positives, negatives = hardest(xp, candidates)
    values = margin + candidates.distances[each, positives] - candidates.distances[each, negatives]
    is_active = values > 0
    derivatives = xp.zeros_like(candidates.distances)
    derivatives[each, positives] = is_active
    derivatives[each, negatives] = -1.0 * is_active
    return Mined(xp.maximum(values, 0), derivatives, positives, negatives)


def mine_all(xp: Any, candidates: Candidates, margin: float) -> Mined:
    """Computes the mean over all triplets, from a sorted walk.

    A triplet counts where its negative comes before its positive plus the margin, by the distance
    between the two.  Running sums of these distances, none of which is negative, do not cancel.  An
    example that is neither comes last, where distances are infinite and the sums are not used.
    """
    each, count = xp.arange(len(candidates.distances))[:, None], candidates.distances.shape[-1]
    # Positives come first, so that they are first among equals and a tie does not count.
    keys = xp.concatenate(
        (
            xp.where(candidates.is_positive, candidates.distances + margin, xp.inf),
            xp.where(candidates.is_negative, candidates.distances, xp.inf),
        ),
        axis=-1,
    )
    none = xp.zeros_like(candidates.is_positive)
    order = xp.argsort(keys, axis=-1, kind="stable")
    keys = keys[each, order]
    is_positive = xp.concatenate((candidates.is_positive, none), axis=-1)[each, order]
    is_negative = xp.concatenate((none, candidates.is_negative), axis=-1)[each, order]
    before = running_sum(xp, is_negative.astype(np.float64))
    after = candidates.is_positive.sum(axis=-1)[:, None] - running_sum(
        xp, is_positive.astype(np.float64)
    )
    passed = running_sum(xp, (keys[:, 1:] - keys[:, :-1]) * before[:, :-1])
    costs = xp.where(is_positive[:, 1:], passed, 0)
    positives, negatives = candidates.numbers
    triplets = positives * negatives
    sorted_slopes = xp.where(is_positive, before, 0) - xp.where(is_negative, after, 0)
    derivatives = xp.empty_like(keys)
    derivatives[each, order] = sorted_slopes / triplets[:, None]
    return Mined(
        costs.sum(axis=-1) / triplets,
        derivatives[:, :count] + derivatives[:, count:],
        *hardest(xp, candidates),
    )


def mine_semi_hard(xp: Any, candidates: Candidates, margin: float) -> Mined:
    """Computes the mean over positives, each with the nearest negative that is farther than it.

    A positive that is farther than all negatives goes with the farthest.
    """
    count = candidates.distances.shape[-1]
    each = xp.arange(len(candidates.distances))
    anchor, positive, negative = _semi_hard(xp, candidates)
    costs = xp.full_like(candidates.distances, -xp.inf)
    costs[anchor, positive] = (
        margin + candidates.distances[anchor, positive] - candidates.distances[anchor, negative]
    )
    is_active = costs > 0
    # Counted as integers, whose sums do not depend on the order.
    active = is_active[anchor, positive]
    flat = (anchor * count + negative)[active]
    pushed = xp.bincount(flat, minlength=candidates.distances.size).reshape(
        candidates.distances.shape
    )
    positives, _ = candidates.numbers
    best = costs.argmax(axis=-1)
    chosen = xp.zeros_like(candidates.distances, dtype=negative.dtype)
    chosen[anchor, positive] = negative
    return Mined(
        xp.maximum(costs, 0).sum(axis=-1) / positives,
        (is_active.astype(np.float64) - pushed) / positives[:, None],
        best,
        chosen[each, best],
    )


def _semi_hard(xp: Any, candidates: Candidates) -> tuple[Array, Array, Array]:
    """Returns every anchor and positive, with the negative that goes with them."""
    count = candidates.distances.shape[-1]
    each = xp.arange(len(candidates.distances))
    # Negatives come first, so that the next one after a positive is strictly farther.
    keys = xp.concatenate(
        (
            xp.where(candidates.is_negative, candidates.distances, xp.inf),
            xp.where(candidates.is_positive, candidates.distances, xp.inf),
        ),
        axis=-1,
    )
    order = xp.argsort(keys, axis=-1, kind="stable")
    is_negative = (order < count) & candidates.is_negative[each[:, None], order % count]
    ranks = xp.arange(2 * count)
    following = xp.where(is_negative, ranks, 2 * count)[:, ::-1]
    following = running_minimum(xp, following)[:, ::-1]
    rank = xp.empty_like(order)
    rank[each[:, None], order] = ranks
    anchor, positive = xp.nonzero(candidates.is_positive)
    found = following[anchor, rank[anchor, count + positive]]
    farthest = xp.where(candidates.is_negative, candidates.distances, -xp.inf).argmax(axis=-1)
    nearest = order[anchor, xp.minimum(found, 2 * count - 1)]
    return anchor, positive, xp.where(found == 2 * count, farthest[anchor], nearest)
