"""Soft F1 loss of a set."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lossd.losses._body import BatchContext, BodyResult, SoftCounts, Status
from lossd.losses._declare import Example, Shape, loss
from lossd.losses._inputs import DISTRIBUTION, Content, DistributionKind, Input
from lossd.losses._maths.constants import LOG_2
from lossd.losses._maths.masked_products import by_scale
from lossd.losses._maths.overlap import (
    FaintLoss,
    Index,
    IndexLoss,
    faint_bounds,
    faint_counts,
    faint_index,
    faint_scale,
    index_loss,
    is_faint,
)
from lossd.losses._maths.region_probabilities import RegionProbabilities, answer_shares, log_shares
from lossd.schema import UNIT, Array, Differentiable

F1 = Index(hits=2, alpha=1, beta=1, smooth=0)
# Elements that are computed together: their temporaries fit a cache, and threads share them.  What
# is compiled has none, and is called less often.
TILE, TILE_AT_ONCE, FUSED_TILE = 1 << 16, 1 << 24, 1 << 18
# Of so many examples and more, several pieces share sums, which are as many as labels.
EXAMPLES_A_SUM = 16


@loss(
    Shape.SETWISE,
    working_bytes=16,
    has_soft_counts=True,
    inputs=(
        DISTRIBUTION,
        Input(
            "targets",
            "whether each label is true of each example",
            content=Content.NUMBERS,
            differentiable=Differentiable.ON_REQUEST,
            domain=UNIT,
        ),
    ),
    examples=(
        Example(
            {"predictions": [0.5, 0.5], "targets": [1.0, 0.0]},
            parameters={"prediction_kind": DistributionKind.PROBABILITIES},
            value=1 / 2,
            gradients={"predictions": [-3 / 4, 1 / 4], "targets": [-1 / 4, -1 / 4]},
        ),
        Example(
            {"predictions": [0.0, 0.0], "targets": [1, 0]},
            value=1 / 2,
            gradients={"predictions": [-3 / 16, 1 / 16]},
        ),
        Example(
            {"predictions": [-LOG_2, -LOG_2], "targets": [1, 0]},
            parameters={"prediction_kind": DistributionKind.LOG_PROBABILITIES},
            value=1 / 2,
            gradients={"predictions": [-3 / 8, 1 / 8]},
        ),
        # The first label as above; the second has no false positive: 1 - 2/3.
        Example(
            {"predictions": [[0.5, 0.5], [0.5, 0.5]], "targets": [[1, 1], [0, 1]]},
            parameters={"prediction_kind": DistributionKind.PROBABILITIES},
            value=5 / 12,
            gradients={"predictions": [[-3 / 8, -2 / 9], [1 / 8, -2 / 9]]},
        ),
    ),
)
def soft_f1(
    xp: Any,
    predictions: Array,
    targets: Array,
    batch: BatchContext,
    *,
    prediction_kind: DistributionKind = DistributionKind.LOGITS,
) -> BodyResult:
    """One minus the F1 score of soft counts over all examples, averaged over the labels.

        value = mean over labels of 1 - 2 tp / (2 tp + fp + fn)
        tp = sum_i s_i p_i t_i,  fp = sum_i s_i p_i (1 - t_i),  fn = sum_i s_i (1 - p_i) t_i
        gradient = s_i ((1 - t_i) u - t_i (2 v + u)) p_i (1 - p_i) / (2 tp + fp + fn)
                   with respect to a logit, v the value of its label, u = 1 - v,
                   divided by the number of labels

    s are the weights of the examples.  A label whose counts are all 0 has no score: it is left out
    of the mean, and the whole has the status UNDEFINED.

    Reference: J. Pastor-Pellicer et al., F-measure as the error function to train neural networks,
    2013, section 3.
    """
    pieces = _CutBatch.of(xp, predictions, targets, batch, prediction_kind)
    fused = _Fused.of(xp, predictions, targets, batch, prediction_kind)
    tp, fp, fn = fused.counts() if fused else pieces.counts()
    labels = index_loss(xp, F1, tp, fp, fn)
    faint = is_faint(labels, predictions.dtype)
    defined, of_faint = tp + fp + fn != 0, None
    if len(predictions) and faint.any():
        of_faint = pieces.of_faint(faint)
        values = labels.value.copy()
        values[faint], defined[faint] = of_faint.loss.value, ~of_faint.loss.is_nothing
        labels = labels.without(xp, faint, values)
    number = max(int(defined.sum()), 1)
    scaled = labels.scaled(defined / number)

    def by_predictions() -> Array:
        found = fused.by_predictions(scaled) if fused and of_faint is None else None
        if found is not None:
            return found

        def slopes(part: _ExampleRows) -> Array:
            found = part.by_predictions(scaled)
            if of_faint is not None:
                found[faint] = of_faint.by_predictions(part) / number
            return found

        return pieces.derivatives("predictions", slopes)

    def by_targets() -> Array:
        def slopes(part: _ExampleRows) -> Array:
            found = part.by_targets(scaled)
            if of_faint is not None:
                found[faint] = of_faint.by_targets(part) / number
            return found

        return pieces.derivatives("targets", slopes)

    return BodyResult(
        xp.where(defined, labels.value, 0).sum() / number,
        {"predictions": by_predictions, "targets": by_targets},
        status=None if bool(defined.all()) else Status.UNDEFINED,
    )


def _slices(predictions: Array, tile: int) -> list[slice]:
    """Returns pieces of the examples, of about so many elements."""
    examples, count = predictions.shape
    step = max(1, tile // count)
    return [slice(start, min(start + step, examples)) for start in range(0, examples, step)]


def _summed(
    xp: Any, shape: tuple[int, int], pieces: int, batch: BatchContext, add: Callable[[int], Array]
) -> Array:
    """Returns the sum of what ``add`` gives for each piece, (numbers, labels) of float64.

    Sums of neighbouring pieces are added to the same numbers, in an order that the shape decides.
    """
    numbers, count, examples = *shape, len(batch.weights)
    groups = min(pieces, 1 + examples // EXAMPLES_A_SUM)
    found = xp.zeros((numbers, count, groups))

    def add_group(group: int) -> None:
        for index in range(pieces * group // groups, pieces * (group + 1) // groups):
            found[:, :, group] += add(index)

    batch.for_each(groups, add_group)
    return found.sum(axis=-1)


@dataclass(frozen=True, slots=True)
class _CutBatch:
    """All examples, in pieces that fit a cache; sums do not depend on which thread has which."""

    xp: Any
    predictions: Array
    targets: Array
    batch: BatchContext
    kind: DistributionKind
    slices: list[slice]

    @classmethod
    def of(
        cls,
        xp: Any,
        predictions: Array,
        targets: Array,
        batch: BatchContext,
        kind: DistributionKind,
    ) -> "_CutBatch":
        """Cuts a batch into pieces."""
        slices = _slices(predictions, TILE if batch.in_cache else TILE_AT_ONCE)
        return cls(xp, predictions, targets, batch, kind, slices)

    def counts(self) -> Array:
        """Returns the weighted tp, fp and fn of each label."""
        return self._summed(3, lambda part: self.xp.stack(part.counts()))

    def of_faint(self, faint: Array) -> "_Faint":
        """Returns the loss of labels whose probabilities are too small to be summed as numbers."""
        xp, labels = self.xp, int(faint.sum())
        bounds = xp.empty((2, labels, len(self.slices)))

        def bound(index: int) -> None:
            shares, true, false = self._part(index).faint(faint)
            bounds[:, :, index] = xp.stack(faint_bounds(xp, F1, shares, true, false))

        self.batch.for_each(len(self.slices), bound)
        largest, missed = bounds[0].max(axis=-1), bounds[1].sum(axis=-1)
        scale = faint_scale(xp, F1, largest, missed)

        def relative(part: _ExampleRows) -> Array:
            (logs, _), true, false = part.faint(faint)
            return xp.stack(faint_counts(xp, scale, logs, true, false))

        counts = self._summed(2, relative, labels)
        return _Faint(faint, faint_index(xp, F1, scale, missed, (counts[0], counts[1])))

    def _summed(
        self, numbers: int, add: "Callable[[_ExampleRows], Array]", labels: int | None = None
    ) -> Array:
        shape = numbers, self.predictions.shape[1] if labels is None else labels
        return _summed(
            self.xp, shape, len(self.slices), self.batch, lambda index: add(self._part(index))
        )

    def derivatives(self, name: str, slopes_of: "Callable[[_ExampleRows], Array]") -> Array:
        """Returns the derivatives of all examples, from those of each piece by label."""
        found = self.batch.places.get(name)
        if found is None:
            found = self.xp.empty(self.predictions.shape, self.predictions.dtype)

        def write(index: int) -> None:
            slopes = slopes_of(self._part(index)).T
            found[self.slices[index]] = by_scale(self.xp, self.batch.scales, slopes)

        self.batch.for_each(len(self.slices), write)
        return found

    def _part(self, index: int) -> "_ExampleRows":
        piece = self.slices[index]
        given, truth = (
            self.xp.ascontiguousarray(a[piece].T) for a in (self.predictions, self.targets)
        )
        return _ExampleRows(self.xp, given, truth, self.batch.weights[piece], self.kind)


@dataclass(frozen=True)
class _ExampleRows:
    """Some examples, one row for each label: sums along the last axis are fixed and accurate."""

    xp: Any
    given: Array
    truth: Array
    weights: Array
    kind: DistributionKind

    @functools.cached_property
    def shares(self) -> RegionProbabilities:
        """The probabilities of the answers."""
        return answer_shares(self.xp, self.given, self.kind)

    def counts(self) -> tuple[Array, Array, Array]:
        """Returns the weighted tp, fp and fn of each label, in float64 like the weights."""
        true = self.weights * self.truth
        false = self.weights * (1 - self.truth)
        inside, outside = self.shares.inside, self.shares.outside
        return (
            (inside * true).sum(axis=-1),
            (inside * false).sum(axis=-1),
            (outside * true).sum(axis=-1),
        )

    def by_predictions(self, labels: IndexLoss) -> Array:
        return self.shares.back(self.weights * labels.by_inside(self.truth))

    def by_targets(self, labels: IndexLoss) -> Array:
        return self.weights * labels.by_truth(self.shares.inside, self.shares.outside)

    def faint(self, labels: Array) -> tuple[tuple[Array, Array], Array, Array]:
        """Returns log p and 1 - p of some labels, with weighted t and 1 - t, in float64."""
        truth = self.truth[labels]
        shares = log_shares(self.xp, self.given[labels], self.kind, exclusive=False)
        return shares, self.weights * truth, self.weights * (1 - truth)


@dataclass(frozen=True, slots=True)
class _Fused:
    """The examples of logits, counted by what was compiled for it.

    Each p (1 - p) is kept in ``products``, where derivatives take its place.
    """

    soft_counts: SoftCounts
    predictions: Array
    targets: Array
    products: Array | None
    batch: BatchContext
    slices: list[slice]

    @classmethod
    def of(
        cls,
        xp: Any,
        predictions: Array,
        targets: Array,
        batch: BatchContext,
        kind: DistributionKind,
    ) -> "_Fused | None":
        """Counts logits, if there is something for it, which takes weights in their type."""
        if batch.soft_counts is None or kind is not DistributionKind.LOGITS:
            return None
        limit = np.finfo(predictions.dtype).max
        if batch.is_weighted and batch.weights.max(initial=0) > limit:
            return None
        given, truth = xp.ascontiguousarray(predictions), xp.ascontiguousarray(targets)
        products = None
        if "predictions" in batch.wanted:
            products = batch.places.get("predictions")
            products = xp.empty_like(given) if products is None else products
        return cls(batch.soft_counts, given, truth, products, batch, _slices(given, FUSED_TILE))

    def counts(self) -> Array:
        """Returns the weighted tp, fp and fn of each label."""

        def count(index: int) -> Array:
            piece = self.slices[index]
            products = None if self.products is None else self.products[piece]
            return self.soft_counts.count(
                self.predictions[piece], self.targets[piece], self._weights(piece), products
            )

        shape = 3, self.predictions.shape[1]
        return _summed(np, shape, len(self.slices), self.batch, count)

    def by_predictions(self, labels: IndexLoss) -> Array | None:
        """Returns the derivative; None where a factor of it is extreme for its type."""
        scale, products = float(self.batch.scales[0]), self.products
        factors = scale * (labels.by_tp - labels.by_fn), scale * labels.by_fp
        looked_at = list(factors)
        if self.batch.is_weighted:
            weights = self.batch.weights
            looked_at += [weights.min(initial=1), weights.max(initial=1)]
        if products is None or not scale or not all(map(self._is_moderate, looked_at)):
            return None
        by_true, by_false = (np.ascontiguousarray(f, products.dtype) for f in factors)

        def write(index: int) -> None:
            piece = self.slices[index]
            self.soft_counts.slope(
                self.targets[piece], self._weights(piece), (by_true, by_false), products[piece]
            )

        self.batch.for_each(len(self.slices), write)
        return products

    def _weights(self, piece: slice) -> Array | None:
        return self.batch.weights[piece] if self.batch.is_weighted else None

    def _is_moderate(self, factors: Array) -> bool:
        """Returns whether products of factors and shares neither vanish nor become infinite."""
        sizes, limits = abs(factors), np.finfo(self.predictions.dtype)
        low, high = limits.tiny**0.4, limits.max**0.4
        return bool(((sizes == 0) | ((sizes > low) & (sizes < high))).all())


@dataclass(frozen=True, slots=True)
class _Faint:
    """The labels whose probabilities are too small to be summed as numbers, and their loss."""

    labels: Array
    loss: FaintLoss

    def by_predictions(self, part: _ExampleRows) -> Array:
        """Returns derivatives of some examples."""
        given = part.given[self.labels]
        return answer_shares(part.xp, given, part.kind).spread(
            self.loss.by_inside(*part.faint(self.labels))
        )

    def by_targets(self, part: _ExampleRows) -> Array:
        """Returns derivatives of some examples."""
        shares, _, _ = part.faint(self.labels)
        return part.weights * self.loss.by_truth(shares)
