"""Soft indices of overlap: the mathematics that Dice, Jaccard, Tversky and F1 share.

With p the predicted and t the true share of each element,

    tp = sum p t,   fp = sum p (1 - t),   fn = sum (1 - p) t
    index = (hits tp + smooth) / (hits tp + alpha fp + beta fn + smooth)

One minus the index is (alpha fp + beta fn) over the same total.  In this form nothing cancels: the
loss and the gradient of a nearly right prediction keep their digits.

What is said of a whole region is of float64, so that only products with p and t have to fit the
type of the inputs.

Without smoothing and where all p are tiny, the total may be too small for its type, though every p
is a fair part of it.  Such a region is called faint, and is counted in logarithms; so is one whose
derivatives with respect to p are too large.
"""

import enum
from dataclasses import dataclass
from typing import Any

import numpy as np

from lossd.losses._body import BodyResult, Status
from lossd.losses._declare import CudaText
from lossd.losses._inputs import DISTRIBUTION, Content, DistributionKind, Input
from lossd.losses._maths.region_probabilities import (
    FaintSlopes,
    answer_shares,
    class_shares,
    finite_product,
    log_shares,
)
from lossd.schema import UNIT, Array, Differentiable

INPUTS = (
    DISTRIBUTION,
    Input(
        "targets",
        "the true share of each element, or its class where there is an axis of classes",
        content=Content.CLASSES,
        differentiable=Differentiable.ON_REQUEST,
        domain=UNIT,
    ),
)


class EmptyTarget(enum.Enum):
    """The value of an example without a target."""

    SMOOTH = "what the formula says"
    SKIP = "nothing"


# What predictions are, in the kernel of regions.
_KINDS = {
    DistributionKind.LOGITS: "OfLogits",
    DistributionKind.PROBABILITIES: "OfProbabilities",
    DistributionKind.LOG_PROBABILITIES: "OfLogs",
}


def overlap_texts(hits: int, alpha: str, beta: str, gamma: str = "1") -> tuple[CudaText, ...]:
    """Returns the texts of a loss of single regions and of classes, from its ``Index``."""
    index = f"Index{{{hits}, {alpha}, {beta}, smooth, {gamma}}}"
    of_regions = tuple(
        CudaText(
            f"value = overlap(region, {name}{{}}, {index});",
            when={
                "prediction_kind": kind,
                "class_axis": None,
                "empty_target": EmptyTarget.SMOOTH,
            },
            targets_are_classes=False,
        )
        for kind, name in _KINDS.items()
    )
    of_classes = f"value = overlap_of_classes(regions, prediction_kind, empty_target, {index});"
    return (
        *of_regions,
        CudaText(of_classes, targets_are_classes=True, has_class_axis=True),
        CudaText(
            of_classes,
            # Which examples have no target is only known of class indices: all have one.
            when={"empty_target": EmptyTarget.SMOOTH},
            targets_are_classes=False,
            has_class_axis=True,
        ),
    )


@dataclass(frozen=True, slots=True)
class Index:
    """The kind of an index: Dice is 2, 1, 1, Jaccard 1, 1, 1 and Tversky 1, alpha, beta."""

    hits: float
    alpha: float
    beta: float
    smooth: float

    def moderate(self) -> "Index":
        """Returns the same index with no factor above 1: only how they are to each other counts."""
        by = max(1, self.hits, self.alpha, self.beta, self.smooth)
        return Index(self.hits / by, self.alpha / by, self.beta / by, self.smooth / by)


@dataclass(frozen=True, slots=True)
class IndexLoss:
    """One minus an index, with derivatives with respect to the counts; 0 if all counts are 0."""

    value: Array
    total: Array
    by_tp: Array
    by_fp: Array
    by_fn: Array

    def by_inside(self, truth: Array) -> Array:
        """Returns the derivative with respect to each p; counts lack the axis of elements."""
        derivatives = truth * (self.by_tp - self.by_fn)[..., None]
        derivatives += (1 - truth) * self.by_fp[..., None]
        return derivatives

    def by_truth(self, inside: Array, outside: Array) -> Array:
        """Returns the derivative with respect to each t."""
        derivatives = inside * (self.by_tp - self.by_fp)[..., None]
        derivatives += outside * self.by_fn[..., None]
        return derivatives

    def scaled(self, factor: Array) -> "IndexLoss":
        """Returns the loss with all derivatives times a factor for each index."""
        by_counts = (derivative * factor for derivative in (self.by_tp, self.by_fp, self.by_fn))
        return IndexLoss(self.value, self.total, *by_counts)

    def fits(self, dtype: Any) -> Array:
        """Returns which derivatives a type can hold."""
        most = np.finfo(dtype).max
        by_p, by_t = self.by_tp - self.by_fn, self.by_tp - self.by_fp
        is_beyond = (abs(by_p) > most) | (abs(by_t) > most)
        return ~(is_beyond | (abs(self.by_fp) > most) | (abs(self.by_fn) > most))

    def of_type(self, dtype: Any) -> "IndexLoss":
        """Returns the loss in another type."""
        fields = (self.value, self.total, self.by_tp, self.by_fp, self.by_fn)
        return IndexLoss(*(field.astype(dtype) for field in fields))

    def without(self, xp: Any, faint: Array, values: Array) -> "IndexLoss":
        """Returns the loss with other values for the faint indices, and derivatives of 0."""
        by_counts = (xp.where(faint, 0, s) for s in (self.by_tp, self.by_fp, self.by_fn))
        return IndexLoss(xp.where(faint, values, self.value), self.total, *by_counts)


@dataclass(frozen=True, slots=True)
class FaintLoss:
    """One minus the index of faint regions; derivatives with respect to each p and each t.

    Everything is relative to exp of ``scale``, the largest term of the total, which is ``total``.
    """

    xp: Any
    index: Index
    value: Array
    hit: Array
    total: Array
    scale: Array
    is_nothing: Array  # where all counts are 0

    def by_inside(
        self, shares: tuple[Array, Array], true: Array, false: Array, factor: Array | float = 1
    ) -> FaintSlopes:
        """Returns the derivative with respect to each p, times a factor for each index."""
        by_hit = (self.index.hits * self.value + self.index.beta * self.hit) / self.total * factor
        by_extra = self.index.alpha * self.hit / self.total * factor
        xp = self.xp
        slopes = finite_product(xp, by_extra[..., None], false)
        slopes -= finite_product(xp, by_hit[..., None], true)
        return FaintSlopes(xp, slopes, self.scale[..., None], shares)

    def by_truth(self, shares: tuple[Array, Array]) -> Array:
        """Returns the derivative with respect to each t, without its weight."""
        logs, outside = shares
        by_missed = finite_product(
            self.xp, self.xp.exp(-self.scale) / self.total, self.index.beta * self.hit
        )
        by_hit = self.index.hits * self.value + self.index.alpha * self.hit
        return outside * by_missed[..., None] - finite_product(
            self.xp, self._inside(logs), by_hit[..., None]
        )

    def _inside(self, logs: Array) -> Array:
        inside = self.xp.exp(logs - self.scale[..., None])
        inside /= self.total[..., None]
        return inside


def is_faint(counted: IndexLoss, dtype: Any) -> Array:
    """Returns which totals have too few digits in the type that p was computed in."""
    return counted.total < np.finfo(dtype).tiny ** 0.75


def faint_bounds(
    xp: Any, index: Index, shares: tuple[Array, Array], true: Array, false: Array
) -> tuple[Array, Array]:
    """Returns the largest log p that counts, and what is missed.

    ``true`` and ``false`` are weighted t and 1 - t, of log p and 1 - p.
    """
    logs, outside = shares
    largest = xp.where(true + false > 0, logs, -xp.inf).max(axis=-1)
    return largest, index.beta * (outside * true).sum(axis=-1)


def faint_scale(xp: Any, index: Index, largest: Array, missed: Array) -> Array:
    """Returns the logarithm of the largest term of the total, 0 if there is none."""
    scale = xp.maximum(largest, xp.log(xp.maximum(missed, index.smooth)))
    return xp.where(scale > -xp.inf, scale, 0)


def faint_counts(
    xp: Any, scale: Array, logs: Array, true: Array, false: Array
) -> tuple[Array, Array]:
    """Returns true and false positives, relative to exp of a scale."""
    inside = xp.exp(logs - scale[..., None])
    return (inside * true).sum(axis=-1), (inside * false).sum(axis=-1)


def faint_index(
    xp: Any, index: Index, scale: Array, missed: Array, counts: tuple[Array, Array]
) -> FaintLoss:
    """Returns the loss from its counts."""
    shrunk = xp.exp(-scale)
    right = index.hits * counts[0] + finite_product(xp, shrunk, index.smooth)
    wrong = index.alpha * counts[1] + finite_product(xp, shrunk, missed)
    total = right + wrong
    nothing = total == 0
    total = xp.where(nothing, 1, total)
    return FaintLoss(xp, index, wrong / total, right / total, total, scale, nothing)


def faint_loss(
    xp: Any, index: Index, shares: tuple[Array, Array], true: Array, false: Array
) -> FaintLoss:
    """Computes the loss from log p and 1 - p; ``true`` and ``false`` are weighted t and 1 - t."""
    largest, missed = faint_bounds(xp, index, shares, true, false)
    scale = faint_scale(xp, index, largest, missed)
    return faint_index(xp, index, scale, missed, faint_counts(xp, scale, shares[0], true, false))


def index_loss(xp: Any, index: Index, tp: Array, fp: Array, fn: Array) -> IndexLoss:
    """Returns the loss from its counts."""
    right = index.hits * tp + index.smooth
    wrong = index.alpha * fp + index.beta * fn
    total = right + wrong
    nothing = total == 0
    divisor = xp.where(nothing, 1, total)
    value = wrong / divisor
    hit = xp.where(nothing, 0, right / divisor)
    by_tp, by_fp, by_fn = (
        factor / divisor for factor in (-index.hits * value, index.alpha * hit, index.beta * hit)
    )
    return IndexLoss(value, total, by_tp, by_fp, by_fn)


@dataclass(frozen=True, slots=True)
class _FaintRegions:
    """Which regions of each example are faint, and the loss of all of them counted so."""

    which: Array
    loss: FaintLoss
    shares: tuple[Array, Array]  # log p and 1 - p

    def by_inside(self, bend: Array, truth: Array) -> FaintSlopes:
        """Returns the derivative with respect to each p, 0 in other regions."""
        return self.loss.by_inside(
            self.shares, truth, 1 - truth, self.loss.xp.where(self.which, bend, 0)
        )

    def by_truth(self, bend: Array) -> Array:
        """Returns the derivative with respect to each t, 0 in other regions."""
        bent = self.loss.by_truth(self.shares) * bend[..., None]
        return self.loss.xp.where(self.which[..., None], bent, 0)

    def added(self, gradient: Array, more: Array) -> Array:
        """Returns a gradient with more added to it in examples that have a faint region."""
        has_any = self.which.any(axis=-1)[:, None, None]
        return self.loss.xp.where(has_any, (gradient + more).astype(gradient.dtype), gradient)


def _faint_regions(
    xp: Any,
    given: Array,
    kind: DistributionKind,
    index: Index,
    counted: tuple[IndexLoss, Array],
    *,
    gamma: float,
    exclusive: bool,
) -> _FaintRegions | None:
    """Returns the faint ones among regions whose loss and true shares are known, None if none."""
    region, truth = counted
    _, bend = _power(xp, region.value, gamma)
    which = is_faint(region, given.dtype) | ~region.scaled(bend).fits(given.dtype)
    if not which.any():
        return None
    shares = log_shares(xp, given, kind, exclusive=exclusive)
    return _FaintRegions(which, faint_loss(xp, index, shares, truth, 1 - truth), shares)


def region_loss(
    xp: Any,
    predictions: Array,
    targets: Array,
    *,
    prediction_kind: DistributionKind,
    index: Index,
    empty_target: EmptyTarget,
    gamma: float = 1,
) -> BodyResult:
    """Computes (1 - index)^gamma of each region, averaged over the classes if any."""
    has_classes = predictions.ndim == 3
    given = predictions if has_classes else predictions[:, None]
    shares = (class_shares if has_classes else answer_shares)(xp, given, prediction_kind)
    truth = _truth(xp, given, targets)
    index = index.moderate()
    inside, outside = shares.inside, shares.outside
    region = index_loss(
        xp,
        index,
        _count(inside * truth),
        _count(inside * (1 - truth)),
        _count(outside * truth),
    )
    faint = _faint_regions(
        xp, given, prediction_kind, index, (region, truth), gamma=gamma, exclusive=has_classes
    )
    if faint is not None:
        region = region.without(xp, faint.which, faint.loss.value)
    values, bend = _power(xp, region.value, gamma)
    parts, statuses = _parts(xp, truth, empty_target)
    bend *= parts
    derivatives = region.scaled(bend).of_type(given.dtype)

    def by_predictions() -> Array:
        gradient = shares.back(derivatives.by_inside(truth))
        if faint is not None:
            gradient = faint.added(gradient, shares.spread(faint.by_inside(bend, truth)))
        return gradient.reshape(predictions.shape)

    def by_targets() -> Array:
        gradient = derivatives.by_truth(inside, outside)
        if faint is not None:
            gradient = faint.added(gradient, faint.by_truth(bend))
        return gradient.reshape(predictions.shape)

    return BodyResult(
        (values * parts).sum(axis=-1).astype(given.dtype),
        {"predictions": by_predictions, "targets": by_targets},
        statuses=statuses,
    )


def without_target(predictions: Array, targets: Array, **_: Any) -> Array:
    """Returns which examples to skip; one with class indices always has a target."""
    if targets.ndim < predictions.ndim:
        return np.zeros(len(targets), np.bool_)
    empty: Array = (targets == 0).all(axis=tuple(range(1, targets.ndim)))
    return empty


def _count(shares: Array) -> Array:
    """Returns the sum of each region's shares, in float64."""
    return shares.sum(axis=-1).astype(np.float64)


def _truth(xp: Any, given: Array, targets: Array) -> Array:
    """Returns the true share of each element in each region."""
    if targets.dtype.kind == "f":
        return targets.reshape(given.shape)
    classes = xp.arange(given.shape[1])[:, None]
    return (targets[:, None, :] == classes).astype(given.dtype)


def _power(xp: Any, values: Array, gamma: float) -> tuple[Array, Array]:
    """Returns values^gamma and its derivative, which is taken as 0 at 0 unless gamma is 1."""
    if gamma == 1:
        return values, xp.ones_like(values)
    # Not from the power, which may vanish where its derivative does not.
    bend = gamma * xp.where(values == 0, 1, values) ** (gamma - 1)
    return values**gamma, xp.where(values == 0, 0, bend)


def _parts(xp: Any, truth: Array, empty_target: EmptyTarget) -> tuple[Array, Array | None]:
    """Returns each class's part in the example's mean, and the statuses of empty examples."""
    examples, classes, _ = truth.shape
    if empty_target is EmptyTarget.SMOOTH:
        return xp.full((examples, classes), 1 / classes), None
    present = (truth != 0).any(axis=-1)
    counts = present.sum(axis=-1)
    parts = present / xp.maximum(counts, 1)[:, None]
    statuses = xp.where(counts == 0, int(Status.EMPTY_TARGET), 0).astype(np.uint8)
    return parts, statuses
