"""Embeddings: their directions and lengths, and the distances between two rows of them.

Everything is computed in float64, and lengths from components over the largest of them, so that
vectors of 1e30 and of 1e-30 have a length and a direction in every type.  A vector of zeros has no
direction: it is similar to nothing, and has no gradient.
"""

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from lossd.losses._body import Status
from lossd.schema import Array


class Distance(enum.Enum):
    """The distance of two vectors."""

    EUCLIDEAN = "length of the difference"
    SQUARED_EUCLIDEAN = "squared length of the difference"
    COSINE = "one minus the cosine of the angle"


# Components of a long vector that are computed at once, so that temporary memory does not grow with
# the length of vectors.
PART = 1 << 17

# What kernels/vectors.hpp calls the distances.
KERNEL_DISTANCES: Mapping[Distance, str] = MappingProxyType(
    {
        Distance.EUCLIDEAN: "Euclidean",
        Distance.SQUARED_EUCLIDEAN: "SquaredEuclidean",
        Distance.COSINE: "Cosine",
    }
)


def parts(length: int) -> list[slice]:
    """Returns the parts that a long vector is computed in, with fixed bounds."""
    return pieces(length, PART)


def pieces(count: int, step: int) -> list[slice]:
    """Returns pieces of ``step``, the last of which may be smaller."""
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]


def dots(left: Array, right: Array) -> Array:
    """Returns the products of vectors along the last axis, in float64."""
    found = _products(left[..., :PART], right[..., :PART])
    length = left.shape[-1] if left.size else 0  # no rows have no parts, however long they would be
    for part in parts(length)[1:]:
        found += _products(left[..., part], right[..., part])
    return found


def _products(left: Array, right: Array) -> Array:
    return (left.astype(np.float64) * right).sum(axis=-1)


@dataclass(frozen=True, slots=True)
class Directions:
    """Rows of length 1, or of zeros, and the lengths that they had."""

    rows: Array
    lengths: Array
    is_zero: Array


def directions(xp: Any, vectors: Array) -> Directions:
    """Splits vectors, which lie along the last axis, into directions and lengths."""
    largest = _largest(xp, vectors).astype(np.float64)
    # Scaled first, since the length itself may be too large or small to divide by.
    scaled = vectors / largest
    sizes = xp.sqrt(dots(scaled, scaled))[..., None]
    is_zero = sizes[..., 0] == 0
    sizes = xp.where(sizes == 0, 1, sizes)
    scaled /= sizes
    return Directions(scaled, (largest * sizes)[..., 0], is_zero)


def reach(xp: Any, vectors: Array) -> Array:
    """Returns the size of the largest component."""
    return xp.maximum(vectors.max(axis=-1, keepdims=True), -vectors.min(axis=-1, keepdims=True))


def _largest(xp: Any, vectors: Array) -> Array:
    """Returns the size of the largest component, 1 where all are 0."""
    found = reach(xp, vectors)
    return xp.where(found == 0, 1, found)


@dataclass(frozen=True, slots=True)
class Cosines:
    """The cosine of each pair of rows, one minus it, and a function for its gradients."""

    cosine: Array
    gap: Array
    derivatives: Callable[[], tuple[Array, Array]]
    has_zero: Array


def cosines(xp: Any, left: Array, right: Array) -> Cosines:
    """Compares two sets of vectors row by row.

    With s the sign of the cosine, h = |v - s u|^2 / 2 is one minus its size, to full accuracy
    however near the two are; the derivative with respect to the left is (v - s u + s h u) / |left|.
    """
    one, other = directions(xp, left), directions(xp, right)
    u, v = one.rows, other.rows
    product = (u * v).sum(axis=-1)
    sign = xp.where(product < 0, -1.0, 1.0)
    apart = v - sign[..., None] * u
    near = (apart * apart).sum(axis=-1) / 2
    has_zero = one.is_zero | other.is_zero
    gap = xp.where(has_zero, 1, xp.where(product < 0, 2 - near, near))

    def derivatives() -> tuple[Array, Array]:
        signs, turn = sign[..., None], (sign * near)[..., None]
        by_left = (apart + turn * u) / one.lengths[..., None]
        by_right = (turn * v - signs * apart) / other.lengths[..., None]
        lost = has_zero[..., None]
        return xp.where(lost, 0, by_left), xp.where(lost, 0, by_right)

    # Exactly 1 or -1 for two that are equal or opposite.
    cosine = xp.where(near < 0.5, sign * (1 - near), product)
    return Cosines(xp.where(has_zero, 0, cosine), gap, derivatives, has_zero)


@dataclass(frozen=True, slots=True)
class Distances:
    """The distance of each pair of rows, and a function for its gradients with respect to both."""

    value: Array
    derivatives: Callable[[], tuple[Array, Array]]
    has_zero: Array | None = None
    length: Array | None = None  # the root of a square


def beyond(near: Distances, far: Distances) -> Array:
    """Returns how much larger one distance is; infinite squares are compared by their roots."""
    found = near.value - far.value
    if near.length is None or far.length is None:
        return found
    are_infinite = (near.value == np.inf) & (far.value == np.inf)
    found[are_infinite] = (
        (near.length - far.length) * (near.length + far.length)
    )[are_infinite]  # fmt: skip
    return found


def zero_norms(xp: Any, *found: Distances) -> Array | None:
    """Returns the status of each example: ZERO_NORM for a vector without a direction."""
    flags = [each.has_zero for each in found if each.has_zero is not None]
    if not flags:
        return None
    has_zero = flags[0]
    for flag in flags[1:]:
        has_zero = has_zero | flag
    return xp.where(has_zero, int(Status.ZERO_NORM), 0)


def distances(
    xp: Any, left: Array, right: Array, distance: Distance, *, p: float = 2, eps: float = 0
) -> Distances:
    """Measures row by row; ``eps`` is added to each component of a difference.

    The gradient is that of the norm of the sum: 0 where the sum is a row of zeros, as for two equal
    rows without ``eps``.
    """
    if distance is Distance.COSINE:
        found = cosines(xp, left, right)

        def away() -> tuple[Array, Array]:
            by_left, by_right = found.derivatives()
            return -by_left, -by_right

        return Distances(found.gap, away, found.has_zero)
    apart = left.astype(np.float64) - right.astype(np.float64) + eps
    length, derivative = p_norms(xp, apart, p)
    if distance is Distance.SQUARED_EUCLIDEAN:
        return Distances(length * length, lambda: (2 * apart, -2 * apart), length=length)
    return Distances(length, lambda: (derivative, -derivative))


def p_norms(xp: Any, vectors: Array, p: float) -> tuple[Array, Array]:
    """Returns the p-norm of float64 vectors and its gradient; at inf, of the first largest."""
    largest = _largest(xp, vectors)
    scaled = abs(vectors) / largest
    signs = xp.sign(vectors)
    if p == np.inf:
        first = scaled.argmax(axis=-1)[..., None] == xp.arange(vectors.shape[-1])
        return scaled.max(axis=-1) * largest[..., 0], xp.where(first, signs, 0)
    if p == 2:
        length = xp.sqrt((scaled * scaled).sum(axis=-1))
        safe = xp.where(length == 0, 1, length)
        return length * largest[..., 0], vectors / largest / safe[..., None]
    powers = (scaled**p).sum(axis=-1)
    length = powers ** (1 / p)
    safe = xp.where(powers == 0, 1, powers)
    derivative = signs * scaled ** (p - 1) * (length / safe)[..., None]
    return length * largest[..., 0], xp.where(vectors == 0, 0, derivative)


def each_component(distances: Array, vectors: Array) -> Array:
    """Returns numbers of each example, repeated for each component of its vectors."""
    return np.broadcast_to(distances[:, None], vectors.shape)
