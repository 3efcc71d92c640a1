"""All rows against all rows, panel by panel, without a matrix of all pairs.

A panel is a fixed number of rows against all columns.  Its similarities are computed, then replaced
by slopes in place, and the slopes are multiplied back into gradients.  Each step is cut into pieces
of fixed shapes that write to places of their own, and panels follow each other, so that every sum
has one order whatever the threads.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lossd.losses._declare import Anchors
from lossd.losses._embeddings import Directions, directions
from lossd.losses._schema import Array

PANEL_BYTES = 128 << 20
PANEL_BYTES_A_COLUMN = 4096  # 1024 rows of float32 or 512 of float64, more of which gain nothing
PIECE = 1024  # columns of one product
BACK_ROWS = 256  # rows of one product of slopes with columns
BLOCK_BYTES = 1 << 20  # of similarities that are turned into slopes while they are in the cache

# Turns similarities of some rows, given as a slice, with all columns into slopes, in place.
Turn = Callable[[Array, slice], None]


def compare(
    xp: Any,
    left: Array,
    right: Array,
    anchors: Anchors,
    turn: Turn,
    *,
    by_left: Array | None,
    by_right: Array | None,
) -> None:
    """Runs ``turn`` on left times right transposed, and adds the slopes by both to two arrays.

    An array that is None is not computed.  With slopes G they are G right and G^T left, where a
    slope of 0 makes nothing of a vector: what is left out may hold NaN or infinity.
    """
    width = len(right)
    bytes_a_column = min(PANEL_BYTES_A_COLUMN, PANEL_BYTES // max(1, width))
    height = max(1, bytes_a_column // left.dtype.itemsize)
    panel = xp.empty((min(height, len(left)), width), left.dtype)
    lefts, rights = finite(xp, left), finite(xp, right)

    def turn_and_spoil(scores: Array, own: slice) -> None:
        turn(scores, own)
        if lefts.has_broken or rights.has_broken:
            spoil(scores, lefts.is_broken[own, None] | rights.is_broken)

    for start in range(0, len(left), height):
        rows = slice(start, min(start + height, len(left)))
        scores = panel[: rows.stop - rows.start]
        _multiply(xp, left[rows], right, scores, anchors)
        _turn(scores, rows, anchors, turn_and_spoil)
        if by_left is not None:
            _add_by_rows(scores, rights.rows, by_left[rows], anchors)
        if by_right is not None:
            _add_by_columns(scores, lefts.rows[rows], by_right, anchors)


@dataclass(frozen=True, slots=True)
class Finite:
    """Vectors with 0 for what is not finite in them, and which of them are broken so."""

    rows: Array
    is_broken: Array
    has_broken: bool


def finite(xp: Any, vectors: Array) -> Finite:
    """Vectors to multiply slopes with, which are spoiled first where a vector is broken."""
    is_finite = xp.isfinite(vectors)
    is_broken = ~is_finite.all(axis=-1)
    has_broken = bool(is_broken.any())
    return Finite(xp.where(is_finite, vectors, 0) if has_broken else vectors, is_broken, has_broken)


def spoil(slopes: Array, is_broken: Array) -> None:
    """Makes NaN of slopes that belong to broken vectors, but for those of 0."""
    slopes[is_broken & (slopes != 0)] = np.nan


def times(xp: Any, slopes: Array, vectors: Array) -> Array:
    """Slopes times vectors, where a slope of 0 makes 0 of whatever a vector holds."""
    products, is_idle = slopes * vectors, slopes == 0
    return xp.where(is_idle, 0, products) if bool(is_idle.any()) else products


def _pieces(count: int, step: int) -> list[slice]:
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]


def _multiply(xp: Any, left: Array, right: Array, out: Array, anchors: Anchors) -> None:
    pieces = _pieces(len(right), PIECE)

    def piece(index: int) -> None:
        columns = pieces[index]
        if xp is np:
            np.matmul(left, right[columns].T, out=out[:, columns])
        else:
            out[:, columns] = left @ right[columns].T

    anchors.for_each(len(pieces), piece)


def _turn(scores: Array, rows: slice, anchors: Anchors, turn: Turn) -> None:
    row_bytes = max(1, scores.shape[1] * scores.itemsize)
    pieces = _pieces(len(scores), max(1, BLOCK_BYTES // row_bytes))

    def piece(index: int) -> None:
        own = pieces[index]
        turn(scores[own], slice(rows.start + own.start, rows.start + own.stop))

    anchors.for_each(len(pieces), piece)


def _add_by_rows(slopes: Array, right: Array, out: Array, anchors: Anchors) -> None:
    pieces = _pieces(len(slopes), BACK_ROWS)

    def piece(index: int) -> None:
        out[pieces[index]] += slopes[pieces[index]] @ right

    anchors.for_each(len(pieces), piece)


def _add_by_columns(slopes: Array, left: Array, out: Array, anchors: Anchors) -> None:
    pieces = _pieces(slopes.shape[1], PIECE)

    def piece(index: int) -> None:
        columns = pieces[index]
        out[columns] += slopes[:, columns].T @ left

    anchors.for_each(len(pieces), piece)


class Vectors:
    """Embeddings as they are compared: as they are, or normalised to length 1."""

    def __init__(self, xp: Any, given: Array, anchors: Anchors, *, normalize: bool) -> None:
        self._xp = xp
        self._anchors = anchors
        self._given = given
        self._normalize = normalize
        self.rows = given
        self.is_zero = xp.zeros(given.shape[:-1], bool)
        self._lengths = xp.empty(given.shape[:-1] if normalize else 0)
        if normalize:
            self.rows = xp.empty_like(given)
            self._in_blocks(self._normalized)

    def _normalized(self, rows: slice) -> None:
        found = directions(self._xp, self._given[rows])
        self.rows[rows] = found.rows
        self.is_zero[rows] = found.is_zero
        self._lengths[rows] = found.lengths

    def back(self, slopes: Array) -> Array:
        """Turns slopes by the rows into slopes by what was given, in place."""
        if not self._normalize:
            return slopes

        def turned(rows: slice) -> None:
            found = Directions(self.rows[rows], self._lengths[rows], self.is_zero[rows])
            slopes[rows] = found.back(self._xp, slopes[rows].astype(np.float64))

        self._in_blocks(turned)
        return slopes

    def _in_blocks(self, work: Callable[[slice], None]) -> None:
        row_bytes = max(1, self._given[:1].nbytes)
        blocks = _pieces(len(self._given), max(1, BLOCK_BYTES // row_bytes))
        self._anchors.for_each(len(blocks), lambda index: work(blocks[index]))
