"""Indices of overlap, counted softly: what Dice, Jaccard, Tversky and F1 have in common.

With p the predicted and t the true share of each element,

    tp = sum p t,   fp = sum p (1 - t),   fn = sum (1 - p) t
    index = (hits tp + smooth) / (hits tp + alpha fp + beta fn + smooth)

One less the index is (alpha fp + beta fn) over the same total.  In this form nothing cancels: a
prediction that is nearly right keeps the digits of its loss and of its gradient.
"""

import enum
from dataclasses import dataclass
from typing import Any

import numpy as np

from lossd.losses._declare import (
    PREDICTIONS,
    DistributionKind,
    Evaluation,
    Holds,
    Input,
    Status,
)
from lossd.losses._schema import UNIT, Array, Differentiable
from lossd.losses._shares import answer_shares, class_shares

INPUTS = (
    PREDICTIONS,
    Input(
        "targets",
        "the true share of each element, or its class where there is an axis of classes",
        holds=Holds.CLASSES,
        differentiable=Differentiable.ON_REQUEST,
        domain=UNIT,
    ),
)


class EmptyTarget(enum.Enum):
    """What an example without a target is worth."""

    SMOOTH = "what the formula says"
    SKIP = "nothing"


@dataclass(frozen=True, slots=True)
class Index:
    """The kind of an index: Dice is 2, 1, 1, Jaccard 1, 1, 1 and Tversky 1, alpha, beta."""

    hits: float
    alpha: float
    beta: float
    smooth: float


@dataclass(frozen=True, slots=True)
class IndexLoss:
    """One less an index, and its derivatives by tp, fp and fn; 0 where all counts are 0."""

    value: Array
    by_tp: Array
    by_fp: Array
    by_fn: Array

    def by_inside(self, truth: Array) -> Array:
        """The derivative by each p; the counts have one axis less than the elements."""
        slopes = truth * (self.by_tp - self.by_fn)[..., None]
        slopes += (1 - truth) * self.by_fp[..., None]
        return slopes

    def by_truth(self, inside: Array, outside: Array) -> Array:
        """The derivative by each t."""
        slopes = inside * (self.by_tp - self.by_fp)[..., None]
        slopes += outside * self.by_fn[..., None]
        return slopes

    def scaled(self, factor: Array) -> "IndexLoss":
        """All derivatives times a factor for each index."""
        return IndexLoss(self.value, *(s * factor for s in (self.by_tp, self.by_fp, self.by_fn)))


def index_loss(xp: Any, index: Index, tp: Array, fp: Array, fn: Array) -> IndexLoss:
    """The loss of counts."""
    right = index.hits * tp + index.smooth
    wrong = index.alpha * fp + index.beta * fn
    total = right + wrong
    nothing = total == 0
    total = xp.where(nothing, 1, total)
    value = wrong / total
    rest = xp.where(nothing, 0, right / total / total)
    return IndexLoss(value, -index.hits * value / total, index.alpha * rest, index.beta * rest)


def region_loss(
    xp: Any,
    predictions: Array,
    targets: Array,
    *,
    prediction_kind: DistributionKind,
    index: Index,
    empty_target: EmptyTarget,
    gamma: float = 1,
) -> Evaluation:
    """(1 - index)^gamma of each region, averaged over the classes where there are any."""
    has_classes = predictions.ndim == 3
    given = predictions if has_classes else predictions[:, None]
    shares = (class_shares if has_classes else answer_shares)(xp, given, prediction_kind)
    truth = _truth(xp, given, targets)
    inside, outside = shares.inside, shares.outside
    region = index_loss(
        xp,
        index,
        (inside * truth).sum(axis=-1),
        (inside * (1 - truth)).sum(axis=-1),
        (outside * truth).sum(axis=-1),
    )
    values, bend = _power(xp, region.value, gamma)
    parts, statuses = _parts(xp, truth, empty_target)
    slopes = region.scaled(bend * parts)
    return Evaluation(
        (values * parts).sum(axis=-1),
        {
            "predictions": lambda: shares.back(slopes.by_inside(truth)).reshape(predictions.shape),
            "targets": lambda: slopes.by_truth(inside, outside).reshape(predictions.shape),
        },
        statuses=statuses,
    )


def without_target(
    predictions: Array, targets: Array, *, empty_target: EmptyTarget, **_: Any
) -> Array:
    """Tells which examples are to be skipped; one that has class indices has a target."""
    if empty_target is not EmptyTarget.SKIP or targets.ndim < predictions.ndim:
        return np.zeros(len(targets), np.bool_)
    empty: Array = (targets == 0).all(axis=tuple(range(1, targets.ndim)))
    return empty


def _truth(xp: Any, given: Array, targets: Array) -> Array:
    """The true share of each element in each region."""
    if targets.dtype.kind == "f":
        return targets.reshape(given.shape)
    classes = xp.arange(given.shape[1])[:, None]
    return (targets[:, None, :] == classes).astype(given.dtype)


def _power(xp: Any, values: Array, gamma: float) -> tuple[Array, Array]:
    """values^gamma and its derivative, which is taken as 0 at 0 unless gamma is 1."""
    if gamma == 1:
        return values, xp.ones_like(values)
    powers = values**gamma
    return powers, xp.where(values == 0, 0, gamma * powers / xp.where(values == 0, 1, values))


def _parts(xp: Any, truth: Array, empty_target: EmptyTarget) -> tuple[Array, Array | None]:
    """The part of each class in the example's mean, and the statuses of examples without any."""
    examples, classes, _ = truth.shape
    if empty_target is EmptyTarget.SMOOTH:
        return xp.full((examples, classes), 1 / classes, truth.dtype), None
    present = (truth != 0).any(axis=-1)
    counts = present.sum(axis=-1)
    parts = present / xp.maximum(counts, 1)[:, None]
    statuses = xp.where(counts == 0, int(Status.EMPTY_TARGET), 0).astype(np.uint8)
    return parts.astype(truth.dtype), statuses
