"""All rows against all rows, panel by panel, without a matrix of all pairs.

A panel is a fixed number of rows against all columns.  Its similarities are computed, then replaced
by slopes in place, and the slopes are multiplied back into gradients.  Each step is cut into pieces
of fixed shapes that write to places of their own, and panels follow each other, so that every sum
has one order whatever the threads.  Long vectors are multiplied a width at a time, so that neither
memory nor the time of a piece grows with their length.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from lossd.losses._declare import BatchContext
from lossd.losses._embeddings import directions, dots, parts, pieces
from lossd.losses._schema import Array

PANEL_BYTES = 128 << 20
PANEL_BYTES_A_COLUMN = 4096  # 1024 rows of float32 or 512 of float64, more of which gain nothing
PIECE = 1024  # columns of one product
WIDTH = 4096  # components of one product
BACK_ROWS = 256  # rows of one product of slopes with columns
BLOCK_BYTES = 1 << 20  # of similarities that are turned into slopes while they are in the cache

# Turns similarities of some rows, given as a slice, with all columns into slopes, in place.
Turn = Callable[[Array, slice], None]


def compare(
    xp: Any,
    left: Array,
    right: Array,
    anchors: BatchContext,
    turn: Turn,
    *,
    sharpness: float,
    by_left: Array | None,
    by_right: Array | None,
) -> None:
    """Runs ``turn`` on the similarities, which are ``sharpness`` times left times right transposed.

    With slopes G, G right and G^T left are added to two arrays, of which one that is None is not
    computed: what comes out are slopes by both, but for the sharpness.  A slope of 0 makes nothing
    of a vector: what is left out may hold NaN or infinity.
    """
    lefts = finite(xp, left, anchors)
    rights = lefts if right is left else finite(xp, right, anchors)

    def turn_and_spoil(scores: Array, own: slice) -> None:
        turn(scores, own)
        if lefts.has_broken or rights.has_broken:
            spoil(scores, lefts.is_broken[own, None] | rights.is_broken)

    for scores, rows in panels(xp, left, right, anchors, sharpness=sharpness):
        in_blocks(scores, rows, anchors, turn_and_spoil)
        if by_left is not None:
            add_by_rows(scores, rights.rows, by_left[rows], anchors)
        if by_right is not None:
            add_by_columns(scores, lefts.rows[rows], by_right, anchors)


def panels(
    xp: Any,
    left: Array,
    right: Array,
    anchors: BatchContext,
    *,
    sharpness: float = 1,
    tile: int = 1,
) -> Iterator[tuple[Array, slice]]:
    """The similarities of some rows with all columns, and which rows they are.

    A panel lies in the memory of the one before it.  Products have a multiple of ``tile`` columns,
    for which zeros stand in where there are fewer.
    """
    width = len(right)
    bytes_a_column = min(PANEL_BYTES_A_COLUMN, PANEL_BYTES // max(1, width))
    height = max(1, bytes_a_column // left.dtype.itemsize)
    panel = xp.empty((min(height, len(left)), width), left.dtype)
    for rows in pieces(len(left), height):
        scores = panel[: rows.stop - rows.start]
        for part in pieces(left.shape[1], WIDTH):
            own = left[rows, part]
            if sharpness != 1:
                own = own * own.dtype.type(sharpness)
            _multiply(xp, own, right[:, part], scores, anchors, tile=tile, is_first=part.start == 0)
        yield scores, rows


@dataclass(frozen=True, slots=True)
class Finite:
    """Vectors with 0 for what is not finite in them, and which of them are broken so."""

    rows: Array
    is_broken: Array
    has_broken: bool


def finite(xp: Any, vectors: Array, anchors: BatchContext) -> Finite:
    """Vectors to multiply slopes with, which are spoiled first where a vector is broken."""
    is_broken = xp.empty(vectors.shape[:-1], bool)

    def look(own: Array, rows: slice) -> None:
        is_broken[rows] = ~xp.isfinite(own).all(axis=-1)

    in_blocks(vectors, slice(0, len(vectors)), anchors, look)
    if not bool(is_broken.any()):
        return Finite(vectors, is_broken, has_broken=False)
    cleaned = xp.empty_like(vectors)

    def clean(own: Array, rows: slice) -> None:
        cleaned[rows] = xp.where(xp.isfinite(own), own, 0)

    in_blocks(vectors, slice(0, len(vectors)), anchors, clean)
    return Finite(cleaned, is_broken, has_broken=True)


def spoil(slopes: Array, is_broken: Array) -> None:
    """Makes NaN of slopes that belong to broken vectors, but for those of 0."""
    slopes[is_broken & (slopes != 0)] = np.nan


def times(slopes: Array, vectors: Array) -> Array:
    """Each vector times its slope, where a slope of 0 makes 0 of whatever a vector holds."""
    products = slopes[..., None] * vectors
    products[slopes == 0] = 0
    return products


def in_blocks(array: Array, rows: slice, anchors: BatchContext, work: Turn) -> None:
    """Calls ``work`` with some rows that fit the cache, or one, and which of ``rows`` they are."""
    row_bytes = max(1, array[:1].nbytes)
    blocks = pieces(len(array), max(1, BLOCK_BYTES // row_bytes))

    def block(index: int) -> None:
        own = blocks[index]
        work(array[own], slice(rows.start + own.start, rows.start + own.stop))

    anchors.for_each(len(blocks), block)


def _multiply(
    xp: Any,
    left: Array,
    right: Array,
    out: Array,
    anchors: BatchContext,
    *,
    tile: int,
    is_first: bool,
) -> None:
    """Adds left times right transposed to ``out``, which is first made of it."""
    columns = pieces(len(right), PIECE)

    def piece(index: int) -> None:
        own, given = out[:, columns[index]], right[columns[index]]
        lacking = -len(given) % tile
        if lacking:
            given = xp.concatenate((given, xp.zeros((lacking, given.shape[1]), given.dtype)))
        elif is_first and xp is np:
            np.matmul(left, given.T, out=own)
            return
        product = (left @ given.T)[:, : own.shape[1]]
        if is_first:
            own[...] = product
        else:
            own += product

    anchors.for_each(len(columns), piece)


def add_by_rows(slopes: Array, right: Array, out: Array, anchors: BatchContext) -> None:
    """Adds slopes times right."""
    rows, widths = pieces(len(slopes), BACK_ROWS), pieces(out.shape[1], WIDTH)

    def piece(index: int) -> None:
        own, part = rows[index // len(widths)], widths[index % len(widths)]
        out[own, part] += slopes[own] @ right[:, part]

    anchors.for_each(len(rows) * len(widths), piece)


def add_by_columns(slopes: Array, left: Array, out: Array, anchors: BatchContext) -> None:
    """Adds slopes transposed times left."""
    columns, widths = pieces(slopes.shape[1], PIECE), pieces(out.shape[1], WIDTH)

    def piece(index: int) -> None:
        own, part = columns[index // len(widths)], widths[index % len(widths)]
        out[own, part] += slopes[:, own].T @ left[:, part]

    anchors.for_each(len(columns) * len(widths), piece)


class Vectors:
    """Embeddings as they are compared: as they are, or normalised to length 1.

    Normalised ones are put to ``place``, if it is given, in the type that it has.
    """

    def __init__(
        self,
        xp: Any,
        given: Array,
        anchors: BatchContext,
        *,
        normalize: bool,
        place: Array | None = None,
    ) -> None:
        self._xp = xp
        self._anchors = anchors
        self._normalize = normalize
        self.rows = given
        self.is_zero = xp.zeros(given.shape[:-1], bool)
        self._lengths = xp.empty(given.shape[:-1] if normalize else 0)
        if normalize:
            self.rows = xp.empty_like(given) if place is None else place
            in_blocks(given, slice(0, len(given)), anchors, self._normalized)

    def _normalized(self, given: Array, rows: slice) -> None:
        found = directions(self._xp, given)
        self.rows[rows] = found.rows
        self.is_zero[rows] = found.is_zero
        self._lengths[rows] = found.lengths

    def back(self, slopes: Array, factor: float = 1) -> Array:
        """Turns slopes by the rows, times a factor, into slopes by what was given, in place.

        Of slopes by directions only what is across them is left; none stay none.
        """

        def turned(slopes: Array, rows: slice) -> None:
            if factor != 1:
                slopes *= slopes.dtype.type(factor)
            if self._normalize:
                self._across(slopes, rows)

        in_blocks(slopes, slice(0, len(slopes)), self._anchors, turned)
        return slopes

    def _across(self, slopes: Array, rows: slice) -> None:
        own, lengths = self.rows[rows], self._lengths[rows][..., None]
        along = dots(slopes, own)[..., None]
        is_idle = self.is_zero[rows] | ~slopes.any(axis=-1)
        for part in parts(slopes.shape[-1]):
            slopes[..., part] = (slopes[..., part] - along * own[..., part]) / lengths
        slopes[is_idle] = 0
