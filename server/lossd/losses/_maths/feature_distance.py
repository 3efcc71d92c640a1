"""Distances of feature maps, layer by layer, whoever computed them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from lossd.losses._declare import Distance, Evaluation, Status
from lossd.losses._maths.vectors import cosines
from lossd.schema import Array


def apart(
    xp: Any,
    given: Sequence[Array],
    truth: Sequence[Array],
    *,
    layer_weights: Array,
    distance: Distance,
    style_weight: float,
) -> Evaluation:
    """Returns the weighted sum over layers of the distance of maps (examples, channels, places)."""
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
        is_silent = weights[layer] == 0
        value += xp.where(is_silent, 0, weights[layer] * found.value)
        for name, slopes in (("predictions", found.by_given), ("targets", found.by_truth)):
            gradients[f"{name}[{layer}]"] = xp.where(is_silent, 0, weights[layer] * slopes)
        if found.zero_norm is not None:
            zero_norm |= found.zero_norm & ~is_silent
    statuses = xp.where(zero_norm, int(Status.ZERO_NORM), 0).astype(np.uint8)
    return Evaluation(value, gradients, statuses=statuses)


@dataclass(frozen=True, slots=True)
class _Term:
    """A distance of each example, and its gradients with respect to both maps."""

    value: Array
    by_given: Array
    by_truth: Array
    zero_norm: Array | None = None

    def plus(self, weight: float, other: "_Term") -> "_Term":
        return _Term(
            self.value + weight * other.value,
            self.by_given + weight * other.by_given,
            self.by_truth + weight * other.by_truth,
            self.zero_norm,
        )


@dataclass(frozen=True, slots=True)
class _Measure:
    """A distance of two maps, which grows by t^degree where maps are scaled by t."""

    degree: int
    apply: Callable[[Any, Array, Array], _Term]


def _measured(xp: Any, measure: _Measure, given: Array, truth: Array) -> _Term:
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
    value, slopes = again.value, (again.by_given, again.by_truth)
    for _ in range(measure.degree):
        value = value * scale
    for _ in range(measure.degree - 1):
        slopes = (slopes[0] * _each(scale), slopes[1] * _each(scale))
    found.value[lost], found.by_given[lost], found.by_truth[lost] = value, *slopes
    return found


def _squared(xp: Any, given: Array, truth: Array) -> _Term:
    del xp
    apart = given - truth
    count = _count(apart)
    slopes = apart * (2 / count)
    value = _sums(apart * apart) / count
    return _Term(value, slopes, -slopes)


def _euclidean(xp: Any, given: Array, truth: Array) -> _Term:
    apart = given - truth
    count = _count(apart)
    norm, direction = _polar(xp, apart)
    slopes = direction / count**0.5
    return _Term(norm / count**0.5, slopes, -slopes)


def _cosine(xp: Any, given: Array, truth: Array) -> _Term:
    left, right = (maps.reshape(len(maps), _count(maps)) for maps in (given, truth))
    found, dtype = cosines(xp, left, right), given.dtype
    by_left, by_right = (
        -slope.astype(dtype).reshape(given.shape) for slope in found.slopes()
    )  # fmt: skip
    return _Term(found.gap.astype(dtype), by_left, by_right, found.has_zero)


def _polar(xp: Any, vectors: Array) -> tuple[Array, Array]:
    """Returns the norm and direction of each example, without overflow; 0 has direction 0."""
    largest = abs(vectors).max(axis=(1, 2))
    scale = xp.where((largest > 0) & (largest < xp.inf), largest, 1)
    parts = vectors / _each(scale)
    norm = xp.sqrt(_sums(parts * parts))
    return scale * norm, parts / _each(xp.where(norm == 0, 1, norm))


def _style(xp: Any, given: Array, truth: Array) -> _Term:
    """Returns the squared distance of the Gram matrices.

    With d = x - y and s = x + y their difference is (d s' + s d') / 2, which keeps its digits where
    maps are close to each other.
    """
    count = _count(given)
    product = xp.matmul(given - truth, (given + truth).transpose(0, 2, 1))
    apart = (product + product.transpose(0, 2, 1)) / (2 * count)
    return _Term(
        _sums(apart * apart),
        xp.matmul(apart, given) * (4 / count),
        xp.matmul(apart, truth) * (-4 / count),
    )


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
