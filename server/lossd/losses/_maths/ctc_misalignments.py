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

from dataclasses import dataclass
from typing import Any

import numpy as np

from lossd.losses._maths.ctc_alignments import folded
from lossd.losses._maths.ctc_arrivals import Labels
from lossd.schema import Array

# One more than the labels that a state leads on to.
_MOST_KEPT = 3
# Numbers that are selected at a time.
_AT_ONCE = 1 << 20


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
    blanks, marks = blanks[:-1], marks[:-1]
    to_blank = (blanks + marks) * wrong[0][1:]
    surplus[rows, :, labels.blank] = relative(lost + folded(to_blank, xp.add))
    arrived = marks + _before(xp, blanks) + positions.skips * _before(xp, marks)
    led_on, ends = positions.by_class(xp, arrived), positions.by_class(xp, arrived * wrong[1][1:])
    found = lost[:, None] + ends + _missing(xp, blanks, marks, led_on, positions)
    for position in range(1, len(positions.classes)):
        own = rows[positions.is_first[position]]
        surplus[own, :, positions.classes[position, own]] = relative(found[:, position])[own]
    return Misalignments(total, surplus)


@dataclass(frozen=True, slots=True)
class _Positions:
    """The class of each position and of the next, -1 where there is none, (1 + labels, rows)."""

    classes: Array
    following: Array
    skips: Array  # 1 where a label may directly follow the one before
    first: Array  # the first position of its class
    is_first: Array

    @classmethod
    def of(cls, xp: Any, labels: Labels) -> "_Positions":
        count = labels.classes.shape[1]
        is_used = xp.arange(1, count + 1)[:, None] <= labels.counts
        none = xp.full((1, len(labels.counts)), -1)
        classes = xp.concatenate([none, xp.where(is_used, labels.classes.T, -1)])
        following = xp.concatenate([classes[1:], none])
        skips = (classes != _before(xp, classes)).astype(np.float64)
        first = xp.stack([(classes == own).argmax(axis=0) for own in classes])
        is_first = (first == xp.arange(1 + count)[:, None]) & (classes >= 0)
        return cls(classes, following, skips, first, is_first)

    def by_class(self, xp: Any, numbers: Array) -> Array:
        """Sums numbers of positions, (frames, 1 + labels, rows), at the first of their class."""
        sums, rows = xp.zeros_like(numbers), xp.arange(numbers.shape[2])
        for position in range(1, len(self.classes)):
            sums[:, self.first[position], rows] += numbers[:, position]
        return sums


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
    """Returns ``miss`` of blanks and of labels, (frames, 1 + labels, rows).

    That is the probability of all labels but two.  Where one is subtracted from the rest, one that
    is no smaller is added, so that no digits cancel.
    """
    others, rows = probabilities.copy(), xp.arange(len(labels.counts))
    others[rows, :, labels.blank] = 0
    for own, is_first in zip(positions.classes[1:], positions.is_first[1:], strict=True):
        others[rows[is_first], :, own[is_first]] = 0
    rest = xp.where(positions.is_first, masses, 0)
    kept = [_taken(xp, rest, positions.classes) for _ in range(_MOST_KEPT)]
    left = (others.sum(axis=-1).T + folded(rest, xp.add))[:, None]
    following = positions.following
    own = xp.where(positions.classes == following, -1, positions.classes)
    of_following = xp.zeros_like(masses)
    of_following[:, :-1] = masses[:, 1:]
    of_own = masses * (own >= 0)
    of_blanks, of_marks = left + xp.zeros_like(masses), left + xp.zeros_like(masses)
    for mass, classes in kept:
        is_following, is_own = classes == following, classes == own
        of_blanks += xp.where(is_following, 0, mass)
        of_marks += xp.where(is_following | is_own, 0, mass)
        of_following[is_following] = 0
        of_own[is_own] = 0
    return of_blanks - of_following, of_marks - of_own - of_following


def _taken(xp: Any, rest: Array, classes: Array) -> tuple[Array, Array]:
    """Takes the largest probability of each frame from the rest; returns it, and of which class."""
    place = rest.argmax(axis=1)[:, None]
    found = xp.take_along_axis(rest, place, 1)
    rest[xp.arange(rest.shape[1])[:, None] == place] = 0
    return found, classes[place, xp.arange(rest.shape[2])]


def _missing(xp: Any, blanks: Array, marks: Array, led_on: Array, positions: _Positions) -> Array:
    """Returns the probability of all states that lead with each class to being lost.

    A state leads on with two classes, so with few of them do most states: only there would digits
    cancel if what is ``led_on`` were subtracted from all.
    """
    all_states = folded(blanks + marks, xp.add)[:, None]
    found = all_states - led_on
    frames, places, rows = xp.nonzero(~(led_on <= all_states / 2) & positions.is_first)
    step = max(1, _AT_ONCE // len(positions.classes))
    for start in range(0, len(frames), step):
        part = slice(start, start + step)
        frame, row = frames[part], rows[part]
        own = positions.classes[places[part], row]
        is_next = own[:, None] == positions.following[:, row].T
        is_own = own[:, None] == positions.classes[:, row].T
        terms = xp.where(is_next, 0, blanks[frame, :, row])
        terms += xp.where(is_next | is_own, 0, marks[frame, :, row])
        found[frame, places[part], row] = folded(terms, xp.add)
    return found


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
