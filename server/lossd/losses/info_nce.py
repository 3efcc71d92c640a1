"""InfoNCE: each query against its own key and other keys."""

from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np

from lossd.losses._body import BatchContext, BodyResult, Gradient, Status
from lossd.losses._declare import Example, Shape, loss
from lossd.losses._inputs import Axes, Content, Input
from lossd.losses._maths.constants import LOG_2
from lossd.losses._maths.pairwise_similarities import (
    Temperature,
    Vectors,
    compare,
    finite,
    for_each_block,
    times,
    unit_of,
)
from lossd.losses._maths.vectors import dots
from lossd.schema import POSITIVE, Array, Differentiable, ParameterError

UNITS = [[1.0, 0.0], [0.0, 1.0]]
SOFTPLUS_MINUS_1 = 0.31326168751822286  # log(1 + e^-1)
SHARE = 0.2689414213699951  # 1 / (1 + e)
VECTORS = {"queries", "keys", "negatives"}
EACH = 3  # axes of negatives that are not shared


@loss(
    Shape.COUPLED,
    inputs=(
        Input("queries", "embeddings to find keys for", differentiable=Differentiable.BY_DEFAULT),
        Input("keys", "the key of each query", differentiable=Differentiable.BY_DEFAULT),
        Input(
            "negatives",
            "keys of nobody, for all queries or for each",
            differentiable=Differentiable.BY_DEFAULT,
            axes=Axes.ROWS,
            is_optional=True,
        ),
        Input(
            "ids",
            "keys of the same id are not negatives of each other's queries",
            content=Content.LABELS,
            axes=Axes.EXAMPLES,
            is_optional=True,
        ),
    ),
    examples=(
        Example(
            {"queries": UNITS, "keys": UNITS},
            parameters={"temperature": 1.0},
            value=SOFTPLUS_MINUS_1,
            gradients={
                "queries": [[0.0, SHARE / 2], [SHARE / 2, 0.0]],
                "keys": [[0.0, SHARE / 2], [SHARE / 2, 0.0]],
                "temperature": SHARE,
            },
        ),
        # One query between its key and one other: a tie.
        Example(
            {"queries": [[1.0, 0.0]], "keys": [[0.0, 2.0]], "negatives": [[0.0, -2.0]]},
            parameters={"temperature": 2.0, "normalize": False},
            value=LOG_2,
            gradients={
                "queries": [[0.0, -1.0]],
                "keys": [[-0.25, 0.0]],
                "negatives": [[0.25, 0.0]],
            },
        ),
        # The only other key has the same id.
        Example(
            {"queries": UNITS, "keys": UNITS, "ids": [3, 3]},
            value=0.0,
            gradients={"queries": [[0.0, 0.0], [0.0, 0.0]]},
        ),
        Example(
            {"queries": UNITS, "keys": UNITS},
            parameters={"temperature": 1.0, "symmetric": True},
            value=SOFTPLUS_MINUS_1,
            gradients={"queries": [[0.0, SHARE / 2], [SHARE / 2, 0.0]]},
        ),
        Example(
            {"queries": UNITS, "keys": UNITS, "negatives": [[[0.0, 1.0]], [[1.0, 0.0]]]},
            parameters={"temperature": 1.0, "in_batch_negatives": False},
            value=SOFTPLUS_MINUS_1,
            gradients={"queries": [[0.0, SHARE / 2], [SHARE / 2, 0.0]]},
        ),
    ),
)
def info_nce(  # noqa: PLR0917 - the inputs of the loss
    xp: Any,
    queries: Array,
    keys: Array,
    negatives: Array | None,
    ids: Array | None,
    batch: BatchContext,
    *,
    temperature: Annotated[float, POSITIVE, Differentiable.ON_REQUEST] = 0.07,
    symmetric: bool = False,
    normalize: bool = True,
    in_batch_negatives: bool = True,
) -> BodyResult:
    """Cross-entropy of finding each query's own key among other keys by similarity.

        value = -s_ii + log(exp s_ii + sum_j exp s_ij),  s_ij = q_i . k_j / temperature
        gradient = (sum_j p_ij k_j - k_i) / temperature for a query, with p the softmax of s and,
                   for each key, the same sum over all queries that see it

    j runs over the negatives, and unless ``in_batch_negatives`` is false over the keys of other
    queries, except those with the same id.  ``symmetric`` takes the mean with the loss of finding
    each key's query, as CLIP does, and excludes negatives.  ``normalize`` gives all vectors the
    length 1; one of zeros is similar to nothing and has the status ZERO_NORM.  There is no epsilon
    in the logarithm.  The matrix of similarities is never held whole, only panels of at most 128
    MiB.

    Reference: A. van den Oord et al., Representation learning with contrastive predictive coding,
    2018, equation 4; symmetric: A. Radford et al., Learning transferable visual models from natural
    language supervision, 2021, figure 3.
    """
    _check_negatives(negatives, symmetric=symmetric, in_batch=in_batch_negatives)
    sides = [queries], [keys] if negatives is None else [keys, negatives]
    left, right = (1.0 if normalize else unit_of(xp, batch, *side) for side in sides)
    query = Vectors(xp, queries, batch, normalize=normalize, unit=left)
    key, *others = (
        Vectors(xp, given, batch, normalize=normalize, unit=right) for given in sides[1]
    )
    other = others[0] if others else None
    heat = Temperature(temperature, left, right)
    rivals = _Rivals(other, ids, in_batch_negatives, heat)
    if symmetric:
        halves = replace(batch, scales=batch.scales / 2)
        ways = [_Way(xp, query, key, rivals, halves), _Way(xp, key, query, rivals, halves)]
        values = (ways[0].values + ways[1].values) / 2
    else:
        ways = [_Way(xp, query, key, rivals, batch)]
        values = ways[0].values
    back = ways[1:]
    gradients: dict[str, Gradient] = {
        "queries": lambda: query.back(
            _total(ways[0].by_queries(), *(w.by_keys() for w in back)), heat.of_derivatives(right)
        ),
        "keys": lambda: key.back(
            _total(ways[0].by_keys(), *(w.by_queries() for w in back)), heat.of_derivatives(left)
        ),
        "temperature": lambda: heat.derivative(sum(way.by_difference() for way in ways)),
    }
    if other is not None:
        gradients["negatives"] = lambda: other.back(
            ways[0].by_negatives(), heat.of_derivatives(left)
        )
    is_zero = query.is_zero | key.is_zero
    if other is not None and other.rows.ndim == EACH:
        is_zero = is_zero | other.is_zero.any(axis=-1)
    return BodyResult(values, gradients, statuses=xp.where(is_zero, int(Status.ZERO_NORM), 0))


def _check_negatives(negatives: Array | None, *, symmetric: bool, in_batch: bool) -> None:
    if symmetric and negatives is not None:
        raise ParameterError("symmetric", "symmetric must be false with negatives, got true")
    if not in_batch and negatives is None:
        raise ParameterError(
            "in_batch_negatives", "in_batch_negatives must be true without negatives, got false"
        )


def _total(first: Array, *others: Array) -> Array:
    for other in others:
        first += other
    return first


@dataclass(frozen=True, slots=True)
class _Rivals:
    """The negatives of queries, and the temperature."""

    negatives: Vectors | None
    ids: Array | None
    are_in_batch: bool
    heat: Temperature


class _Way:
    """The loss of finding the key of each query: values, and gradients of the vectors compared.

    The gradients are those of similarities that have not been divided by the temperature yet.
    """

    def __init__(
        self, xp: Any, queries: Vectors, keys: Vectors, rivals: _Rivals, batch: BatchContext
    ) -> None:
        self._xp, self._ids, self._batch = xp, rivals.ids, batch
        self._divisor = rivals.heat.divisor
        self._count = len(queries.rows) if rivals.are_in_batch else 0
        self._queries, self._keys = queries.rows, keys.rows
        self._paired: Array | None = None
        columns, negatives = keys.rows[: self._count], rivals.negatives
        if negatives is not None and negatives.rows.ndim == EACH:
            self._paired = negatives.rows
        elif negatives is not None:
            columns = xp.concatenate((columns, negatives.rows))
        dtype, rows = queries.rows.dtype, len(queries.rows)
        self.values = xp.empty(rows, dtype)
        self._own_slopes = xp.empty(rows, dtype)  # for own keys that are not among the columns
        beside = 0 if self._paired is None else self._paired.shape[1]
        self._paired_slopes = xp.empty((rows, beside), dtype)
        self._by_difference = xp.zeros(rows)
        self._own = xp.empty(rows, dtype)  # rounded as the others are, so that equal ones tie
        self._beside = xp.empty((rows, beside), dtype)
        for_each_block(self._queries, slice(0, rows), batch, self._compare_own)
        self._by_left, self._by_right = (
            xp.zeros(queries.rows.shape, dtype),
            xp.zeros(columns.shape, dtype),
        )
        sides = queries, *(v for v in (keys, negatives) if v is not None)
        reach = queries.reach() * max(v.reach() for v in sides[1:])
        compare(
            xp,
            self._queries,
            columns,
            batch,
            self._turn,
            is_wide=rivals.heat.is_wide(dtype, reach),
            by_left=self._by_left if batch.wanted & {"queries", "keys"} else None,
            by_right=self._by_right if batch.wanted & VECTORS else None,
        )

    def _compare_own(self, queries: Array, rows: slice) -> None:
        """Computes similarities of queries with their own key and their own negatives."""
        self._own[rows] = dots(queries, self._keys[rows])
        if self._paired is not None and self._paired.shape[1]:
            self._beside[rows] = (self._paired[rows] @ queries[..., None])[..., 0]

    def _turn(self, scores: Array, rows: slice) -> None:
        """Computes a softmax for each row, over the own key and all others, in place.

        Scores become gradients.  The own key's share minus 1 is computed as the negative sum of the
        others' shares, so that queries that are sure of their key keep value and gradient.
        """
        xp, dtype = self._xp, scores.dtype
        own = self._own[rows]
        self._leave_out(scores, rows)
        highest = own = own.astype(dtype)
        if scores.shape[1]:
            highest = xp.maximum(own, scores.max(axis=-1))
        paired = None
        if self._beside.shape[1]:
            paired = self._beside[rows].astype(dtype)
            highest = xp.maximum(highest, paired.max(axis=-1))
        gap = own - highest
        behind = gap / dtype.type(self._divisor)
        rest, weighted = self._exponentials(scores, highest)
        if paired is not None:
            more, more_weighed = self._exponentials(paired, highest)
            rest, weighted = rest + more, weighted + more_weighed
        total = xp.exp(behind) + rest
        self.values[rows] = xp.where(behind == 0, xp.log1p(rest), xp.log(total) - behind)
        scales = self._batch.scales[rows]
        is_anchor = scales != 0
        share = (scales / total).astype(dtype)
        own_slopes = xp.where(is_anchor, -rest * share, 0)
        self._by_difference[rows] = xp.where(is_anchor, (weighted - gap * rest) / total * scales, 0)
        scores *= share[:, None]
        scores[~is_anchor] = 0
        if self._count:  # the own key is among the columns
            scores[self._own_places(rows)] = own_slopes
        else:
            self._own_slopes[rows] = own_slopes
        if paired is not None:
            paired *= share[:, None]
            paired[~is_anchor] = 0
            self._paired_slopes[rows] = paired

    def _leave_out(self, scores: Array, rows: slice) -> None:
        if not self._count:
            return
        xp = self._xp
        if self._ids is None:
            scores[self._own_places(rows)] = -xp.inf
        else:
            same = self._ids[rows, None] == self._ids
            scores[:, : self._count][same] = -xp.inf

    def _own_places(self, rows: slice) -> tuple[Array, Array]:
        own = self._xp.arange(rows.start, rows.stop)
        return own - rows.start, own

    def _exponentials(self, scores: Array, highest: Array) -> tuple[Array, Array]:
        """Turns scores into exponentials of their distance from the highest, in place.

        Returns their sums, and if wanted the sums of their products with that distance.
        """
        xp, divisor = self._xp, scores.dtype.type(self._divisor)
        scores -= highest[:, None]
        if "temperature" not in self._batch.wanted:
            scores /= divisor
            xp.exp(scores, out=scores)
            return scores.sum(axis=-1), xp.zeros(len(scores))
        behind = scores.copy()
        scores /= divisor
        xp.exp(scores, out=scores)
        products = xp.where(scores == 0, 0, scores * behind)
        return scores.sum(axis=-1), products.sum(axis=-1, dtype=np.float64)

    def by_queries(self) -> Array:
        """Returns the gradients with respect to the queries."""
        derivatives = self._by_left
        if not self._count:
            for_each_block(derivatives, slice(0, len(derivatives)), self._batch, self._add_keys)
        if self._paired is not None:
            # A softmax turns scores that are not finite into 0 or NaN, so only those are left.
            negatives = finite(self._xp, self._paired, self._batch).rows

            def add_negatives(derivatives: Array, rows: slice) -> None:
                derivatives += (self._paired_slopes[rows, None, :] @ negatives[rows])[:, 0]

            for_each_block(derivatives, slice(0, len(derivatives)), self._batch, add_negatives)
        return derivatives

    def _add_keys(self, derivatives: Array, rows: slice) -> None:
        derivatives += times(self._own_slopes[rows], self._keys[rows])

    def by_keys(self) -> Array:
        """Returns the gradients with respect to the keys."""
        if self._count:
            return self._by_right[: self._count]
        return self._products(self._own_slopes, self._queries)

    def by_negatives(self) -> Array:
        """Returns the gradients with respect to the negatives."""
        if self._paired is None:
            return self._by_right[self._count :]
        return self._products(self._paired_slopes, self._queries[:, None])

    def _products(self, derivatives: Array, queries: Array) -> Array:
        found = self._xp.empty(derivatives.shape + queries.shape[-1:], queries.dtype)

        def multiply(out: Array, rows: slice) -> None:
            out[...] = times(derivatives[rows], queries[rows])

        for_each_block(found, slice(0, len(found)), self._batch, multiply)
        return found

    def by_difference(self) -> float:
        """Returns the sum of the quotients' derivatives times differences of similarities."""
        return float(self._by_difference.sum())
