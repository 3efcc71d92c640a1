"""All alignments of labels with a longer row of frames, weighed and summed.

A row of S labels is spread over 2 S + 1 states: its labels with a blank before, between and behind
them.  From one frame to the next an alignment stays in its state, moves on by one, or leaves out a
blank between two labels that differ.  It begins in one of the first two states and ends in one of
the last two.  The weight of an alignment is the product of what its states weigh in their frames.

    arrival[t, s] = sum of the weights of all ways from the begin to state s at frame t,
                    without what s weighs there

Run backwards, the same recursion gives all ways to the end, and the product of both is the share
that a state has in the total.  The recursion runs on plain numbers, rescaled by powers of two on
the way, which is exact.  A number that becomes too small for that is lost, so rows where a lost one
might have counted are found, and run on logarithms instead.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lossd.losses._schema import Array

# The power of two above which what float64 loses below 2^-1022 is nothing beside it.
FAINTEST = -900
# Frames between two rescalings: numbers may shrink by 2^-900 meanwhile, and grow by 3^8.
STRETCH = 8
LOG_2 = 0.6931471805599453


@dataclass(frozen=True, slots=True)
class Labels:
    """Rows of labels: of each the first ``counts`` count, in ``frames`` frames."""

    classes: Array
    counts: Array
    frames: Array
    blank: int


@dataclass(frozen=True, slots=True)
class Lattice:
    """The states of some rows of labels, and what they weigh in each frame.

    ``classes`` has the class of each state (rows, states), ``last`` the number of each row's last
    state and ``frames`` the number of its frames.  ``logs`` has the logarithms of the weights,
    (frames, rows, states), of which none is above 0; outside of a row it is -inf.
    """

    classes: Array
    last: Array
    frames: Array
    logs: Array
    skips: Array  # whether a state can be reached past the one before it


@dataclass(frozen=True, slots=True)
class Alignments:
    """The logarithm of the total of each row, and shares like ``logs`` of the lattice."""

    total: Array
    shares: Array


def lattice(xp: Any, scores: Array, labels: Labels) -> tuple[Lattice, Array]:
    """Lays out the states of some rows, and takes the largest score off each frame.

    ``scores`` (rows, frames, classes) are the logarithms of the weights.  Returns the lattice and
    what was taken off, (frames, rows).
    """
    rows, length, _ = scores.shape
    states = xp.arange(2 * labels.classes.shape[1] + 1)
    classes = xp.full((rows, len(states)), labels.blank, np.int64)
    classes[:, 1::2] = labels.classes
    skips = xp.zeros(classes.shape, bool)
    skips[:, 3::2] = classes[:, 3::2] != classes[:, 1:-2:2]
    in_row = states <= 2 * labels.counts[:, None]
    in_time = xp.arange(length)[:, None] < labels.frames
    logs = xp.empty((length, *classes.shape))
    count = scores.shape[2]
    places = xp.arange(rows)[:, None] * (length * count) + classes
    flat = scores.reshape(-1)
    for time in range(length):
        logs[time] = flat[places + time * count]
    logs = xp.where(in_time[:, :, None] & in_row, logs, -xp.inf)
    largest = logs.max(axis=-1)
    largest = xp.where(largest == -xp.inf, 0, largest)
    logs -= largest[:, :, None]
    return Lattice(classes, 2 * labels.counts, labels.frames, logs, skips), largest


def align(xp: Any, given: Lattice, own: Array | None = None) -> Alignments:
    """Sums over all alignments of each row.

    The shares are of what each state weighs in its frame, or with ``own`` (frames, rows) of the
    exponential of that instead, as a derivative by the weight itself has it.  A row without any
    alignment has the total -inf and shares without meaning.
    """
    found, trusted = _align_scaled(xp, given, own)
    if bool(trusted.all()):
        return found
    rows = xp.flatnonzero(~trusted)
    part = Lattice(
        given.classes[rows],
        given.last[rows],
        given.frames[rows],
        given.logs[:, rows],
        given.skips[rows],
    )
    exact = _align_logs(xp, part, None if own is None else own[:, rows])
    found.total[rows] = exact.total
    found.shares[:, rows] = exact.shares
    return found


# ------------------------------------------------------------------ both ways at once


@dataclass(frozen=True, slots=True)
class _Ways:
    """A lattice, and in its second half of rows the same with time and states turned round."""

    weights: Array
    skips: Array
    first: Array  # the arrivals of each row at the frame in which it begins
    begins: Array
    ends: Array


def _both_ways(xp: Any, given: Lattice, weights: Array, one: float, nothing: float) -> _Ways:
    length, rows, states = weights.shape
    at = xp.arange(rows)
    first = xp.full((2, rows, states), nothing)
    first[0, :, :2] = one
    first[1, at, states - 1 - given.last] = one
    # A row without labels has one state only, which is the first one and the last.
    first[1, at, xp.where(given.last > 0, states - given.last, states - 1)] = one
    skips = xp.zeros((2, rows, states), bool)
    skips[0] = given.skips
    skips[1, :, 2:] = given.skips[:, :1:-1]
    none = xp.zeros_like(given.frames)
    both = xp.empty((length, 2 * rows, states))
    both[:, :rows] = weights
    both[:, rows:] = weights[::-1, :, ::-1]
    return _Ways(
        both,
        skips.reshape(2 * rows, states),
        first.reshape(2 * rows, states),
        xp.concatenate([none, length - given.frames]),
        xp.concatenate([given.frames, none + length]),
    )


@dataclass(frozen=True, slots=True)
class _Algebra:
    """How weights are added and multiplied.

    ``merge`` writes the sum of what stays, moves on and skips to its last argument; ``weigh`` the
    product of its first two; ``after`` is given each frame's arrivals with their own weight.
    """

    nothing: float
    merge: Callable[[Array, Array, Array, Array], None]
    weigh: Callable[[Array, Array, Array], Any]
    after: Callable[[int, Array], None]


def _arrivals(xp: Any, ways: _Ways, algebra: _Algebra) -> Array:
    """Runs the recursion."""
    nothing = algebra.nothing
    length, rows, states = ways.weights.shape
    beginning = defaultdict(list)
    for row, begin in enumerate(ways.begins.tolist()):
        beginning[begin].append(row)
    found = xp.empty(ways.weights.shape)
    found[0] = nothing
    # Two places before the first state hold nothing, so that each state has two before it.
    padded = xp.full((rows, states + 2), nothing)
    here, one_before, two_before = padded[:, 2:], padded[:, 1:-1], padded[:, :-2]
    for time in range(length):
        if time:
            algebra.merge(here, one_before, two_before, found[time])
        if time in beginning:
            found[time, beginning[time]] = ways.first[beginning[time]]
        algebra.weigh(found[time], ways.weights[time], here)
        algebra.after(time, here)
    return found


def _split(arrivals: Array) -> tuple[Array, Array]:
    """Arrivals from the begin, and those from the end, as they lie in the lattice."""
    rows = arrivals.shape[1] // 2
    return arrivals[:, :rows], arrivals[::-1, rows:, ::-1]


def _at_end(xp: Any, given: Lattice, values: Array, nothing: float) -> tuple[Array, Array]:
    """What lies in the last two states of the last frame of each row."""
    rows = xp.arange(len(given.last))
    time = xp.maximum(given.frames - 1, 0)
    before = values[time, rows, xp.maximum(given.last - 1, 0)]
    return values[time, rows, given.last], xp.where(given.last > 0, before, nothing)


# ------------------------------------------------------------------ on plain numbers


def _align_scaled(xp: Any, given: Lattice, own: Array | None) -> tuple[Alignments, Array]:
    """The alignments, and for each row whether nothing that counts was lost."""
    weights = xp.exp(given.logs)
    ways = _both_ways(xp, given, weights, 1.0, 0.0)
    length, both, states = ways.weights.shape
    skips = ways.skips.astype(np.float64)
    jumped = xp.empty((both, states))
    # Of each frame the power of two that has been taken off its arrivals.
    powers = xp.zeros((length, both), np.int64)
    faintest = xp.zeros(both, np.int64)

    def merge(here: Array, one_before: Array, two_before: Array, out: Array) -> None:
        xp.multiply(two_before, skips, out=jumped)
        xp.add(here, one_before, out=out)
        xp.add(out, jumped, out=out)

    def rescale(time: int, here: Array) -> None:
        if (time + 1) % STRETCH and time + 1 < length:
            return
        largest = here.max(axis=-1)
        power = xp.where(largest == 0, 2 * FAINTEST, xp.frexp(largest)[1])
        is_under_way = (ways.begins <= time) & (time < ways.ends)
        power = xp.where(is_under_way, power, 0)
        xp.minimum(faintest, power, out=faintest)
        xp.multiply(here, xp.ldexp(1.0, -power)[:, None], out=here)
        powers[time + 1 :] += power

    arrivals = _arrivals(xp, ways, _Algebra(0.0, merge, xp.multiply, rescale))
    forward, backward = _split(arrivals)
    rows = both // 2
    ends, own_ends = (_at_end(xp, given, a, 0.0) for a in (forward, weights))
    total = ends[0] * own_ends[0] + ends[1] * own_ends[1]
    taken = powers[:, :rows] + powers[::-1, rows:]
    at_end = powers[xp.maximum(given.frames - 1, 0), xp.arange(rows)]
    in_time = xp.arange(length)[:, None] < given.frames
    taken = xp.where(in_time, taken - at_end, 0)
    # What a row's likeliest state of a frame has in the total, at least, as a power of two.
    common = taken.max(axis=0) - xp.frexp(total)[1] if length else xp.zeros(rows, np.int64)
    trusted = (total > 0) & (common < -FAINTEST) & (xp.frexp(total)[1] > FAINTEST)
    trusted &= (faintest[:rows] > FAINTEST) & (faintest[rows:] > FAINTEST)
    trusted |= given.frames == 0
    shares = forward
    shares *= backward
    shares *= weights if own is None else xp.exp(own)[:, :, None]
    shares *= xp.ldexp(1 / total, taken)[:, :, None]
    return Alignments(xp.log(total) + at_end * LOG_2, shares), trusted


# ------------------------------------------------------------------ on logarithms


def _align_logs(xp: Any, given: Lattice, own: Array | None) -> Alignments:
    ways = _both_ways(xp, given, given.logs, 0.0, -xp.inf)
    barred = xp.where(ways.skips, 0, -xp.inf)

    def merge(here: Array, one_before: Array, two_before: Array, out: Array) -> None:
        parts = xp.stack([here, one_before, two_before + barred])
        out[...] = _log_sum(xp, parts)

    def nothing_more(time: int, here: Array) -> None:
        del time, here

    forward, backward = _split(_arrivals(xp, ways, _Algebra(-xp.inf, merge, xp.add, nothing_more)))
    total = _log_sum(xp, xp.stack(_at_end(xp, given, forward + given.logs, -xp.inf)))
    weight = given.logs if own is None else own[:, :, None]
    return Alignments(total, xp.exp(forward + backward + weight - total[:, None]))


def _log_sum(xp: Any, parts: Array) -> Array:
    """Log of the sum of exponentials along the first axis; of nothing but -inf it is -inf."""
    largest = xp.maximum(parts.max(axis=0), np.finfo(np.float64).min)
    return largest + xp.log(xp.exp(parts - largest).sum(axis=0))
