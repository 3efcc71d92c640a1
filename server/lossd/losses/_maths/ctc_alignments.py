"""All alignments of labels with a longer row of frames, weighted and summed.

A row of S labels is spread over 2 S + 1 states: its labels with a blank before, between and after
them.  From one frame to the next an alignment stays in its state, moves on by one, or skips a blank
between two labels that differ.  It begins in one of the first two states and ends in one of the
last two.  The weight of an alignment is the product of the weights of its states in their frames.

    arrival[t, s] = sum of the weights of all paths from the start to state s at frame t,
                        without the weight of s there

Run backwards, the same recursion gives all paths to the end, and the product of both is the share
of a state in the total.  The recursion runs on plain numbers, rescaled by powers of two on the way,
which is exact.  A number that becomes too small for that is lost, so rows where a lost number might
have counted are found, and computed with logarithms instead.

Blanks and labels lie in separate arrays, of S + 1 positions each: blank s is reached from label s
and label s + 1 from blank s, so label 0 is unused.  Rows lie along the last axis, so that all
states of a frame are contiguous in memory, and so are those before them.

The result of a row has the same bits whatever other rows are computed with it.  Each number depends
on its row alone, in an order that later states and frames do not change, and is rescaled after the
same frames of the row.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lossd.losses._maths.constants import LOG_2
from lossd.losses._maths.scans import running_sum
from lossd.schema import Array

# The power of two above which numbers that float64 loses, below 2^-1022, do not count.
FAINTEST = -900
# Frames between two rescalings, at most: in between numbers may shrink by 2^-900, and grow by 3^16,
# which is below 2^26.
STRETCH = 16
# Shares are computed from the arrivals in pieces that fit a cache.
PIECE = 1 << 16


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
class Alignments:
    """The logarithm of the total of each row, and the share of each class in each frame.

    ``largest`` (rows, frames) are the scores that were subtracted from each frame before.
    """

    total: Array
    largest: Array
    shares: Array


def align(xp: Any, scores: Array, labels: Labels, *, by_weight: bool) -> Alignments:
    """Sums over all alignments of each row.

    ``scores`` (rows, frames, classes) are the logarithms of the weights.  The shares, of the same
    shape, are of the total; ``by_weight`` divides them by the weights, as a derivative with respect
    to the weight itself has it.  A row without any alignment has the total -inf and meaningless
    shares.
    """
    found, trusted = _aligned(xp, scores, labels, _plain(xp), by_weight=by_weight)
    if bool(trusted.all()):
        return found
    rows = xp.flatnonzero(~trusted)
    exact, _ = _aligned(xp, scores[rows], labels.of(rows), _logarithms(xp), by_weight=by_weight)
    found.total[rows] = exact.total
    found.shares[rows] = exact.shares
    return found


@dataclass(frozen=True, slots=True)
class _Algebra:
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


def _plain(xp: Any) -> _Algebra:
    return _Algebra(xp.add, xp.multiply, 0.0, 1.0, xp.exp, _same, is_scaled=True)


def _logarithms(xp: Any) -> _Algebra:
    return _Algebra(xp.logaddexp, xp.add, -np.inf, 0.0, _same, xp.exp, is_scaled=False)


def _same(numbers: Array) -> Array:
    return numbers


def _aligned(
    xp: Any, scores: Array, labels: Labels, algebra: _Algebra, *, by_weight: bool
) -> tuple[Alignments, Array]:
    """Returns the alignments, and for each row whether nothing that counts was lost."""
    logs, largest = _states(xp, scores, labels)
    weights = algebra.of_logs(logs)
    ways = _arrivals(xp, weights, labels, algebra)
    total, factor, trusted = _totals(xp, ways, weights, labels, algebra)
    if by_weight:
        trusted &= (largest > FAINTEST * LOG_2).all(axis=0)  # its reciprocal is a plain number too
        weights = xp.broadcast_to(algebra.of_logs(-largest)[:, None], weights.shape)
    shares = _shares(
        xp, ways, weights, factor,
        algebra=algebra, classes=labels.positions(xp), count=scores.shape[2],
    )  # fmt: skip
    return Alignments(total, largest.T, shares), trusted


def _states(xp: Any, scores: Array, labels: Labels) -> tuple[Array, Array]:
    """Returns the log weights of blank and labels in each frame, minus its largest one.

    They are (frames, 1 + labels, rows), and the numbers subtracted (frames, rows).  Elements
    outside of a row are -inf.
    """
    rows, length, count = scores.shape
    positions = xp.arange(rows) * (length * count) + labels.positions(xp)
    flat = scores.reshape(-1)
    logs = xp.empty((length, *positions.shape))
    for time in range(length):
        xp.take(flat[time * count :], positions, out=logs[time], **_unchecked(xp))
    is_late = xp.arange(length)[:, None] >= labels.frames
    is_unused = xp.arange(len(positions))[:, None] > labels.counts
    for outside in (is_late[:, None], is_unused):
        if bool(outside.any()):
            xp.copyto(logs, -xp.inf, where=outside)
    largest = logs.max(axis=1)
    largest = xp.where(largest == -xp.inf, 0, largest)
    logs -= largest[:, None]
    return logs, largest


def _unchecked(xp: Any) -> dict[str, str]:
    """Returns arguments that spare NumPy a copy: indices are within bounds.  CuPy has none."""
    return {"mode": "clip"} if xp is np else {}


# ------------------------------------------------------------------ both directions at once


@dataclass(frozen=True, slots=True)
class _Ways:
    """Arrivals in blanks and labels, (2, frames, labels + 1, rows).

    The second of the two has time and states reversed.  ``powers`` (2, rows, frames) have the power
    of two that was divided out of the arrivals of each frame; ``faintest`` (2, rows) is the
    smallest one that was divided out at once.
    """

    blanks: Array
    marks: Array
    powers: Array
    faintest: Array


def _arrivals(xp: Any, weights: Array, labels: Labels, algebra: _Algebra) -> _Ways:
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
    return _Ways(blanks, marks, running_sum(xp, powers[:, :, :length]), powers.min(axis=-1))


def _skips(xp: Any, labels: Labels, algebra: _Algebra) -> Array:
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
    def of(cls, xp: Any, labels: Labels, length: int, algebra: _Algebra) -> "_Begins":
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


# ------------------------------------------------------------------ totals and shares


def _totals(
    xp: Any, ways: _Ways, weights: Array, labels: Labels, algebra: _Algebra
) -> tuple[Array, Array, Array]:
    """Returns the log total of each row, the factors for shares, and whether nothing was lost.

    The product of both directions and the state's weight, times the factor (frames, rows), is its
    share.  The third tells of each row whether nothing that counts was lost.
    """
    add, times = algebra.add, algebra.times
    length, rows = len(weights), xp.arange(weights.shape[2])
    end = xp.maximum(labels.frames - 1, 0)
    at = 0, end, labels.counts, rows
    total = add(
        times(ways.blanks[at], weights[end, 0, rows]),
        times(ways.marks[at], weights[end, labels.counts, rows]),
    )
    if not algebra.is_scaled:
        return total, xp.broadcast_to(-total, (length, len(rows))), xp.ones(len(rows), bool)
    at_end = ways.powers[0, rows, end]
    taken = (ways.powers[0] + ways.powers[1, :, ::-1]).T - at_end
    taken = xp.where(xp.arange(length)[:, None] < labels.frames, taken, 0)
    # A lower bound for the share of a row's likeliest state in a frame, as a power of two.
    common = taken.max(axis=0) - xp.frexp(total)[1]
    trusted = (total > 0) & (common < -FAINTEST) & (xp.frexp(total)[1] > FAINTEST)
    trusted &= ways.faintest.min(axis=0) > FAINTEST
    trusted |= labels.frames == 0
    return xp.log(total) + at_end * LOG_2, xp.ldexp(1 / total, taken), trusted


def _shares(
    xp: Any,
    ways: _Ways,
    weights: Array,
    factor: Array,
    *,
    algebra: _Algebra,
    classes: Array,
    count: int,
) -> Array:
    """Returns the share of each class in the total in each frame, (rows, frames, classes)."""
    times = algebra.times
    length, positions, rows = weights.shape
    shares = xp.empty((rows, length, count))
    step = max(1, PIECE // (positions * rows))
    back_blanks, back_marks = ways.blanks[1, ::-1, ::-1], ways.marks[1, ::-1, :0:-1]
    for start in range(0, length, step):
        piece = slice(start, min(start + step, length))
        parts = xp.empty((piece.stop - start, positions, rows))
        times(ways.marks[0, piece, 1:], back_marks[piece], parts[:, 1:])
        blanks = times(ways.blanks[0, piece], back_blanks[piece])
        parts[:, 0] = folded(blanks, algebra.add)
        times(parts, weights[piece], parts)
        times(parts, factor[piece, None], parts)
        shares[:, piece] = _by_class(xp, algebra.plain(parts), classes, count)
    return shares


def folded(values: Array, add: Callable[..., Array]) -> Array:
    """Sums along axis 1, in an order that zeros at the end do not change; overwrites the values."""
    count = values.shape[1]
    while count > 1:
        half = 1 << (count - 1).bit_length() - 1
        first = values[:, : count - half]
        add(first, values[:, half:count], first)
        count = half
    return values[:, 0]


def _by_class(xp: Any, parts: Array, classes: Array, count: int) -> Array:
    """Returns the sums over the positions of each class, added in their order."""
    frames, positions, rows = parts.shape
    frame, row = xp.arange(frames), xp.arange(rows)
    if xp is np:
        where = (frame[:, None, None] * rows + row) * count + classes
        found = np.bincount(where.reshape(-1), parts.reshape(-1), frames * rows * count)
        return found.reshape(frames, rows, count).transpose(1, 0, 2)
    # CuPy's own function adds in whatever order its threads run.
    found = xp.zeros((rows, frames, count))
    for position in range(positions):
        found[row, frame[:, None], classes[position]] += parts[:, position]
    return found
