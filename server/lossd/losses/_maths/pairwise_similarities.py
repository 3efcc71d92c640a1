"""Compares all rows with all rows, panel by panel, without a matrix of all pairs.

A panel is a fixed number of rows against all columns.  Its similarities are computed, then replaced
in place by derivatives with respect to them, which are multiplied back into gradients.  Each step
is cut into pieces of fixed shapes that write to memory of their own, and panels follow each other,
so that every sum has one order whatever the threads.  Long vectors are multiplied some components
at a time, so that neither memory nor the time of a piece grows with their length.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from lossd.losses._body import BatchContext
from lossd.losses._maths.vectors import directions, dots, parts, pieces, reach
from lossd.schema import Array


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much work is done at once."""

    panel_bytes: int
    panel_bytes_a_column: int
    columns: int  # rows of one product
    width: int  # components of one product
    back_rows: int  # rows of one product of derivatives with columns
    block_bytes: int  # rows of similarities that are turned into derivatives


# Pieces for the caches and threads of a CPU; a panel has 1024 rows of float32 or 512 of float64,
# larger ones gain nothing.
_IN_CACHE = Sizes(128 << 20, 4096, 1024, 4096, 256, 1 << 20)
# A device computes a panel at a time, since a launch takes as long as a million elements.
_AT_ONCE = Sizes(256 << 20, 256 << 20, 1 << 31, 1 << 31, 1 << 31, 256 << 20)

PLAIN = 256.0  # components between its inverse and this keep nearly all of float32's range
TINY = float(np.finfo(np.float64).tiny)
NARROW = 32.0  # exponents up to this are right to 3e-6 in float32

# Turns similarities of some rows, given as a slice, with all columns into derivatives, in place.
ToDerivatives = Callable[[Array, slice], None]


def sizes_of(batch: BatchContext) -> Sizes:
    """Returns how much work to do at once on this kind of device."""
    return _IN_CACHE if batch.in_cache else _AT_ONCE


def compare(
    xp: Any,
    left: Array,
    right: Array,
    batch: BatchContext,
    to_derivatives: ToDerivatives,
    *,
    is_wide: bool,
    by_left: Array | None,
    by_right: Array | None,
) -> None:
    """Sums gradients with ``to_derivatives`` of the similarities, left times right transposed.

    With the derivatives G of the similarities, G right and G^T left are added to two arrays; one
    that is None is not computed.  A derivative of 0 contributes 0: excluded vectors may hold NaN or
    infinity. ``is_wide`` passes the similarities in float64, a block at a time.
    """
    lefts = finite(xp, left, batch)
    rights = lefts if right is left else finite(xp, right, batch)

    def to_marked_derivatives(scores: Array, own: slice) -> None:
        if is_wide:
            wide = scores.astype(np.float64)
            to_derivatives(wide, own)
            scores[...] = wide
        else:
            to_derivatives(scores, own)
        if lefts.has_broken or rights.has_broken:
            mark_nan(scores, lefts.is_broken[own, None] | rights.is_broken)

    for scores, rows in panels(xp, left, right, batch):
        for_each_block(scores, rows, batch, to_marked_derivatives)
        if by_left is not None:
            add_by_rows(scores, rights.rows, by_left[rows], batch)
        if by_right is not None:
            add_by_columns(scores, lefts.rows[rows], by_right, batch)


def panels(
    xp: Any, left: Array, right: Array, batch: BatchContext, *, tile: int = 1
) -> Iterator[tuple[Array, slice]]:
    """Yields the similarities of some rows with all columns, and which rows they are.

    A panel reuses the memory of the one before it.  Products have a multiple of ``tile`` columns,
    padded with zeros.
    """
    width = len(right)
    sizes = sizes_of(batch)
    bytes_a_column = min(sizes.panel_bytes_a_column, sizes.panel_bytes // max(1, width))
    height = max(1, bytes_a_column // left.dtype.itemsize)
    panel = xp.empty((min(height, len(left)), width), left.dtype)
    for rows in pieces(len(left), height):
        scores = panel[: rows.stop - rows.start]
        for part in pieces(left.shape[1], sizes.width):
            own, given = left[rows, part], right[:, part]
            _multiply(xp, own, given, scores, batch, tile=tile, is_first=part.start == 0)
        yield scores, rows


@dataclass(frozen=True, slots=True)
class Finite:
    """Vectors with 0 in place of what is not finite, and flags for those that were broken so."""

    rows: Array
    is_broken: Array
    has_broken: bool


def finite(xp: Any, vectors: Array, batch: BatchContext) -> Finite:
    """Returns finite vectors to multiply with; ``mark_nan`` makes factors of broken ones NaN."""
    is_broken = xp.empty(vectors.shape[:-1], bool)

    def look(own: Array, rows: slice) -> None:
        is_broken[rows] = ~xp.isfinite(own).all(axis=-1)

    for_each_block(vectors, slice(0, len(vectors)), batch, look)
    if not bool(is_broken.any()):
        return Finite(vectors, is_broken, has_broken=False)
    cleaned = xp.empty_like(vectors)

    def clean(own: Array, rows: slice) -> None:
        cleaned[rows] = xp.where(xp.isfinite(own), own, 0)

    for_each_block(vectors, slice(0, len(vectors)), batch, clean)
    return Finite(cleaned, is_broken, has_broken=True)


def scale(derivatives: Array, scales: Array) -> None:
    """Multiplies the derivatives of each row by its scale, in place; 0 makes any of them 0."""
    derivatives *= scales[:, None].astype(derivatives.dtype)
    derivatives[scales == 0] = 0


def scaled_sum(xp: Any, derivatives: Array, batch: BatchContext) -> float:
    """Returns the sum of a derivative of each row times its scale; 0 makes any of them 0."""
    return float(xp.where(batch.scales == 0, 0, batch.scales * derivatives).sum())


def mark_nan(derivatives: Array, is_broken: Array) -> None:
    """Makes derivatives of broken vectors NaN, except for those of 0."""
    derivatives[is_broken & (derivatives != 0)] = np.nan


def times(derivatives: Array, vectors: Array) -> Array:
    """Returns each vector times a factor, where a factor of 0 gives 0 whatever the vector holds."""
    products = derivatives[..., None] * vectors
    products[derivatives == 0] = 0
    return products


def for_each_block(array: Array, rows: slice, batch: BatchContext, work: ToDerivatives) -> None:
    """Calls ``work`` with rows that fit a block, at least one, and which of ``rows`` they are."""
    row_bytes = max(1, array[:1].nbytes)
    blocks = pieces(len(array), max(1, sizes_of(batch).block_bytes // row_bytes))

    def block(index: int) -> None:
        own = blocks[index]
        work(array[own], slice(rows.start + own.start, rows.start + own.stop))

    batch.for_each(len(blocks), block)


def _multiply(
    xp: Any,
    left: Array,
    right: Array,
    out: Array,
    batch: BatchContext,
    *,
    tile: int,
    is_first: bool,
) -> None:
    """Adds left times right transposed to ``out``, or writes it there the first time."""
    columns = pieces(len(right), sizes_of(batch).columns)

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

    batch.for_each(len(columns), piece)


def add_by_rows(derivatives: Array, right: Array, out: Array, batch: BatchContext) -> None:
    """Adds derivatives times right."""
    sizes = sizes_of(batch)
    rows, widths = pieces(len(derivatives), sizes.back_rows), pieces(out.shape[1], sizes.width)

    def piece(index: int) -> None:
        own, part = rows[index // len(widths)], widths[index % len(widths)]
        out[own, part] += derivatives[own] @ right[:, part]

    batch.for_each(len(rows) * len(widths), piece)


def add_by_columns(derivatives: Array, left: Array, out: Array, batch: BatchContext) -> None:
    """Adds derivatives transposed times left."""
    sizes = sizes_of(batch)
    columns, widths = pieces(derivatives.shape[1], sizes.columns), pieces(out.shape[1], sizes.width)

    def piece(index: int) -> None:
        own, part = columns[index // len(widths)], widths[index % len(widths)]
        out[own, part] += derivatives[:, own].T @ left[:, part]

    batch.for_each(len(columns) * len(widths), piece)


class Vectors:
    """Embeddings for comparison: divided by a unit, or normalised to length 1.

    Normalised ones are written to ``place``, if it is given, in its type.  The ``unit`` is
    1 unless the product of two of them could overflow or vanish, and a power of 2.
    """

    def __init__(
        self,
        xp: Any,
        given: Array,
        batch: BatchContext,
        *,
        normalize: bool,
        place: Array | None = None,
        unit: float = 1.0,
    ) -> None:
        self._xp = xp
        self._batch = batch
        self._normalize = normalize
        self.rows = given
        self.unit = unit
        self.is_zero = xp.zeros(given.shape[:-1], bool)
        self._lengths = xp.empty(given.shape[:-1] if normalize else 0)
        if normalize:
            self.rows = xp.empty_like(given) if place is None else place
            for_each_block(given, slice(0, len(given)), batch, self._normalized)
        elif unit != 1:
            self.rows = xp.empty_like(given)
            for_each_block(given, slice(0, len(given)), batch, self._measured)

    def _normalized(self, given: Array, rows: slice) -> None:
        found = directions(self._xp, given)
        self.rows[rows] = found.rows
        self.is_zero[rows] = found.is_zero
        self._lengths[rows] = found.lengths

    def _measured(self, given: Array, rows: slice) -> None:
        self.rows[rows] = given / self.unit

    def reach(self) -> float:
        """Returns an upper bound for the length of finite vectors, in units."""
        if self._normalize or not self.rows.size:
            return 1.0
        longest: float = self.rows.shape[-1] ** 0.5
        return largest_of(self._xp, self.rows, self._batch) * longest

    def back(self, derivatives: Array, divisor: float = 1) -> Array:
        """Turns gradients of rows, over a divisor, into those of the vectors given, in place.

        Of the gradient of a direction, only the part orthogonal to it is left; 0 stays 0.
        """

        def turned(derivatives: Array, rows: slice) -> None:
            if self._normalize:
                self._across(derivatives, rows, divisor)
            elif divisor != 1:
                for part in parts(derivatives.shape[-1]):
                    derivatives[..., part] = _over(
                        derivatives[..., part].astype(np.float64), divisor
                    )

        for_each_block(derivatives, slice(0, len(derivatives)), self._batch, turned)
        return derivatives

    def _across(self, derivatives: Array, rows: slice, divisor: float) -> None:
        own, lengths = self.rows[rows], self._lengths[rows][..., None]
        along = dots(derivatives, own)[..., None]
        is_idle = self.is_zero[rows] | ~derivatives.any(axis=-1)
        for part in parts(derivatives.shape[-1]):
            across = (derivatives[..., part] - along * own[..., part]) / lengths
            derivatives[..., part] = _over(across, divisor)
        derivatives[is_idle] = 0


def unit_of(xp: Any, batch: BatchContext, *given: Array) -> float:
    """Returns a power of two of about the size of the largest component of finite vectors.

    It is 1 where their products neither overflow nor vanish without it.
    """
    found = max(largest_of(xp, vectors, batch) for vectors in given)
    return 1.0 if 1 / PLAIN <= found <= PLAIN or not found else power_of_two(found)


def largest_of(xp: Any, vectors: Array, batch: BatchContext) -> float:
    """Returns the size of the largest component of the vectors that are finite."""
    found = xp.zeros(vectors.shape[:-1])

    def look(rows: Array, own: slice) -> None:
        largest = reach(xp, rows)[..., 0]
        found[own] = xp.where(xp.isfinite(largest), largest, 0)

    for_each_block(vectors, slice(0, len(vectors)), batch, look)
    return float(found.max()) if found.size else 0.0


def power_of_two(number: float) -> float:
    """Returns the largest power of two that is not above a number, 1 for 0."""
    return float(2.0 ** np.floor(np.log2(number))) if number else 1.0


@dataclass(frozen=True, slots=True)
class Temperature:
    """A temperature: the divisor of similarities, which are in the units of both sides."""

    given: float
    left: float
    right: float

    @property
    def divisor(self) -> float:
        """The divisor of similarities."""
        return max(_positive(self.given / self.left / self.right), TINY)

    def of_derivatives(self, other: float) -> float:
        """Returns the divisor of gradients that are sums of vectors with the unit ``other``."""
        return _positive(self.given / other)

    def derivative(self, total: float) -> float:
        """Returns its derivative, from the sum of the quotients' derivatives times differences."""
        return -total / self.divisor / self.given

    def is_wide(self, dtype: np.dtype[Any], reach: float, bias: float = 0) -> bool:
        """Returns whether quotients need more digits or more range than float32 has.

        ``reach`` is an upper bound for similarities.
        """
        if dtype != np.float32:
            return False
        is_plain = 1 / PLAIN**3 <= self.divisor <= PLAIN**3
        return not (is_plain and 2 * reach / self.divisor + abs(bias) <= NARROW)


def _over(numbers: Array, divisor: float) -> Array:
    """Returns a quotient, also for a divisor that a device would flush to 0."""
    return numbers / divisor if divisor >= TINY else numbers / TINY / (divisor / TINY)


def _positive(number: float) -> float:
    """Returns a positive number that float64 can hold."""
    return float(np.clip(number, np.nextafter(0.0, 1.0), np.finfo(np.float64).max))
