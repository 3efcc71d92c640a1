"""All alignments of labels with a longer row of frames, weighted and summed.

The weight of an alignment is the product of the weights of its states in their frames, and the
product of the weights of all paths to a state from both ends is its share in the total.  These are
computed with plain numbers.  One that becomes too small for that is lost, so rows where a lost
number might have counted are found, and computed with logarithms instead.

The result of a row has the same bits whatever other rows are computed with it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lossd.losses._maths.constants import LOG_2
from lossd.losses._maths.ctc_arrivals import (
    FAINTEST,
    Algebra,
    Labels,
    Ways,
    arrivals,
    logarithms,
    plain_numbers,
)
from lossd.schema import Array

# Shares are computed from the arrivals in pieces that fit a cache.
PIECE = 1 << 16


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
    found, trusted = _aligned(xp, scores, labels, plain_numbers(xp), by_weight=by_weight)
    if bool(trusted.all()):
        return found
    rows = xp.flatnonzero(~trusted)
    exact, _ = _aligned(xp, scores[rows], labels.of(rows), logarithms(xp), by_weight=by_weight)
    found.total[rows] = exact.total
    found.shares[rows] = exact.shares
    return found


def _aligned(
    xp: Any, scores: Array, labels: Labels, algebra: Algebra, *, by_weight: bool
) -> tuple[Alignments, Array]:
    """Returns the alignments, and for each row whether nothing that counts was lost."""
    logs, largest = _states(xp, scores, labels)
    weights = algebra.of_logs(logs)
    ways = arrivals(xp, weights, labels, algebra)
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


def _totals(
    xp: Any, ways: Ways, weights: Array, labels: Labels, algebra: Algebra
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
    ways: Ways,
    weights: Array,
    factor: Array,
    *,
    algebra: Algebra,
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
