"""Sums over all pairs of a positive and a negative example.

No matrix of all pairs is ever held.  Everything is computed in float64, since the sums are long.
Scores stay where and as they are: of each example only its place in the order is held, and the
walks along them go block by block.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lossd.losses._body import BatchContext
from lossd.losses._maths.masked_products import product
from lossd.losses._maths.scans import running_sum
from lossd.losses._maths.sigmoid import softplus
from lossd.ordering import ordered, sort_in_place
from lossd.schema import Array

# Steps of a walk that are taken together.
_BLOCK, _BLOCK_ON_DEVICE = 1 << 15, 1 << 22
_LOW = 0xFFFFFFFF
# Between these, sums of weights have products that float64 can hold.
SMALL, LARGE = 1e-100, 1e100
# Pairs are computed in tiles of this many examples by as many others, whatever the threads.
_IN_CACHE, _AT_ONCE = (128, 2048), (2048, 8192)


Put = Callable[[Array, Array], None]  # takes places of examples, and their derivatives


def put_nowhere(places: Array, derivatives: Array) -> None:
    """Forgets derivatives that nobody wants."""


@dataclass(frozen=True, slots=True)
class Label:
    """The examples of one label: those that are ``above`` should score higher.

    Of each class the weights are times a power of two, which no result depends on.
    """

    scores: Array
    above: Array
    below: Array
    batch: BatchContext
    exponents: tuple[int, int] = (0, 0)

    @classmethod
    def of(cls, scores: Array, is_above: Array, batch: BatchContext) -> "Label":
        """Returns a label, with weights whose sums have a product that float64 can hold."""
        found = cls(scores, is_above, ~is_above, batch)
        sums = [float(found._sum(members)) for members in (found.above, found.below)]
        if all(total == 0 or SMALL < total < LARGE for total in sums):
            return found
        above, below = (-math.frexp(total)[1] for total in sums)
        return replace(found, exponents=(above, below))

    @property
    def has_pairs(self) -> bool:
        """Whether there are examples of both classes."""
        return bool(self.above.any()) and bool(self.below.any())

    @property
    def weight(self) -> Any:
        """The weight of all pairs; a pair's is the product of those of its examples."""
        return self._sum(self.above) * self._sum(self.below)

    def weights(self, places: Any) -> Array:
        """Returns the weights of some examples."""
        found = self.batch.weights[places]
        if self.exponents == (0, 0):
            return found
        above, below = self.exponents
        exponents = self.above[places] * np.int32(above) + self.below[places] * np.int32(below)
        return np.ldexp(found, exponents)

    @property
    def step(self) -> int:
        """How many examples are looked at together."""
        return _BLOCK if self.batch.in_cache else _BLOCK_ON_DEVICE

    def blocks(self) -> Iterator[slice]:
        """Yields parts of the examples, one after the other."""
        for start in range(0, len(self.scores), self.step):
            self.batch.checkpoint()
            yield slice(start, start + self.step)

    def raw(self, places: Array) -> Array:
        """Returns the scores at some places, in float64."""
        return self.scores[places].astype(np.float64)

    def all_are(self, holds: Callable[[Array], Array]) -> bool:
        """Returns whether something holds for all scores that count."""
        return all(
            bool((holds(self.scores[b]) | ~(self.above[b] | self.below[b])).all())
            for b in self.blocks()
        )

    def _sum(self, members: Array) -> Any:
        return sum(self.weights(b)[members[b]].sum() for b in self.blocks())


def squared_hinge(xp: Any, label: Label, margin: float, put: Put) -> Any:
    """Returns the mean of max(0, margin - difference)^2, from two sorted walks.

    A walk goes down the scores of the negatives and of the positives less the margin, merged.  A
    pair counts where the negative comes first, by the square of the distance between the two.  With
    S0, S1 and S2 the weighted sums over the negatives so far of powers of the distances, a step of
    length w turns S2 into S2 + 2 w S1 + w^2 S0 and S1 into S1 + w S0.  These are running sums of
    numbers that are not negative, so nothing cancels, as it would in sums of scores and of their
    squares.
    """
    if not label.all_are(xp.isfinite):
        return _from_infinite(xp, label, margin, put)
    walk, weight, value = _MergedWalk(xp, label, margin), label.weight, 0.0
    for part in walk.parts():
        # What is passed only by negatives may be infinite.
        value += xp.where(part.is_above, part.weights * part.second, 0).sum()
        found = part.weights * -part.first * (2 / weight)
        put(part.places[part.is_above], found[part.is_above])
    for part, back in () if put is put_nowhere else walk.back():
        found = part.weights * back * (2 / weight)
        put(part.places[~part.is_above], found[~part.is_above])
    return value / weight


@dataclass(frozen=True, slots=True)
class _Steps:
    """Some steps of a walk: the examples that are met, and the sums there."""

    places: Array
    raw: Array
    is_above: Array
    weights: Array
    first: Any = None
    second: Any = None

    @property
    def of_above(self) -> Array:
        """The weights of the positives, 0 for negatives."""
        return self.weights * self.is_above

    @property
    def of_below(self) -> Array:
        """The weights of the negatives, 0 for positives."""
        return self.weights * ~self.is_above


class _MergedWalk:
    """A walk along the merged scores of a label, in parts; it holds the order of each class."""

    def __init__(self, xp: Any, label: Label, margin: float) -> None:
        self._xp, self._label, self._margin = xp, label, margin
        self._above = _descending(xp, label, label.above)
        self._below = _descending(xp, label, label.below)
        self._cuts = [(0, 0), *self._merged()]

    def parts(self) -> Iterator[_Steps]:
        """Yields the parts with S1 and S2 at each step."""
        xp, passed, first, second = self._xp, 0.0, 0.0, 0.0
        last: _Steps | None = None
        for number in range(len(self._cuts) - 1):
            part = self._part(number)
            ways = self._ways(last, part)
            before = _before(xp, passed, part.of_below)
            far = product(xp, ways, before[:-1])
            firsts = _before(xp, first, far)
            seconds = _before(xp, second, product(xp, ways, 2 * firsts[:-1] + far))
            passed, first, second = before[-1], firsts[-1], seconds[-1]
            yield replace(part, first=firsts[1:], second=seconds[1:])
            last = part

    def back(self) -> Iterator[tuple[_Steps, Array]]:
        """Yields the parts from the last one on, with S1 over the positives still to come."""
        xp, passed, first = self._xp, 0.0, 0.0
        after: _Steps | None = None
        for number in reversed(range(len(self._cuts) - 1)):
            part = self._part(number)
            out = xp.zeros(1) if after is None else self._ways(part, after)[:1]
            ways = xp.concatenate((out, self._ways(None, part)[:0:-1]))
            before = _before(xp, passed, part.of_above[::-1])
            firsts = _before(xp, first, product(xp, ways, before[:-1]))
            passed, first = before[-1], firsts[-1]
            yield part, firsts[:0:-1]
            after = part

    def _ways(self, last: "_Steps | None", part: "_Steps") -> Array:
        """Returns the way to each example of a part, from the one before it; 0 to the very first.

        From the scores, whose difference is exact where they are close, and not from the sorted
        keys, which are rounded, perhaps past a neighbour.
        """
        xp, whence = self._xp, part if last is None else last
        edge = slice(0, 1) if last is None else slice(-1, None)
        raw = xp.concatenate((whence.raw[edge], part.raw))
        is_above = xp.concatenate((whence.is_above[edge], part.is_above)).astype(np.float64)
        turns = is_above[1:] - is_above[:-1]
        return xp.maximum(raw[:-1] - raw[1:] + self._margin * turns, 0)

    def _part(self, number: int) -> _Steps:
        self._label.batch.checkpoint()
        xp, (above, below), (to_above, to_below) = self._xp, *self._cuts[number : number + 2]
        places = xp.concatenate((self._below(below, to_below), self._above(above, to_above)))
        is_above = xp.arange(len(places)) >= to_below - below
        raw = self._label.raw(places)
        order = xp.argsort(xp.where(is_above, self._margin - raw, -raw), kind="stable")
        places = places[order]
        return _Steps(places, raw[order], is_above[order], self._label.weights(places))

    def _merged(self) -> Iterator[tuple[int, int]]:
        """Yields how many of each class have been met at the end of each part.

        Where scores are equal, the negatives come first.
        """
        xp, step = self._xp, self._label.step
        counts = [int(members.sum()) for members in (self._label.above, self._label.below)]
        above = below = 0
        while (above, below) != tuple(counts):
            self._label.batch.checkpoint()
            ends = min(above + step, counts[0]), min(below + step, counts[1])
            of_above = self._margin - self._label.raw(self._above(above, ends[0]))
            of_below = -self._label.raw(self._below(below, ends[1]))
            taken = [len(of_above), len(of_below)]
            if ends[1] < counts[1]:
                taken[0] = int(xp.searchsorted(of_above, of_below[-1:], "left")[0])
            if ends[0] < counts[0]:
                taken[1] = int(xp.searchsorted(of_below, of_above[-1:], "right")[0])
            above, below = above + taken[0], below + taken[1]
            yield above, below


def _descending(xp: Any, label: Label, members: Array) -> Callable[[int, int], Array]:
    """Returns what gives places of one class, from the highest score to the lowest.

    A score of 32 bits and its place are sorted as one number.
    """
    scores = label.scores
    if scores.dtype != np.float32 or len(scores) > _LOW:
        places = _falling(xp, label, xp.flatnonzero(members))
        return lambda begin, end: places[begin:end]
    found, at = xp.empty(int(members.sum()), np.uint64), 0
    for block in label.blocks():
        own = xp.flatnonzero(members[block]).astype(np.uint64)
        falling = falling_bits(xp, scores[block][members[block]])
        places = own + np.uint64(block.start)
        found[at : at + len(own)] = falling.astype(np.uint64) << np.uint64(32) | places
        at += len(own)
    if xp is np:
        sort_in_place(found, label.batch.checkpoint)
    else:
        found.sort()
    return lambda begin, end: (found[begin:end] & np.uint64(_LOW)).astype(np.int64)


def falling_bits(xp: Any, scores: Array) -> Array:
    """Returns numbers without a sign that fall as scores of float32 rise."""
    bits = xp.ascontiguousarray(scores).view(np.int32)
    found: Array = xp.where(bits < 0, bits, bits ^ np.int32(0x7FFFFFFF)).view(np.uint32)
    return found


def _falling(xp: Any, label: Label, places: Array) -> Array:
    """Returns places by their scores, from the highest to the lowest."""
    if xp is np:
        checkpoint = label.batch.checkpoint
        return ordered(places, len(places), lambda at: -label.scores[at], checkpoint=checkpoint)
    falling = label.scores[places]
    order = xp.argsort(xp.negative(falling, out=falling), kind="stable")
    del falling
    return places[order]


def _before(xp: Any, first: Any, steps: Array) -> Array:
    """Returns the sum before each step, from a first one on, and that after the last."""
    return running_sum(xp, xp.concatenate((xp.zeros(1) + first, steps)))


def _from_infinite(xp: Any, label: Label, margin: float, put: Put) -> Any:
    """Handles infinite scores: 0 on the right side; elsewhere the gradients are NaN."""
    above = label.above & (label.scores != xp.inf)
    below = label.below & (label.scores != -xp.inf)
    left = replace(label, above=above, below=below)
    is_sound = left.all_are(xp.isfinite)
    for block in label.blocks():
        places = block.start + xp.flatnonzero(label.above[block] | label.below[block])
        put(places, xp.full(len(places), 0.0 if is_sound else xp.nan))
    if not is_sound:
        return xp.inf if left.all_are(lambda scores: ~xp.isnan(scores)) else xp.nan
    if not left.has_pairs:
        return 0.0
    share = left.weight / label.weight
    if put is put_nowhere:
        return squared_hinge(xp, left, margin, put) * share
    return squared_hinge(xp, left, margin, lambda at, found: put(at, found * share)) * share


def logistic(xp: Any, label: Label, put: Put) -> Any:
    """Returns the mean of log(1 + exp(-difference)), tile by tile.

    The pairs are visited once for the value and the positives and, for the gradient, once more for
    the negatives, so that no tile waits for another and every sum has a fixed order.
    """
    above, below = xp.flatnonzero(label.above), xp.flatnonzero(label.below)
    weight = label.weight
    value = _against(xp, label, above, below, lambda at, found: put(at, -found / weight), sign=-1)
    if put is not put_nowhere:
        _against(xp, label, below, above, lambda at, found: put(at, found / weight), sign=1)
    return value / weight


def _against(xp: Any, label: Label, own: Array, other: Array, put: Put, *, sign: int) -> Any:
    """Returns the sum over pairs of their weights times log(1 + exp(d)).

    d is ``sign`` times the difference of the scores of an example and an other one.  Put for each
    is its weight times the sum over others of w sigmoid(d).
    """
    height, width = _IN_CACHE if label.batch.in_cache else _AT_ONCE
    sums = xp.zeros(-(-len(own) // height))

    def tile(index: int) -> None:
        places = own[index * height : (index + 1) * height]
        scores = label.raw(places)
        values, derivatives = xp.zeros_like(scores), xp.zeros_like(scores)
        for start in range(0, len(other), width):
            label.batch.checkpoint()
            others = other[start : start + width]
            of_others = label.weights(others)
            ways = sign * (scores[:, None] - label.raw(others))
            terms, shares = softplus(xp, ways)
            values += (terms * of_others).sum(axis=-1)
            derivatives += (shares * of_others).sum(axis=-1)
        own_weights = label.weights(places)
        sums[index] = (values * own_weights).sum()
        put(places, derivatives * own_weights)

    label.batch.for_each(len(sums), tile)
    return sums.sum()
