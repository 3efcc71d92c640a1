"""Objectives of a critic and a generator, as costs of the critic's scores.

Each objective has a cost for a score that should be high, and one for a score that should be low.
The critic should give real examples high scores and generated ones low scores.
"""

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lossd.losses._body import BatchContext, BodyResult, Status
from lossd.losses._declare import Sides
from lossd.losses._inputs import Input
from lossd.losses._maths.masked_products import selected
from lossd.losses._maths.sigmoid import sigmoid_cost, softplus
from lossd.schema import Array, Differentiable

# Scores in, their cost and its derivative out.
Cost = Callable[[Any, Array], tuple[Array, Array]]

REAL = Input(
    "real", "the critic's scores of real examples", differentiable=Differentiable.BY_DEFAULT
)
FAKE = Input(
    "fake", "the critic's scores of generated examples", differentiable=Differentiable.BY_DEFAULT
)


class GanObjective(enum.Enum):
    """The objectives of a generator and a critic."""

    MINIMAX = "cross-entropy, of which the generator loses what the critic wins"
    NON_SATURATING = "cross-entropy, with the generator's own target"
    LEAST_SQUARES = "half the squared distance to 1 or 0"
    HINGE = "hinge of the critic's margin"
    WASSERSTEIN = "difference of the mean scores"
    RELATIVISTIC = "cross-entropy of the differences of pairs"
    RELATIVISTIC_AVERAGE = "cross-entropy of the differences to the other side's mean"


def sides(objective: GanObjective, *, alone: bool) -> Sides:
    """Returns which examples an objective takes; ``alone`` for a generator, without real ones."""
    if objective is GanObjective.RELATIVISTIC:
        return Sides.PAIRS
    is_alone = alone and objective is not GanObjective.RELATIVISTIC_AVERAGE
    return Sides.FAKE if is_alone else Sides.BOTH


# ------------------------------------------------------------------ costs of a score


def real_cost(smoothing: float = 0.0) -> Cost:
    """Returns cross-entropy of a score whose target is 1 - smoothing."""

    def cost(xp: Any, scores: Array) -> tuple[Array, Array]:
        shares = (xp.full_like(scores, share) for share in (1 - smoothing, smoothing))
        parts = sigmoid_cost(xp, scores, *shares)
        return parts.value, parts.derivative(xp)

    return cost


def fake_cost(xp: Any, scores: Array) -> tuple[Array, Array]:
    """Returns cross-entropy of a score whose target is 0."""
    return softplus(xp, scores)


def minimax(xp: Any, scores: Array) -> tuple[Array, Array]:
    """Returns the negative of the critic's cost, the generator's cost in the minimax game."""
    value, derivative = softplus(xp, scores)
    return -value, -derivative


def least_squares(target: float, smoothing: float = 0.0) -> Cost:
    """Returns half the squared distance to a target minus the smoothing."""

    def cost(xp: Any, scores: Array) -> tuple[Array, Array]:
        del xp
        # The larger is subtracted first: a tiny smoothing would be lost in 1 minus it, and so would
        # a tiny score in its difference to 1.
        is_small = smoothing < 0.5
        distance = scores - (target if is_small else target - smoothing)
        if is_small:
            distance += smoothing
        return distance * distance / 2, distance

    return cost


def hinge(sign: int) -> Cost:
    """Returns the hinge max(0, 1 - sign * score), whose derivative is 0 at the kink."""

    def cost(xp: Any, scores: Array) -> tuple[Array, Array]:
        lacking = 1 - sign * scores
        derivative = xp.where(lacking > 0, -sign, 0).astype(scores.dtype)
        return xp.maximum(lacking, 0), xp.where(xp.isnan(lacking), lacking, derivative)

    return cost


def wasserstein(sign: int) -> Cost:
    """Returns the score times -sign: 1 to raise it, -1 to lower it."""

    def cost(xp: Any, scores: Array) -> tuple[Array, Array]:
        return -sign * scores, xp.full_like(scores, -sign) + 0 * scores

    return cost


# ------------------------------------------------------------------ real and generated examples


@dataclass(frozen=True, slots=True)
class ScoredSide:
    """The scores of one side, (examples, elements), and their cost.

    They are compared in float64: a difference or a mean that is rounded to float32 would be off by
    more than the cost of a confident score.
    """

    name: str
    scores: Array
    cost: Cost

    @classmethod
    def of(cls, name: str, scores: Array, cost: Cost) -> "ScoredSide":
        """Returns one side with its scores in float64."""
        return cls(name, scores.astype(np.float64), cost)


def _mean(xp: Any, elements: Array) -> Array:
    return xp.add.reduce(elements, axis=-1) / elements.shape[1] if xp is np else elements.mean(-1)


def per_side(xp: Any, given: tuple[ScoredSide, ...], batch: BatchContext) -> BodyResult:
    """Returns the costs of each side's scores, independently."""
    values, gradients = [], {}
    for side in given:
        elements, derivatives = side.cost(xp, side.scores)
        values.append(_mean(xp, elements))
        gradients[side.name] = _scaled(xp, derivatives, batch.of(side.name).scales)
    return BodyResult(xp.concatenate(values), gradients)


def relativistic(xp: Any, high: ScoredSide, low: ScoredSide, batch: BatchContext) -> BodyResult:
    """Returns the costs of the differences of the two scores of each pair."""
    elements, derivatives = high.cost(xp, high.scores - low.scores)
    gradient = _scaled(xp, derivatives, batch.of(high.name).scales)
    return BodyResult(_mean(xp, elements), {high.name: gradient, low.name: -gradient})


def relativistic_average(
    xp: Any, given: tuple[ScoredSide, ScoredSide], batch: BatchContext
) -> BodyResult:
    """Returns the costs of the differences to the other side's mean, which is not held constant."""
    first, second = given
    if not all(bool(batch.of(side.name).weights.sum() > 0) for side in given):
        return _undefined(xp, given)
    values, gradients, mean_gradients = [], {}, {}
    for side, other in ((first, second), (second, first)):
        centre = (other.scores * _shares(other, batch)).sum().astype(other.scores.dtype)
        elements, derivatives = side.cost(xp, side.scores - centre)
        values.append(_mean(xp, elements))
        gradients[side.name] = _scaled(xp, derivatives, batch.of(side.name).scales)
        mean_gradients[other.name] = gradients[side.name].sum()
    return BodyResult(
        xp.concatenate(values),
        {
            side.name: gradients[side.name] - mean_gradients[side.name] * _shares(side, batch)
            for side in given
        },
    )


def _shares(side: ScoredSide, batch: BatchContext) -> Array:
    """Returns the share of an element of each example in the weighted mean, (examples, 1)."""
    weights = batch.of(side.name).weights
    return (weights / (weights.sum() * side.scores.shape[1]))[:, None]


def _undefined(xp: Any, given: tuple[ScoredSide, ScoredSide]) -> BodyResult:
    """Returns the result without examples on one side, where there is no mean to compare with."""
    rows = sum(len(side.scores) for side in given)
    return BodyResult(
        xp.zeros(rows, given[0].scores.dtype),
        {side.name: xp.zeros_like(side.scores) for side in given},
        statuses=xp.full(rows, int(Status.UNDEFINED), np.uint8),
    )


def _scaled(xp: Any, derivatives: Array, cotangents: Array) -> Array:
    """Returns gradients with respect to each element of an example whose value is a mean."""
    return selected(xp, (cotangents / derivatives.shape[1])[:, None], derivatives)
