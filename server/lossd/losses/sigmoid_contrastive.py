"""Sigmoid contrastive loss, that of SigLIP."""

import math
from typing import Annotated, Any

import numpy as np

from lossd.losses._body import BatchContext, BodyResult, Status
from lossd.losses._declare import Example, Shape, loss
from lossd.losses._inputs import Input
from lossd.losses._maths.constants import LOG_2
from lossd.losses._maths.masked_products import selected
from lossd.losses._maths.pairwise_similarities import (
    Temperature,
    Vectors,
    compare,
    scale,
    scaled_sum,
    unit_of,
)
from lossd.losses._maths.sigmoid import softplus
from lossd.schema import POSITIVE, Array, Differentiable, Interval

ANY = Interval(-math.inf, math.inf, low_open=True, high_open=True)


@loss(
    Shape.COUPLED,
    inputs=(
        Input("queries", "embeddings to find keys for", differentiable=Differentiable.BY_DEFAULT),
        Input("keys", "the key of each query", differentiable=Differentiable.BY_DEFAULT),
    ),
    examples=(
        # All similarities are 0, and all probabilities 1/2.
        Example(
            {"queries": [[1.0, 0.0], [1.0, 0.0]], "keys": [[0.0, 1.0], [0.0, 2.0]]},
            parameters={"temperature": 1.0, "bias": 0.0},
            value=2 * LOG_2,
            gradients={
                "queries": [[0.0, 0.0], [0.0, 0.0]],
                "keys": [[0.0, 0.0], [0.0, 0.0]],
                "bias": 0.0,
                "temperature": 0.0,
            },
        ),
        # softplus(-1) for the pair that belongs together: s / T + bias = 3/2 - 1/2.
        Example(
            {"queries": [[3.0]], "keys": [[1.0]]},
            parameters={"temperature": 2.0, "bias": -0.5, "normalize": False},
            value=0.31326168751822286,
            gradients={
                "queries": [[-0.2689414213699951 / 2]],
                "keys": [[-0.2689414213699951 * 3 / 2]],
                "bias": -0.2689414213699951,
                "temperature": 0.2689414213699951 * 3 / 4,
            },
        ),
    ),
)
def sigmoid_contrastive(
    xp: Any,
    queries: Array,
    keys: Array,
    batch: BatchContext,
    *,
    temperature: Annotated[float, POSITIVE, Differentiable.ON_REQUEST] = 0.1,
    bias: Annotated[float, ANY, Differentiable.ON_REQUEST] = -10.0,
    normalize: bool = True,
) -> BodyResult:
    """Binary cross-entropy of whether each key belongs to a query, summed over all keys.

        value = sum_j log(1 + exp(-z_ij s_ij)),  s_ij = q_i . k_j / temperature + bias,
                z_ij = 1 for i = j, -1 otherwise
        gradient = -z_ij sigmoid(-z_ij s_ij) k_j / temperature summed over j for a query and, for
                   each key, the same sum over all queries

    ``normalize`` gives all vectors the length 1; one of zeros is similar to nothing and has the
    status ZERO_NORM.

    Reference: X. Zhai et al., Sigmoid loss for language image pre-training, 2023, section 3.2;
    temperature is the inverse of the paper's t.
    """
    units = [1.0 if normalize else unit_of(xp, batch, given) for given in (queries, keys)]
    query, key = (
        Vectors(xp, given, batch, normalize=normalize, unit=unit)
        for given, unit in zip((queries, keys), units, strict=True)
    )
    dtype, heat = queries.dtype, Temperature(temperature, *units)
    pairs = _Pairs(xp, queries, heat, bias, batch)
    by_queries, by_keys = (xp.zeros(queries.shape, dtype) for _ in range(2))
    compare(
        xp,
        query.rows,
        key.rows,
        batch,
        pairs.to_derivatives,
        is_wide=heat.is_wide(dtype, query.reach() * key.reach(), bias),
        by_left=by_queries if "queries" in batch.wanted else None,
        by_right=by_keys if "keys" in batch.wanted else None,
    )
    return BodyResult(
        pairs.values,
        {
            "queries": lambda: query.back(by_queries, heat.of_derivatives(key.unit)),
            "keys": lambda: key.back(by_keys, heat.of_derivatives(query.unit)),
            "temperature": lambda: heat.derivative(scaled_sum(xp, pairs.by_temperature, batch)),
            "bias": lambda: scaled_sum(xp, pairs.by_bias, batch),
        },
        statuses=xp.where(query.is_zero | key.is_zero, int(Status.ZERO_NORM), 0),
    )


class _Pairs:
    """The costs of all pairs, summed for each query, and what they change by with parameters."""

    def __init__(
        self, xp: Any, queries: Array, heat: Temperature, bias: float, batch: BatchContext
    ) -> None:
        self._xp, self._heat, self._bias, self._batch = xp, heat, bias, batch
        count = len(queries)
        self.values = xp.zeros(count, queries.dtype)
        self.by_temperature, self.by_bias = xp.zeros(count), xp.zeros(count)

    def to_derivatives(self, scores: Array, own: slice) -> None:
        """Takes the similarities of some queries, and turns them into derivatives in place."""
        xp = self._xp
        diagonal = xp.arange(own.stop - own.start), xp.arange(own.start, own.stop)
        given = scores.copy() if "temperature" in self._batch.wanted else None
        scores /= scores.dtype.type(self._heat.divisor)
        scores += scores.dtype.type(self._bias)
        scores[diagonal] *= -1
        costs, scores[...] = softplus(xp, scores)
        self.values[own] = costs.sum(axis=-1)
        scores[diagonal] *= -1
        self.by_bias[own] = scores.sum(axis=-1, dtype=np.float64)
        if given is not None:
            products = selected(xp, scores, given)
            self.by_temperature[own] = products.sum(axis=-1, dtype=np.float64)
        scale(scores, self._batch.scales[own])
