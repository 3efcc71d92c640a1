"""Everything that is no alignment, weighted and summed: how far a row is from being certain.

Where the alignments of a row have nearly all the probability, their total is 1 minus something that
plain sums lose.  Here that remainder is summed instead, from terms that are never negative.

Read frame by frame, a sequence is in one state: after blank s, after label s, or lost, if no
alignment begins like that.  Blank s is after label s and before label s + 1; in blank 0 no label
has been read.

    miss[t, s] = probability that frame t leads from state s to being lost
    wrong[t, s] = probability of ending wrong, from state s before frame t

All are plain numbers: one that underflows does not count beside the others, or the whole result is
0.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from lossd.losses._maths.ctc_alignments import Labels, folded
from lossd.schema import Array


@dataclass(frozen=True, slots=True)
class Misalignments:
    """The probability that a row is read as other labels, (rows,).

    ``surplus`` (rows, frames, classes) is how much more probable that is with a class in a frame,
    relative to the complement: (wrong with it - wrong) / (1 - wrong).
    """

    wrong: Array
    surplus: Array


def misalign(xp: Any, probabilities: Array, labels: Labels) -> Misalignments:
    """Sums over everything that is no alignment, from (rows, frames, classes) that sum to 1."""
    positions = _Positions.of(xp, labels)
    masses = _masses(xp, probabilities, labels, positions)
    misses = _misses(xp, probabilities, masses, labels, positions)
    blanks, marks, lost = _read(xp, masses, misses, positions)
    wrong = _ends(xp, masses, misses, labels, positions)
    total = wrong[0][0, 0]

    def relative(found: Array) -> Array:
        return ((found - total) / (1 - total)).T

    surplus = xp.ones_like(probabilities)
    rows = xp.arange(len(total))
    to_blank = (blanks + marks)[:-1] * wrong[0][1:]
    surplus[rows, :, labels.blank] = relative(lost + folded(to_blank, xp.add))
    to_mark = marks[:-1] + _before(xp, blanks[:-1]) + positions.skips * _before(xp, marks[:-1])
    to_mark *= wrong[1][1:]
    for slot in positions.slots():
        terms = blanks[:-1] * slot.missed_by_blank + marks[:-1] * slot.missed_by_mark
        terms += to_mark * slot.is_same
        own = rows[slot.is_first]
        surplus[own, :, slot.classes[own]] = relative(lost + folded(terms, xp.add))[own]
    return Misalignments(total, surplus)


@dataclass(frozen=True, slots=True)
class _Slot:
    """A label of each row: where it is the first of its class, and the states it leads on from."""

    classes: Array
    is_first: Array
    is_same: Array  # as the label at a position
    missed_by_blank: Array  # whether it leads from that blank to being lost, (positions, rows)
    missed_by_mark: Array


@dataclass(frozen=True, slots=True)
class _Positions:
    """The class of each position and of the next, -1 where there is none, (1 + labels, rows)."""

    classes: Array
    following: Array
    skips: Array  # 1 where a label may directly follow the one before

    @classmethod
    def of(cls, xp: Any, labels: Labels) -> "_Positions":
        count = labels.classes.shape[1]
        is_used = xp.arange(1, count + 1)[:, None] <= labels.counts
        none = xp.full((1, len(labels.counts)), -1)
        classes = xp.concatenate([none, xp.where(is_used, labels.classes.T, -1)])
        following = xp.concatenate([classes[1:], none])
        skips = (classes != _before(xp, classes)).astype(np.float64)
        return cls(classes, following, skips)

    def slots(self) -> Iterator[_Slot]:
        """Yields one label after the other."""
        for position in range(1, len(self.classes)):
            own = self.classes[position]
            is_same = self.classes == own
            is_next = self.following == own
            yield _Slot(
                classes=own,
                is_first=(own >= 0) & ~is_same[1:position].any(axis=0),
                is_same=is_same,
                missed_by_blank=~is_next,
                missed_by_mark=~(is_same | is_next),
            )


def _before(xp: Any, values: Array) -> Array:
    """Returns for each position the value of the one before, and 0 for the first."""
    found = xp.zeros_like(values)
    found[..., 1:, :] = values[..., :-1, :]
    return found


def _masses(xp: Any, probabilities: Array, labels: Labels, positions: _Positions) -> Array:
    """Returns the probabilities of blank and labels in each frame, (frames, 1 + labels, rows)."""
    classes = positions.classes.copy()
    classes[0] = labels.blank
    rows = xp.arange(len(labels.counts))
    found = probabilities[rows, :, xp.maximum(classes, 0)].transpose(2, 0, 1)
    is_there = (xp.arange(len(found))[:, None] < labels.frames)[:, None]
    return xp.where(is_there & (classes >= 0), found, 0)


def _misses(
    xp: Any, probabilities: Array, masses: Array, labels: Labels, positions: _Positions
) -> tuple[Array, Array]:
    """Returns ``miss`` of blanks and of labels, (frames, 1 + labels, rows)."""
    others, rows = probabilities.copy(), xp.arange(len(labels.counts))
    others[rows, :, labels.blank] = 0
    of_blanks, of_marks = xp.zeros((2, *masses.shape))
    for position, slot in enumerate(positions.slots(), 1):
        own = rows[slot.is_first]
        others[own, :, slot.classes[own]] = 0
        mass = (masses[:, position] * slot.is_first)[:, None]
        of_blanks += mass * slot.missed_by_blank
        of_marks += mass * slot.missed_by_mark
    left = others.sum(axis=-1).T[:, None]
    return of_blanks + left, of_marks + left


def _read(
    xp: Any, masses: Array, misses: tuple[Array, Array], positions: _Positions
) -> tuple[Array, Array, Array]:
    """Returns the probabilities of blanks, labels and being lost, before each frame.

    The first two have one more entry, after the last frame.
    """
    length, count, rows = masses.shape
    blanks, marks = xp.zeros((2, length + 1, count, rows))
    blanks[0, 0] = 1
    lost = xp.zeros((length, rows))
    for time in range(length):
        blank, mark = blanks[time], marks[time]
        blanks[time + 1] = (blank + mark) * masses[time, :1]
        arrived = mark + _before(xp, blank) + positions.skips * _before(xp, mark)
        marks[time + 1, 1:] = arrived[1:] * masses[time, 1:]
        if time + 1 < length:
            terms = blank * misses[0][time] + mark * misses[1][time]
            lost[time + 1] = lost[time] + folded(terms[None], xp.add)[0]
    return blanks, marks, lost


def _ends(
    xp: Any, masses: Array, misses: tuple[Array, Array], labels: Labels, positions: _Positions
) -> tuple[Array, Array]:
    """Returns ``wrong`` of blanks and of labels, (frames + 1, 1 + labels, rows)."""
    length, count, rows = masses.shape
    at_end = (xp.arange(count)[:, None] != labels.counts).astype(np.float64)
    blanks, marks = xp.empty((2, length + 1, count, rows))
    blanks[length] = marks[length] = at_end
    for time in range(length - 1, -1, -1):
        by_blank = masses[time, :1] * blanks[time + 1]
        by_mark = masses[time] * marks[time + 1]
        by_mark[0] = 0
        by_next, by_skip = xp.zeros((2, count, rows))
        by_next[:-1] = by_mark[1:]
        by_skip[:-1] = by_mark[1:] * positions.skips[1:]
        is_there = time < labels.frames
        blanks[time] = xp.where(is_there, misses[0][time] + by_blank + by_next, at_end)
        found = misses[1][time] + by_blank + by_mark + by_skip
        marks[time] = xp.where(is_there, found, at_end)
    return blanks, marks
