"""Divergences of two discrete distributions, and their derivatives, in float64.

A distribution is its probabilities and their logarithms; classes lie along the last axis.
"""

import enum
from dataclasses import dataclass
from typing import Any

import numpy as np

from lossd.losses._maths.masked_products import selected
from lossd.schema import Array


class DistillationDivergence(enum.Enum):
    """How far a student's distribution is from a teacher's."""

    FORWARD_KL = "KL of the student from the teacher: the mean under the teacher"
    REVERSE_KL = "KL of the teacher from the student: the mean under the student"
    JENSEN_SHANNON = "of both from beta T + (1 - beta) S, weighed by beta and 1 - beta"
    INTERPOLATED_JENSEN_SHANNON = "the same weighed by 1 - beta and beta, or KL at either end"


class DistillationSupport(enum.Enum):
    """Which classes the numbers of a token stand for."""

    WHOLE = "logits or log-probabilities of all classes there are, made to sum to 1"
    TAIL_BUCKET = "log-probabilities of some classes, with all others as one more"
    TRUNCATED = "log-probabilities of some classes, without the others"


@dataclass(frozen=True, slots=True)
class Distribution:
    """Probabilities of classes, and their logarithms."""

    shares: Array
    logs: Array


def normalized(xp: Any, logits: Array, temperature: float) -> Distribution:
    """Returns the softmax; of the logits themselves a quotient might be infinite."""
    logs = (logits - logits.max(axis=-1, keepdims=True)) / temperature
    logs = logs - xp.log(xp.exp(logs).sum(axis=-1, keepdims=True))
    return Distribution(xp.exp(logs), logs)


def with_rest(xp: Any, logs: Array, least: float) -> Distribution:
    """Returns the distribution of some classes; the last one is all others, at least ``least``."""
    shares = xp.exp(logs)
    rest = xp.maximum(1 - shares.sum(axis=-1, keepdims=True), least)
    return Distribution(
        xp.concatenate([shares, rest], axis=-1), xp.concatenate([logs, xp.log(rest)], axis=-1)
    )


def divergence(
    xp: Any, kind: DistillationDivergence, student: Distribution, teacher: Distribution, beta: float
) -> tuple[Array, Array]:
    """Returns the term of each class, and its derivative with respect to the student's log."""
    s, t = student.shares, teacher.shares
    if kind is DistillationDivergence.JENSEN_SHANNON:
        return _to_mixture(xp, student, teacher, beta, (beta, 1 - beta))
    if kind is DistillationDivergence.INTERPOLATED_JENSEN_SHANNON:
        if beta == 0:
            return _forward(xp, s, t, student, teacher)
        if beta == 1:
            return _reverse(xp, s, student, teacher)
        return _to_mixture(xp, student, teacher, beta, (1 - beta, beta))
    if kind is DistillationDivergence.FORWARD_KL:
        return _forward(xp, s, t, student, teacher)
    return _reverse(xp, s, student, teacher)


def slopes_to_infinity(xp: Any, shares: Array, impossible: Array) -> Array:
    """Returns the limits of shares times how far the logarithms are from their mean.

    The logarithms of ``impossible`` classes, which the other side holds impossible, grow beyond all
    bounds.  A class that has all of the shares cannot have more of them: its limit is 0.  Where
    several of them share it, there is none.
    """
    others = xp.where(impossible, 0, shares).sum(axis=-1)
    alone = xp.where(impossible.sum(axis=-1) == 1, 0.0, xp.nan)
    of_impossible = xp.where(others > 0, xp.inf, alone)[..., None]
    return xp.where(impossible, of_impossible, xp.where(shares == 0, 0, -xp.inf))


def _forward(
    xp: Any, s: Array, t: Array, student: Distribution, teacher: Distribution
) -> tuple[Array, Array]:
    del s
    return selected(xp, t, teacher.logs - student.logs), -t


def _reverse(
    xp: Any, s: Array, student: Distribution, teacher: Distribution
) -> tuple[Array, Array]:
    terms = selected(xp, s, student.logs - teacher.logs)
    return terms, terms + s


def _to_mixture(
    xp: Any,
    student: Distribution,
    teacher: Distribution,
    beta: float,
    weights: tuple[float, float],
) -> tuple[Array, Array]:
    """Returns the weighed divergences of both from their mixture, which moves with the student."""
    s, t = student.shares, teacher.shares
    own = 1 - beta
    mixture = beta * t + own * s
    # Where a share is tiny, its logarithm is known and that of the product is not.
    log_mixture = xp.logaddexp(_scaled(xp, teacher.logs, beta), _scaled(xp, student.logs, own))
    of_teacher = selected(xp, t, teacher.logs - log_mixture)
    of_student = selected(xp, s, student.logs - log_mixture)
    by_teacher, by_student = weights
    terms = _times(xp, by_teacher, of_teacher) + _times(xp, by_student, of_student)
    # Not times 1 / mixture, which may be infinite.
    part = xp.where(mixture > 0, s * own / xp.where(mixture > 0, mixture, 1), 0)
    derivative = _times(xp, by_student, of_student + s)
    derivative -= part * (by_teacher * t + by_student * s)
    return terms, derivative


def _scaled(xp: Any, logs: Array, factor: float) -> Array:
    return logs + np.log(factor) if factor else xp.full_like(logs, -np.inf)


def _times(xp: Any, weight: float, costs: Array) -> Array:
    return weight * costs if weight else xp.zeros_like(costs)
