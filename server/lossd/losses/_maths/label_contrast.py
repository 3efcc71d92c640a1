"""Contrast of embeddings by label: those of the same label are positives.

Losses differ in how they evaluate one row of similarities; the rest is here.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from lossd.losses._body import BatchContext, BodyResult, Gradient, Status
from lossd.losses._maths.pairwise_similarities import (
    Temperature,
    Vectors,
    compare,
    scale,
    scaled_sum,
    unit_of,
)
from lossd.schema import Array

# Takes ``xp``, the similarities of some rows, -inf for a row with itself, their divisor,
# which are positives, and how many: returns the values and turns the similarities, in place, into
# gradients with respect to their quotients.
Objective = Callable[[Any, Array, Any, Array, Array], Array]


def without_positive(embeddings: Array, labels: Array, **parameters: Any) -> Array:
    """Returns which examples are the only ones with their label."""
    del embeddings, parameters
    _, groups, counts = np.unique(labels, return_inverse=True, return_counts=True)
    alone: Array = counts[groups] == 1
    return alone


def contrast(
    xp: Any,
    embeddings: Array,
    labels: Array,
    batch: BatchContext,
    objective: Objective,
    *,
    temperature: float,
    normalize: bool,
) -> BodyResult:
    """Runs ``objective`` on all similarities, divided by the temperature, panel by panel."""
    unit = 1.0 if normalize else unit_of(xp, batch, embeddings)
    vectors = Vectors(xp, embeddings, batch, normalize=normalize, unit=unit)
    dtype, heat = embeddings.dtype, Temperature(temperature, unit, unit)
    anchors = _Anchors(xp, labels, heat, objective, batch, dtype=dtype)
    derivatives = xp.zeros(embeddings.shape, dtype)
    wanted = derivatives if "embeddings" in batch.wanted else None
    compare(
        xp,
        vectors.rows,
        vectors.rows,
        batch,
        anchors.to_derivatives,
        is_wide=heat.is_wide(dtype, vectors.reach() ** 2),
        by_left=wanted,
        by_right=wanted,
    )
    gradients: dict[str, Gradient] = {
        "embeddings": lambda: vectors.back(derivatives, heat.of_derivatives(unit)),
        "temperature": lambda: heat.derivative(scaled_sum(xp, anchors.by_temperature, batch)),
    }
    statuses = xp.where(vectors.is_zero, int(Status.ZERO_NORM), 0)
    return BodyResult(
        anchors.values,
        gradients,
        statuses=xp.where(anchors.are_alone, int(Status.NO_POSITIVE), statuses),
    )


class _Anchors:
    """The values of all examples, each contrasted with the others, and which have no positive."""

    def __init__(
        self,
        xp: Any,
        labels: Array,
        heat: Temperature,
        objective: Objective,
        batch: BatchContext,
        *,
        dtype: np.dtype[Any],
    ) -> None:
        self._xp, self._labels, self._heat = xp, labels, heat
        self._objective, self._batch = objective, batch
        self.values, self.by_temperature = xp.zeros(len(labels), dtype), xp.zeros(len(labels))
        self.are_alone = xp.zeros(len(labels), bool)

    def to_derivatives(self, scores: Array, own: slice) -> None:
        """Takes the similarities of some examples, and turns them into derivatives in place."""
        xp = self._xp
        diagonal = xp.arange(own.stop - own.start), xp.arange(own.start, own.stop)
        is_positive = self._labels[own, None] == self._labels
        is_positive[diagonal] = False
        scores[diagonal] = -xp.inf
        given = scores.copy() if "temperature" in self._batch.wanted else None
        number = is_positive.sum(axis=-1)
        self.are_alone[own] = number == 0
        divisor, number = scores.dtype.type(self._heat.divisor), xp.maximum(number, 1)
        number = number.astype(scores.dtype)
        self.values[own] = self._objective(xp, scores, divisor, is_positive, number)
        if given is not None:
            self.by_temperature[own] = _along(xp, scores, given)
        scale(scores, self._batch.scales[own])


def _along(xp: Any, derivatives: Array, scores: Array) -> Array:
    """Returns the sum of derivatives times similarities of each row; overwrites the latter.

    Derivatives of a row sum to 0, so that an offset of its similarities does not matter.
    """
    scores -= scores.max(axis=-1, keepdims=True)
    products: Array = xp.where(derivatives == 0, 0, derivatives * scores)
    return products.sum(axis=-1, dtype=np.float64)
