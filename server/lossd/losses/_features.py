"""How far feature maps are apart, layer by layer, for whoever has them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from lossd.losses._declare import Distance, Evaluation, Status
from lossd.losses._schema import Array


def apart(
    xp: Any,
    given: Sequence[Array],
    truth: Sequence[Array],
    *,
    layer_weights: Array,
    distance: Distance,
    style_weight: float,
) -> Evaluation:
    """Weighted sum over layers of the distance of maps (examples, channels, places)."""
    weights = layer_weights if len(layer_weights) else xp.ones(len(given), given[0].dtype)
    value = xp.zeros(len(given[0]), given[0].dtype)
    gradients: dict[str, Array] = {}
    zero_norm = xp.zeros(len(given[0]), bool)
    for layer, pair in enumerate(zip(given, truth, strict=True)):
        found = DISTANCES[distance](xp, *pair)
        if style_weight:
            found = found.plus(style_weight, _style(xp, *pair))
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
    """A distance of each example, and its slopes by both maps."""

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
    norms, directions = zip(_polar(xp, given), _polar(xp, truth), strict=True)
    likeness = _sums(directions[0] * directions[1])
    zero_norm = (norms[0] == 0) | (norms[1] == 0)

    def slopes(own: int) -> Array:
        norm = xp.where(zero_norm, 1, norms[own])
        across = _each(likeness) * directions[own] - directions[1 - own]
        return xp.where(_each(zero_norm), 0, across / _each(norm))

    return _Term(1 - likeness, slopes(0), slopes(1), zero_norm)


def _polar(xp: Any, vectors: Array) -> tuple[Array, Array]:
    """Norm and direction of each example, without overflow; the direction of 0 is 0."""
    largest = abs(vectors).max(axis=(1, 2))
    scale = xp.where((largest > 0) & (largest < xp.inf), largest, 1)
    parts = vectors / _each(scale)
    norm = xp.sqrt(_sums(parts * parts))
    return scale * norm, parts / _each(xp.where(norm == 0, 1, norm))


def _style(xp: Any, given: Array, truth: Array) -> _Term:
    """The squared distance of the Gram matrices."""
    grams = [xp.matmul(maps, maps.transpose(0, 2, 1)) / _count(maps) for maps in (given, truth)]
    apart = grams[0] - grams[1]
    return _Term(
        _sums(apart * apart),
        xp.matmul(apart, given) * (4 / _count(given)),
        xp.matmul(apart, truth) * (-4 / _count(truth)),
    )


def _count(maps: Array) -> int:
    """Elements of one example's map."""
    return int(maps.shape[1] * maps.shape[2])


def _sums(elements: Array) -> Array:
    """The sum of each example, along the last axis of C-contiguous memory."""
    return elements.reshape(len(elements), _count(elements)).sum(axis=-1)


def _each(numbers: Array) -> Array:
    """One number an example, to go with all elements of maps."""
    return numbers[:, None, None]


DISTANCES: Mapping[Distance, Callable[[Any, Array, Array], _Term]] = MappingProxyType(
    {
        Distance.SQUARED_EUCLIDEAN: _squared,
        Distance.EUCLIDEAN: _euclidean,
        Distance.COSINE: _cosine,
    }
)
