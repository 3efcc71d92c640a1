"""Distance between feature maps."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Annotated, Any

import numpy as np

from lossd.losses._declare import (
    PREDICTIONS,
    REGRESSION_TARGETS,
    Distance,
    Evaluation,
    Example,
    Shape,
    Status,
    loss,
)
from lossd.losses._schema import NONNEGATIVE, Array, Vector


@loss(
    Shape.FEATURES,
    inputs=(
        replace(
            PREDICTIONS,
            description="feature maps of what the model says, one a layer",
            is_list=True,
        ),
        replace(
            REGRESSION_TARGETS,
            description="feature maps of what it should have said",
            is_list=True,
        ),
    ),
    examples=(
        Example(
            {"predictions": [[3.0, 0.0]], "targets": [[0.0, 4.0]]},
            value=12.5,
            gradients={"predictions": [[3.0, -4.0]], "targets": [[-3.0, 4.0]]},
        ),
        Example(
            {"predictions": [[3.0, 0.0]], "targets": [[0.0, 4.0]]},
            parameters={"distance": Distance.EUCLIDEAN, "layer_weights": (2.0,)},
            value=10 / 2**0.5,
            gradients={"predictions": [[1.2 / 2**0.5, -1.6 / 2**0.5]]},
        ),
        Example(
            {"predictions": [[3.0, 0.0]], "targets": [[0.0, 4.0]]},
            parameters={"distance": Distance.COSINE},
            value=1.0,
            gradients={"predictions": [[0.0, -1 / 3]], "targets": [[-0.25, 0.0]]},
        ),
        # One channel of two places: Gram matrices of 2^2 / 2 and 0.
        Example(
            {"predictions": [[[2.0, 0.0]]], "targets": [[[0.0, 0.0]]]},
            parameters={"style_weight": 1.0},
            value=2.0 + 4.0,
            gradients={"predictions": [[[2.0 + 8.0, 0.0]]], "targets": [[[-2.0, 0.0]]]},
        ),
    ),
)
def feature_matching(
    xp: Any,
    *maps: Array,
    layer_weights: Annotated[Vector, NONNEGATIVE] = (),
    distance: Distance = Distance.SQUARED_EUCLIDEAN,
    style_weight: Annotated[float, NONNEGATIVE] = 0.0,
) -> Evaluation:
    """Weighted sum over layers of how far two feature maps, and perhaps their styles, are apart.

        value = sum_l w_l (d(x_l, y_l) + s |G(x_l) - G(y_l)|^2),  s = style_weight
        d(x, y) = |x - y|^2 / n      SQUARED_EUCLIDEAN, n elements of a map
                  |x - y| / sqrt n   EUCLIDEAN
                  1 - cos(x, y)      COSINE, of the whole map
        G(x) = x x' / n, of the channels of a map (channels, places)
        gradient = w_l (2 (x - y) / n + 4 s (G(x) - G(y)) x / n)   SQUARED_EUCLIDEAN

    The maps are computed by the caller, and the gradients are by the maps.  Axis 1 of a map counts
    channels, the others behind it places.  Where two maps are equal the subgradient of the
    Euclidean distance is 0.  A map that is 0 everywhere has the cosine 0 with all others and
    gradient 0, and its example has the status ZERO_NORM.

    Reference: L. A. Gatys et al., A neural algorithm of artistic style, 2015; J. Johnson et al.,
    Perceptual losses, 2016, section 3.2; for critics: T. Salimans et al., 2016, section 3.1.
    """
    layers = len(maps) // 2
    weights = layer_weights if len(layer_weights) else xp.ones(layers, maps[0].dtype)
    value = xp.zeros(len(maps[0]), maps[0].dtype)
    gradients: dict[str, Array] = {}
    zero_norm = xp.zeros(len(maps[0]), bool)
    for layer in range(layers):
        found = DISTANCES[distance](xp, maps[layer], maps[layers + layer])
        if style_weight:
            found = found.plus(style_weight, _style(xp, maps[layer], maps[layers + layer]))
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
