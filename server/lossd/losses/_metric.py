"""Distances of all embeddings from each other, panel by panel, in float64.

The square of a distance comes from a product, |a|^2 + |b|^2 - 2 a.b, which loses digits where two
points are near each other; there it is computed again from their difference.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from lossd.losses._declare import Anchors, Distance
from lossd.losses._embeddings import norms
from lossd.losses._schema import Array
from lossd.losses._similarity import Vectors, compare, finite

# Takes the distances of some rows, given as a slice, from all, and returns the slopes by them.
Turn = Callable[[Array, slice], Array]

# Squares below this share of the squared lengths are computed again: what the product loses, 1e-15
# of the lengths, then stays below the rounding of the type that was given.
NEAR = {np.dtype(np.float32): 1e-7, np.dtype(np.float64): 1e-2}
# Columns that a product is rounded alike in: at the end of a matrix libraries take other ways, and
# two examples that are one point would not be as far from a third.
TILE = 64
PAIRS = 1 << 20  # components of differences that are held at a time


class Metric:
    """Embeddings with a distance between them."""

    def __init__(self, xp: Any, given: Array, anchors: Anchors, distance: Distance) -> None:
        self._xp, self._anchors, self._distance = xp, anchors, distance
        self._near = NEAR[given.dtype]
        is_angle = distance is Distance.COSINE
        self._vectors = Vectors(xp, given.astype(np.float64), anchors, normalize=is_angle)
        self.is_zero = self._vectors.is_zero
        # By a power of 2, so that no square overflows or vanishes and nothing is rounded.
        self._unit = 1.0 if is_angle else _power_of_two(given)
        self._rows = self._vectors.rows / self._unit
        squares = (self._rows * self._rows).sum(axis=-1)
        self._squares = xp.where(self.is_zero, 1, squares)  # as far from all as a right angle

    def run(self, turn: Turn, *, wanted: bool) -> Array:
        """Runs ``turn`` on all distances; returns the slopes by the embeddings, 0 if not wanted.

        With H the slopes by half the squares, row a has sum_b (H_ab + H_ba) (a - b).  A column of
        ones beside the embeddings gives the sums of H.
        """
        xp, rows = self._xp, self._rows
        count, length = rows.shape
        left, right = xp.ones((count, length + 1)), xp.zeros((-count % TILE + count, length + 1))
        left[:, :-1] = right[:count, :-1] = rows
        sums, found = xp.zeros(count), xp.zeros_like(right)

        def block(products: Array, own: slice) -> None:
            distances = self._distances(products[:, :count], own)
            slopes = self._by_half_squares(turn(distances, own), distances)
            sums[own] = slopes.sum(axis=-1)
            products[:, :count] = slopes
            products[:, count:] = 0

        out = found if wanted else None
        compare(xp, left, right, self._anchors, block, by_left=out, by_right=out)
        found = found[:count]
        sums += found[:, -1]
        slopes = sums[:, None] * finite(xp, rows).rows - found[:, :-1]
        return self._vectors.back(slopes)

    def _distances(self, products: Array, own: slice) -> Array:
        xp = self._xp
        lengths = self._squares[own, None] + self._squares
        squares = xp.maximum(lengths - 2 * products, 0)
        self._again(squares, lengths, own)
        if self._distance is Distance.COSINE:
            return squares / 2
        if self._distance is Distance.SQUARED_EUCLIDEAN:
            return squares * self._unit * self._unit
        return xp.sqrt(squares) * self._unit

    def _again(self, squares: Array, lengths: Array, own: slice) -> None:
        left, right = self._xp.nonzero(squares <= self._near * lengths)
        step = max(1, PAIRS // self._rows.shape[1])
        for start in range(0, len(left), step):
            one, other = left[start : start + step], right[start : start + step]
            apart = norms(self._xp, self._rows[own][one] - self._rows[other])
            squares[one, other] = apart * apart

    def _by_half_squares(self, slopes: Array, distances: Array) -> Array:
        """Slopes by half the squared distances of the rows, which have the unit 1 / ``unit``."""
        xp = self._xp
        if self._distance is Distance.COSINE:
            return slopes
        if self._distance is Distance.SQUARED_EUCLIDEAN:
            return slopes * (2 * self._unit)
        is_flat = (distances == 0) | (slopes == 0)
        return xp.where(is_flat, 0, slopes / xp.where(is_flat, 1, distances / self._unit))


def _power_of_two(given: Array) -> float:
    largest = float(abs(given).max()) if given.size else 0.0
    if not 0 < largest < np.inf:
        return 1.0
    return float(2.0 ** np.floor(np.log2(largest)))
