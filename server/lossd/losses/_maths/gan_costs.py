"""Objectives of a critic and a generator, as costs of the critic's scores.

Each objective has a cost for a score that should be high, and one for a score that should be low.
The critic should give real examples high scores and generated ones low scores.
"""

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lossd.losses._body import BodyResult
from lossd.losses._declare import Sides
from lossd.losses._inputs import Input
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


def is_averaged(objective: GanObjective) -> bool:
    """Returns whether scores are compared with the mean of the other side."""
    return objective is GanObjective.RELATIVISTIC_AVERAGE


def real_cost(smoothing: float = 0.0) -> Cost:
    """Returns cross-entropy of a score whose target is 1 - smoothing."""

    def cost(xp: Any, scores: Array) -> tuple[Array, Array]:
        if not smoothing:
            value, derivative = softplus(xp, -scores)
            return value, -derivative
        shares = 1 - smoothing, smoothing, 2 * smoothing - 1
        positive, negative, apart = (xp.full_like(scores, share) for share in shares)
        parts = sigmoid_cost(xp, scores, positive, negative, apart=apart)
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
        derivative = (lacking > 0) * scores.dtype.type(-sign)
        is_nan = xp.isnan(lacking)
        if bool(is_nan.any()):
            derivative[is_nan] = np.nan
        return xp.clip(lacking, 0, np.inf), derivative

    return cost


def wasserstein(sign: int) -> Cost:
    """Returns the score times -sign: 1 to raise it, -1 to lower it."""

    def cost(xp: Any, scores: Array) -> tuple[Array, Array]:
        return -sign * scores, xp.where(xp.isnan(scores), scores, -sign)

    return cost


@dataclass(frozen=True, slots=True)
class ScoredSide:
    """The scores of one side with their cost, or what stands for them: their mean, or nothing."""

    name: str
    scores: Any
    cost: Cost


def costs(xp: Any, objective: GanObjective, *given: ScoredSide) -> BodyResult:
    """Returns costs, and derivatives with respect to the first of some sides that has scores.

    They are compared in float64: a difference or a mean that is rounded to float32 would be off by
    more than the cost of a confident score.
    """
    side = next(one for one in given if np.ndim(one.scores))
    scores = side.scores.astype(np.float64)
    if objective in (GanObjective.RELATIVISTIC, GanObjective.RELATIVISTIC_AVERAGE):
        (other,) = (one for one in given if one is not side)
        scores -= other.scores
    value, derivative = side.cost(xp, scores)
    dtype = side.scores.dtype
    return BodyResult(
        value.astype(dtype, copy=False), {side.name: derivative.astype(dtype, copy=False)}
    )
