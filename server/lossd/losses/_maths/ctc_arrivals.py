"""Weights of all paths to each state of an alignment, from both ends of its row of frames.

A row of S labels is spread over 2 S + 1 states: its labels with a blank before, between and after
them.  From one frame to the next an alignment stays in its state, moves on by one, or skips a blank
between two labels that differ.  It begins in one of the first two states and ends in one of the
last two.

    arrival[t, s] = sum of the weights of all paths from the start to state s at frame t,
                        without the weight of s there

Run backwards, the same recursion gives all paths to the end.  It runs on plain numbers, rescaled by
powers of two on the way, which is exact, or on logarithms.

Blanks and labels lie in separate arrays, of S + 1 positions each: blank s is reached from label s
and label s + 1 from blank s, so label 0 is unused.  Rows lie along the last axis, so that all
states of a frame are contiguous in memory, and so are those before them.

Each number depends on its row alone, in an order that later states and frames do not change, and is
rescaled after the same frames of the row.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lossd.losses._maths.scans import running_sum
from lossd.schema import Array

# The power of two above which numbers that float64 loses, below 2^-1022, do not count.
FAINTEST = -900
# Frames between two rescalings, at most: in between numbers may shrink by 2^-900, and grow by 3^16,
# which is below 2^26.
STRETCH = 16


@dataclass(frozen=True, slots=True)
class Labels:
    """Rows of labels: the first ``counts`` of each row count, in ``frames`` frames."""

    classes: Array
    counts: Array
    frames: Array
    blank: int

    def positions(self, xp: Any) -> Array:
        """Returns the class of each position, the blank first, (1 + labels, rows)."""
        blanks = xp.full((1, len(self.classes)), self.blank)
        return xp.concatenate([blanks, self.classes.T])

    def of(self, rows: Array) -> "Labels":
        """Returns some of the rows."""
        return Labels(self.classes[rows], self.counts[rows], self.frames[rows], self.blank)


@dataclass(frozen=True, slots=True)
class Algebra:
    """How weights, as they are represented, are added and multiplied.

    ``of_logs`` turns logarithms into that representation, and ``plain`` that into numbers.
    """

    add: Callable[..., Array]
    times: Callable[..., Array]
    nothing: float
    one: float
    of_logs: Callable[[Array], Array]
    plain: Callable[[Array], Array]
    is_scaled: bool  # whether powers of two are divided out on the way


def plain_numbers(xp: Any) -> Algebra:
    """Returns the algebra of plain numbers, of which those that are too small are lost."""
    return Algebra(xp.add, xp.multiply, 0.0, 1.0, xp.exp, _same, is_scaled=True)


def logarithms(xp: Any) -> Algebra:
    """Returns the algebra of logarithms, of which none is lost."""
    return Algebra(xp.logaddexp, xp.add, -np.inf, 0.0, _same, xp.exp, is_scaled=False)


def _same(numbers: Array) -> Array:
    return numbers


@dataclass(frozen=True, slots=True)
class Ways:
    """Arrivals in blanks and labels, (2, frames, labels + 1, rows).

    The second of the two has time and states reversed.  ``powers`` (2, rows, frames) have the power
    of two that was divided out of the arrivals of each frame; ``faintest`` (2, rows) is the
    smallest one that was divided out at once.
    """

    blanks: Array
    marks: Array
    powers: Array
    faintest: Array


def arrivals(xp: Any, weights: Array, labels: Labels, algebra: Algebra) -> Ways:
    """Runs the recursion forwards and backwards, in the same steps."""
    add, times = algebra.add, algebra.times
    length, positions, rows = weights.shape
    blanks, marks = xp.empty((2, 2, length, positions, rows))
    marks[:, :, 0] = algebra.nothing
    # The weight that leaves each state for the next frame, its own included.
    blank, mark = xp.full((2, 2, positions, rows), algebra.nothing)
    blank_before, mark_before, mark_here = blank[:, :-1], mark[:, :-1], mark[:, 1:]
    skips, jump = _skips(xp, labels, algebra), xp.empty((2, positions - 1, rows))
    of_blank = xp.stack([weights[:, :1], weights[::-1, :1]], axis=1)
    begins = _Begins.of(xp, labels, length, algebra)
    powers = xp.zeros((2, rows, length + 1), np.int64)
    frames = zip(
        blanks.swapaxes(0, 1), marks.swapaxes(0, 1), of_blank, weights, weights[::-1, :0:-1],
        strict=True,
    )  # fmt: skip
    for time, (to_blank, to_mark, at_blank, ahead, turned) in enumerate(frames):
        to_label = to_mark[:, 1:]
        times(mark_before, skips, jump)
        add(blank, mark, to_blank)
        add(mark_here, blank_before, to_label)
        add(to_label, jump, to_label)
        if time == 0 or time in begins.rows_at:
            begins.write(time, to_blank, to_mark)
        times(to_blank, at_blank, blank)
        times(to_label[0], ahead[1:], mark_here[0])
        times(to_label[1], turned, mark_here[1])
        # The frames to rescale at depend on their own numbers alone, in both directions, not on the
        # longest row: rescaling elsewhere would change the last bits.
        if algebra.is_scaled and (time + 1) % STRETCH == 0:
            powers[0, :, time + 1] = _rescale(xp, blank[0], mark[0], time < begins.frames)
        if algebra.is_scaled and (length - 1 - time) % STRETCH == 0:
            powers[1, :, time + 1] = _rescale(xp, blank[1], mark[1], time >= begins.late)
    return Ways(blanks, marks, running_sum(xp, powers[:, :, :length]), powers.min(axis=-1))


def _skips(xp: Any, labels: Labels, algebra: Algebra) -> Array:
    """Returns the factors for skipping the blank before each label."""
    rows, count = labels.classes.shape
    differs = xp.zeros((2, count, rows), bool)
    differs[0, 1:] = (labels.classes[:, 1:] != labels.classes[:, :-1]).T
    differs[1, 1:] = differs[0, :0:-1]
    return xp.where(differs, algebra.one, algebra.nothing)


@dataclass(frozen=True, slots=True)
class _Begins:
    """Where the paths of each row start; backwards, rows of fewer frames start later."""

    frames: Array
    late: Array  # the step at which each row starts backwards
    rows_at: Mapping[int, list[int]]  # by that step
    blank: Array
    mark: Array
    one: float
    one_label: Array  # zero, for rows without any label

    @classmethod
    def of(cls, xp: Any, labels: Labels, length: int, algebra: Algebra) -> "_Begins":
        late = length - labels.frames
        rows_at = defaultdict(list)
        for row, begin in enumerate(late.tolist()):
            rows_at[begin].append(row)
        count = labels.classes.shape[1]
        blank = count - labels.counts
        one_label = xp.where(labels.counts > 0, algebra.one, algebra.nothing)
        mark = xp.minimum(blank + 1, count)
        return cls(labels.frames, late, rows_at, blank, mark, algebra.one, one_label)

    def write(self, time: int, blank: Array, mark: Array) -> None:
        """Writes the starts at a step into the arrivals, which are zero there so far."""
        if time == 0:
            blank[0, 0] = self.one
            mark[0, 1:2] = self.one_label
        if time in self.rows_at:
            rows = self.rows_at[time]
            blank[1, self.blank[rows], rows] = self.one
            mark[1, self.mark[rows], rows] = self.one_label[rows]


def _rescale(xp: Any, blank: Array, mark: Array, are_under_way: Array) -> Array:
    """Divides the weights that leave a frame by a power of two for each row, and returns those."""
    largest = xp.maximum(blank, mark).max(axis=0)
    powers = xp.where(largest == 0, 2 * FAINTEST, xp.frexp(largest)[1])
    powers = xp.where(are_under_way, powers, 0)
    scale = xp.ldexp(1.0, -powers)
    blank *= scale
    mark *= scale
    return powers
