"""Distances of all embeddings from each other, panel by panel, in float64.

The square of a distance comes from a product, |a|^2 + |b|^2 - 2 a.b, which loses digits where two
points are close; there it is computed again from their difference.  So are the gradients: sums of
H_ab (a - b) come from products too, except for the terms of close points.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from lossd.losses._body import BatchContext
from lossd.losses._maths.pairwise_similarities import (
    Vectors,
    add_by_columns,
    add_by_rows,
    finite,
    for_each_block,
    largest_of,
    mark_nan,
    panels,
    power_of_two,
)
from lossd.losses._maths.vectors import Distance, dots, parts, pieces, reach
from lossd.schema import Array

# Takes the distances of some rows, given as a slice, from all, and returns the gradients with
# respect to them.
ToDerivatives = Callable[[Array, slice], Array]

# Squares below this share of the squared lengths are computed again: the error of the product,
# 1e-15 of the lengths, then stays below the rounding of the type that was given.
NEAR = {np.dtype(np.float32): 1e-7, np.dtype(np.float64): 1e-2}
# Columns that a product rounds alike: at the end of a matrix libraries sum in other ways, and two
# equal examples would not have the same distance from a third.
TILE = 64
# Distances and squares of coordinates up to this power of 2, and sums of many, do not overflow.
REACH = 2.0**400
# Components of differences that are held at once, in the caches of a CPU or on a device.
PAIRS, PAIRS_AT_ONCE = 1 << 20, 1 << 24


class EmbeddingSpace:
    """Embeddings with a distance between them.

    Distances come in a unit of their own, a power of 2, which is 1 unless they could overflow: two
    that are infinite would have no difference.
    """

    def __init__(self, xp: Any, given: Array, batch: BatchContext, distance: Distance) -> None:
        self._xp, self._batch, self._distance = xp, batch, distance
        self._near = NEAR[given.dtype]
        self._pairs = PAIRS if batch.in_cache else PAIRS_AT_ONCE
        count, length = given.shape
        self._rows = xp.empty((count, length))
        is_angle = distance is Distance.COSINE
        self._vectors = Vectors(xp, given, batch, normalize=is_angle, place=self._rows)
        self.is_zero = self._vectors.is_zero
        # Scaled by a power of 2, so that no square overflows or vanishes and nothing is rounded.
        self._unit = 1.0 if is_angle else power_of_two(largest_of(xp, given, batch))
        self._powers = 2 if distance is Distance.SQUARED_EUCLIDEAN else 1
        self._shrink = max(1.0, self._unit / REACH)
        self._step = self._unit / self._shrink  # the rows' unit, in that of distances
        self._squares = xp.empty(count)

        def measure(rows: Array, own: slice) -> None:
            if not is_angle:
                xp.divide(given[own], self._unit, out=rows, dtype=np.float64)
            self._squares[own] = dots(rows, rows)

        for_each_block(self._rows, slice(0, count), batch, measure)
        self._squares[self.is_zero] = 1  # at a right angle to all others

    def shrunk(self, distance: float) -> float:
        """Returns a distance in the unit in which distances come."""
        for _ in range(self._powers):
            distance /= self._shrink
        return distance

    def grown(self, distances: Array) -> Array:
        """Returns the true distances, infinite where they overflow."""
        for _ in range(self._powers):
            distances = distances * self._shrink
        return distances

    def run(self, to_derivatives: ToDerivatives, *, wanted: bool) -> Array:
        """Runs ``to_derivatives`` on all distances; returns gradients, 0 if not wanted.

        With H the derivatives of half the squares, row a has the gradient
        sum_b (H_ab + H_ba) (a - b).
        """
        xp, rows, batch = self._xp, self._rows, self._batch
        count = len(rows)
        vectors = finite(xp, rows, batch)
        sums, found = xp.zeros(count), xp.zeros(rows.shape)  # sums of H, and of H b

        def slopes_of(squares: Array, own: slice) -> None:
            distances = self._distances(squares)
            derivatives = self._by_half_squares(to_derivatives(distances, own), distances)
            if vectors.has_broken:
                mark_nan(derivatives, vectors.is_broken[own, None] | vectors.is_broken)
            squares[...] = derivatives

        over = self._unit if self._powers == 2 else 1.0
        for panel, own in panels(xp, rows, rows, batch, tile=TILE):
            is_near = self._to_squares(panel, own)
            for_each_block(panel, own, batch, slopes_of)
            if not wanted:
                continue
            self._take_near(panel, is_near, own, found)
            sums[own] += panel.sum(axis=-1)
            sums += panel.sum(axis=0)
            add_by_rows(panel, vectors.rows, found[own], batch)
            add_by_columns(panel, vectors.rows[own], found, batch)

        def join(derivatives: Array, own: slice) -> None:
            for part in parts(derivatives.shape[1]):
                derivatives[:, part] = (
                    sums[own, None] * vectors.rows[own, part] - derivatives[:, part]
                ) * over

        for_each_block(found, slice(0, count), batch, join)
        return self._vectors.back(found)

    def _distances(self, squares: Array) -> Array:
        if self._distance is Distance.COSINE:
            return squares / 2
        if self._distance is Distance.SQUARED_EUCLIDEAN:
            return squares * self._step * self._step
        return self._xp.sqrt(squares) * self._step

    def _to_squares(self, products: Array, own: slice) -> Array:
        """Turns products with all points into squared distances; returns which points are close."""
        xp = self._xp
        is_near = xp.empty(products.shape, bool)

        def block(scores: Array, rows: slice) -> None:
            lengths = self._squares[rows, None] + self._squares
            scores[...] = xp.maximum(lengths - 2 * scores, 0)
            # Points that are not finite are close to none, and a point's distance to itself is 0.
            found = (scores <= self._near * lengths) & xp.isfinite(lengths)
            found[xp.arange(len(scores)), xp.arange(rows.start, rows.stop)] = False
            is_near[rows.start - own.start : rows.stop - own.start] = found

        for_each_block(products, own, self._batch, block)
        for rows in pieces(len(products), max(1, self._pairs // products.shape[1])):
            start = own.start + rows.start
            left, right = xp.nonzero(is_near[rows])
            self._measure_again(products[rows], left, right, start)
        return is_near

    def _measure_again(self, squares: Array, left: Array, right: Array, start: int) -> None:
        """Computes squares of some pairs from differences; ``start`` is the first row's index."""
        chunks = pieces(len(left), max(1, self._pairs // self._rows.shape[1]))

        def chunk(index: int) -> None:
            one, other = left[chunks[index]], right[chunks[index]]
            squares[one, other] = self._squares_apart(start + one, other)

        self._batch.for_each(len(chunks), chunk)

    def _squares_apart(self, one: Array, other: Array) -> Array:
        """Returns squared distances, from components over the largest, so that none vanishes."""
        xp, (first, *others) = self._xp, parts(self._rows.shape[1])
        apart = self._apart(one, other, first)
        largest = reach(xp, apart)
        for part in others:
            largest = xp.maximum(largest, reach(xp, self._apart(one, other, part)))
        largest = xp.where(largest == 0, 1, largest)
        apart /= largest
        sums = (apart * apart).sum(axis=-1)
        for part in others:
            apart = self._apart(one, other, part) / largest
            sums += (apart * apart).sum(axis=-1)
        lengths = largest[:, 0] * xp.sqrt(sums)
        return lengths * lengths

    def _apart(self, one: Array, other: Array, part: slice) -> Array:
        rows = self._rows[:, part]
        return rows[one] - rows[other]

    def _take_near(self, derivatives: Array, is_near: Array, own: slice, found: Array) -> None:
        """Adds the terms of close points from their differences, and clears their gradients."""
        is_near &= derivatives != 0
        if not bool(is_near.any()):
            return

        def by_row(row: int) -> tuple[Array, Array]:
            others = self._xp.flatnonzero(is_near[row])
            return derivatives[row, others], others

        def by_column(column: int) -> tuple[Array, Array]:
            others = self._xp.flatnonzero(is_near[:, column])
            return derivatives[others, column], others + own.start

        self._add_differences(is_near.any(axis=1), by_row, found[own], self._rows[own])
        self._add_differences(is_near.any(axis=0), by_column, found, self._rows)
        derivatives[is_near] = 0

    def _add_differences(
        self,
        has_some: Array,
        terms: Callable[[int], tuple[Array, Array]],
        out: Array,
        points: Array,
    ) -> None:
        """Adds sum_b H_ab (b - a) for some points a; ``terms`` gives H and the indices."""
        some, widths = self._xp.flatnonzero(has_some).tolist(), parts(points.shape[1])

        def piece(index: int) -> None:
            point, part = some[index // len(widths)], widths[index % len(widths)]
            derivatives, others = terms(point)
            rows, here = self._rows[:, part], points[point, part]
            for chunk in pieces(len(others), max(1, self._pairs // rows.shape[1])):
                out[point, part] += derivatives[chunk] @ (rows[others[chunk]] - here)

        self._batch.for_each(len(some) * len(widths), piece)

    def _by_half_squares(self, derivatives: Array, distances: Array) -> Array:
        """Returns derivatives with respect to half the squares of rows in their unit.

        Those of squared distances are over the unit, which ``run`` multiplies by at last.
        """
        xp = self._xp
        if self._distance is Distance.COSINE:
            return derivatives
        if self._distance is Distance.SQUARED_EUCLIDEAN:
            return 2 * derivatives
        is_flat = (distances == 0) | (derivatives == 0)
        return xp.where(is_flat, 0, derivatives / xp.where(is_flat, 1, distances / self._step))
