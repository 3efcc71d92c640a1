"""Distances of feature maps, layer by layer, whoever computed them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from lossd.losses._body import BodyResult, Status
from lossd.losses._maths.vectors import Distance, cosines
from lossd.schema import Array


def feature_distance(
    xp: Any,
    maps: Sequence[Array],
    *,
    layer_weights: Array,
    distance: Distance,
    style_weight: float,
) -> BodyResult:
    """Returns the weighted sum over layers of the distance between maps.

    They are (examples, channels, positions): one of each layer, then as many to compare them with.
    """
    given, truth = maps[: len(maps) // 2], maps[len(maps) // 2 :]
    weights = layer_weights if len(layer_weights) else xp.ones(len(given), given[0].dtype)
    style = given[0].dtype.type(style_weight)  # where a small weight may round to 0
    value = xp.zeros(len(given[0]), given[0].dtype)
    gradients: dict[str, Array] = {}
    zero_norm = xp.zeros(len(given[0]), bool)
    for layer, pair in enumerate(zip(given, truth, strict=True)):
        found = _measured(xp, DISTANCES[distance], *pair)
        if style:
            found = found.plus(style, _measured(xp, STYLE, *pair))
        # Selected, never multiplied: a layer of weight 0 may hold anything.
        is_excluded = weights[layer] == 0
        value += xp.where(is_excluded, 0, weights[layer] * found.value)
        for name, derivatives in (("predictions", found.by_given), ("targets", found.by_truth)):
            gradients[f"{name}[{layer}]"] = xp.where(is_excluded, 0, weights[layer] * derivatives)
        if found.zero_norm is not None:
            zero_norm |= found.zero_norm & ~is_excluded
    statuses = xp.where(zero_norm, int(Status.ZERO_NORM), 0).astype(np.uint8)
    return BodyResult(value, gradients, statuses=statuses)


@dataclass(frozen=True, slots=True)
class _MapDistance:
    """A distance of each example, and its gradients with respect to both maps."""

    value: Array
    by_given: Array
    by_truth: Array
    zero_norm: Array | None = None

    def plus(self, weight: float, other: "_MapDistance") -> "_MapDistance":
        return _MapDistance(
            self.value + weight * other.value,
            self.by_given + weight * other.by_given,
            self.by_truth + weight * other.by_truth,
            self.zero_norm,
        )


@dataclass(frozen=True, slots=True)
class _Measure:
    """A distance of two maps, which grows by t^degree where maps are scaled by t."""

    degree: int
    apply: Callable[[Any, Array, Array], _MapDistance]


def _measured(xp: Any, measure: _Measure, given: Array, truth: Array) -> _MapDistance:
    """Computes a distance, once more with maps scaled to size 1 where numbers overflowed."""
    found = measure.apply(xp, given, truth)
    lost = xp.flatnonzero(~xp.isfinite(found.value))
    if not measure.degree or not len(lost):
        return found
    largest = xp.maximum(*(abs(maps[lost]).max(axis=(1, 2)) for maps in (given, truth)))
    is_number = (largest > 0) & (largest < xp.inf)
    powers = xp.frexp(xp.where(is_number, largest, 1))[1] - 1  # 2^128 is beyond float32
    scale = xp.ldexp(xp.ones_like(largest), powers)
    again = measure.apply(xp, *(maps[lost] / _each(scale) for maps in (given, truth)))
    # One after the other: the product of the scales may be infinite where the rest is 0.
    value, derivatives = again.value, (again.by_given, again.by_truth)
    for _ in range(measure.degree):
        value = value * scale
    for _ in range(measure.degree - 1):
        derivatives = (derivatives[0] * _each(scale), derivatives[1] * _each(scale))
    found.value[lost], found.by_given[lost], found.by_truth[lost] = value, *derivatives
    return found


def _squared(xp: Any, given: Array, truth: Array) -> _MapDistance:
    del xp
    difference = given - truth
    count = _count(difference)
    derivatives = difference * (2 / count)
    value = _sums(difference * difference) / count
    return _MapDistance(value, derivatives, -derivatives)


def _euclidean(xp: Any, given: Array, truth: Array) -> _MapDistance:
    difference = given - truth
    count = _count(difference)
    norm, direction = _polar(xp, difference)
    derivatives = direction / count**0.5
    return _MapDistance(norm / count**0.5, derivatives, -derivatives)


def _cosine(xp: Any, given: Array, truth: Array) -> _MapDistance:
    left, right = (maps.reshape(len(maps), _count(maps)) for maps in (given, truth))
    found, dtype = cosines(xp, left, right), given.dtype
    by_left, by_right = (
        -derivative.astype(dtype).reshape(given.shape) for derivative in found.derivatives()
    )  # fmt: skip
    return _MapDistance(found.gap.astype(dtype), by_left, by_right, found.has_zero)


def _polar(xp: Any, vectors: Array) -> tuple[Array, Array]:
    """Returns the norm and direction of each example, without overflow; 0 has direction 0."""
    largest = abs(vectors).max(axis=(1, 2))
    scale = xp.where((largest > 0) & (largest < xp.inf), largest, 1)
    parts = vectors / _each(scale)
    norm = xp.sqrt(_sums(parts * parts))
    return scale * norm, parts / _each(xp.where(norm == 0, 1, norm))


def _style(xp: Any, given: Array, truth: Array) -> _MapDistance:
    """Returns the squared distance of the Gram matrices.

    With d = x - y and s = x + y their difference is (d s' + s d') / 2, which keeps its digits where
    maps are near each other.  It has the square of the channels; where there are fewer positions,
    its square and its products are had from matrices of the square of those, so that what is taken
    is never more than the maps.
    """
    if given.shape[2] < given.shape[1]:
        return _style_by_places(xp, given, truth)
    count = _count(given)
    product = xp.matmul(given - truth, _turned(given + truth))
    difference = (product + _turned(product)) / (2 * count)
    return _MapDistance(
        _sums(difference * difference),
        xp.matmul(difference, given) * (4 / count),
        xp.matmul(difference, truth) * (-4 / count),
    )


def _style_by_places(xp: Any, given: Array, truth: Array) -> _MapDistance:
    """Returns what ``_style`` does, from (d'd), (s's) and (s'd), with its d and s.

    |d s' + s d'|^2 = 2 <d'd, s's> + 2 <s'd, d's>, in float64, since the two may cancel.
    """
    dtype, count = given.dtype, _count(given)
    given, truth = given.astype(np.float64), truth.astype(np.float64)
    difference, both = given - truth, given + truth
    crossed = xp.matmul(_turned(both), difference)
    product = xp.matmul(_turned(difference), difference) * xp.matmul(_turned(both), both)
    product += crossed * _turned(crossed)

    def derivatives(maps: Array, sign: int) -> Array:
        found = xp.matmul(difference, xp.matmul(_turned(both), maps))
        found += xp.matmul(both, xp.matmul(_turned(difference), maps))
        found *= sign * 2 / count / count
        return found.astype(dtype)

    value = xp.maximum(_sums(product), 0) / (2 * count) / count
    return _MapDistance(value.astype(dtype), derivatives(given, 1), derivatives(truth, -1))


def _turned(matrices: Array) -> Array:
    """Returns the transposed matrix of each example."""
    return matrices.transpose(0, 2, 1)


def _count(maps: Array) -> int:
    """Returns the number of elements of one example's map."""
    return int(maps.shape[1] * maps.shape[2])


def _sums(elements: Array) -> Array:
    """Returns the sum of each example, along the last axis of C-contiguous memory."""
    return elements.reshape(len(elements), _count(elements)).sum(axis=-1)


def _each(numbers: Array) -> Array:
    """Returns one number for each example, to go with all elements of maps."""
    return numbers[:, None, None]


DISTANCES: Mapping[Distance, _Measure] = MappingProxyType(
    {
        Distance.SQUARED_EUCLIDEAN: _Measure(2, _squared),
        Distance.EUCLIDEAN: _Measure(1, _euclidean),
        Distance.COSINE: _Measure(0, _cosine),
    }
)
STYLE = _Measure(4, _style)
