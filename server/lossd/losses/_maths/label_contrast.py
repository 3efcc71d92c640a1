"""Contrast of embeddings by label: those of the same label are positives.

Losses differ in how they evaluate one row of similarities; the rest is here.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from lossd.losses._body import BatchContext, BodyResult, Gradient, Status
from lossd.losses._maths.pairwise_similarities import Temperature, Vectors, compare, unit_of
from lossd.schema import Array

# Takes ``xp``, the similarities of some rows, -inf for a row with itself, their divisor,
# which are positives, and how many: returns the values and turns the similarities into gradients by
# their quotients, in place.
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
    dtype, count = embeddings.dtype, len(embeddings)
    heat = Temperature(temperature, unit, unit)
    values, by_temperature = xp.zeros(count, dtype), xp.zeros(count)
    is_alone = xp.zeros(count, bool)
    derivatives = xp.zeros(embeddings.shape, dtype)

    def to_derivatives(scores: Array, own: slice) -> None:
        diagonal = xp.arange(own.stop - own.start), xp.arange(own.start, own.stop)
        is_positive = labels[own, None] == labels
        is_positive[diagonal] = False
        scores[diagonal] = -xp.inf
        given = scores.copy() if "temperature" in batch.wanted else None
        number = is_positive.sum(axis=-1)
        is_alone[own] = number == 0
        divisor, number = scores.dtype.type(heat.divisor), xp.maximum(number, 1)
        values[own] = objective(xp, scores, divisor, is_positive, number.astype(scores.dtype))
        if given is not None:
            by_temperature[own] = _along(xp, scores, given)
        scales = batch.scales[own]
        scores *= scales[:, None].astype(scores.dtype)
        scores[scales == 0] = 0

    wanted = derivatives if "embeddings" in batch.wanted else None
    compare(
        xp,
        vectors.rows,
        vectors.rows,
        batch,
        to_derivatives,
        is_wide=heat.is_wide(dtype, vectors.reach() ** 2),
        by_left=wanted,
        by_right=wanted,
    )

    def derivative() -> float:
        total = xp.where(batch.scales == 0, 0, batch.scales * by_temperature).sum()
        return heat.derivative(float(total))

    gradients: dict[str, Gradient] = {
        "embeddings": lambda: vectors.back(derivatives, heat.of_derivatives(unit)),
        "temperature": derivative,
    }
    statuses = xp.where(vectors.is_zero, int(Status.ZERO_NORM), 0)
    return BodyResult(
        values, gradients, statuses=xp.where(is_alone, int(Status.NO_POSITIVE), statuses)
    )


def _along(xp: Any, derivatives: Array, scores: Array) -> Array:
    """Returns the sum of derivatives times similarities of each row; overwrites the latter.

    Derivatives of a row sum to 0, so that an offset of its similarities does not matter.
    """
    scores -= scores.max(axis=-1, keepdims=True)
    products: Array = xp.where(derivatives == 0, 0, derivatives * scores)
    return products.sum(axis=-1, dtype=np.float64)
