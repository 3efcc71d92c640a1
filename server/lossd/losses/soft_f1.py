"""Soft F1 loss of a set."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lossd.losses._body import BatchContext, BodyResult, SoftCounts, Status
from lossd.losses._declare import Example, Shape, loss
from lossd.losses._inputs import DISTRIBUTION, Content, DistributionKind, Input
from lossd.losses._maths.masked_products import by_scale
from lossd.losses._maths.overlap import (
    FaintLoss,
    Index,
    IndexLoss,
    faint_loss,
    index_loss,
    is_faint,
)
from lossd.losses._maths.region_probabilities import RegionProbabilities, answer_shares, log_shares
from lossd.schema import UNIT, Array, Differentiable

LOG_2 = 0.6931471805599453
F1 = Index(hits=2, alpha=1, beta=1, smooth=0)
# Elements that are computed together: their temporaries fit a cache, and threads share them.
TILE, TILE_AT_ONCE = 1 << 16, 1 << 24


@loss(
    Shape.SETWISE,
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
    tp, fp, fn = pieces.counts(fused)
    labels = index_loss(xp, F1, tp, fp, fn)
    faint = is_faint(labels, predictions.dtype)
    defined, of_faint = tp + fp + fn != 0, None
    if len(predictions) and faint.any():
        given, truth = predictions[:, faint].T, targets[:, faint].T
        of_faint = _Faint.of(xp, given, truth, batch.weights, prediction_kind)
        values = labels.value.copy()
        values[faint], defined[faint] = of_faint.loss.value, ~of_faint.loss.is_nothing
        labels = labels.without(xp, faint, values)
    number = max(int(defined.sum()), 1)
    scaled = labels.scaled(defined / number)

    def gradient(
        slopes_of: Callable[[_Part, IndexLoss], Array], slopes_of_faint: Callable[[_Faint], Array]
    ) -> Array:
        derivatives = pieces.derivatives(lambda part: slopes_of(part, scaled))
        if of_faint is not None:
            derivatives[:, faint] = slopes_of_faint(of_faint).T / number
        return by_scale(xp, batch.scales, derivatives)

    def by_predictions() -> Array:
        found = fused and fused.by_predictions(scaled, pieces.slices)
        if found is None or of_faint is not None:
            return gradient(_Part.by_predictions, _Faint.by_predictions)
        return found

    return BodyResult(
        xp.where(defined, labels.value, 0).sum() / number,
        {
            "predictions": by_predictions,
            "targets": lambda: gradient(_Part.by_targets, _Faint.by_targets),
        },
        status=None if bool(defined.all()) else Status.UNDEFINED,
    )


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
        examples, count = predictions.shape
        step = max(1, (TILE if batch.in_cache else TILE_AT_ONCE) // count)
        slices = [slice(start, start + step) for start in range(0, examples, step)]
        return cls(xp, predictions, targets, batch, kind, slices)

    def counts(self, fused: "_Fused | None") -> Array:
        """Returns the weighted tp, fp and fn of each label."""
        found = self.xp.zeros((3, self.predictions.shape[1], len(self.slices)))

        def add(index: int) -> None:
            found[:, :, index] = (
                fused.counts(self.slices[index])
                if fused
                else self.xp.stack(self._part(index).counts())
            )

        self.batch.for_each(len(self.slices), add)
        return found.sum(axis=-1)

    def derivatives(self, slopes_of: "Callable[[_Part], Array]") -> Array:
        """Returns the derivatives of all examples, from those of each piece by label."""
        found = self.xp.empty(self.predictions.shape)

        def write(index: int) -> None:
            found[self.slices[index]] = slopes_of(self._part(index)).T

        self.batch.for_each(len(self.slices), write)
        return found

    def _part(self, index: int) -> "_Part":
        piece = self.slices[index]
        given, truth = (
            self.xp.ascontiguousarray(a[piece].T) for a in (self.predictions, self.targets)
        )
        shares = answer_shares(self.xp, given, self.kind)
        return _Part(shares, truth, self.batch.weights[piece])


@dataclass(frozen=True, slots=True)
class _Part:
    """Some examples, one row for each label: sums along the last axis are fixed and accurate."""

    shares: RegionProbabilities
    truth: Array
    weights: Array

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

    @classmethod
    def of(
        cls,
        xp: Any,
        predictions: Array,
        targets: Array,
        batch: BatchContext,
        kind: DistributionKind,
    ) -> "_Fused | None":
        """Counts logits, if there is something for it."""
        if batch.soft_counts is None or kind is not DistributionKind.LOGITS:
            return None
        given, truth = xp.ascontiguousarray(predictions), xp.ascontiguousarray(targets)
        products = xp.empty_like(given) if "predictions" in batch.wanted else None
        return cls(batch.soft_counts, given, truth, products, batch)

    def counts(self, piece: slice) -> Array:
        """Returns the weighted tp, fp and fn of each label."""
        products = None if self.products is None else self.products[piece]
        return self.soft_counts.count(
            self.predictions[piece], self.targets[piece], self._weights(piece), products
        )

    def by_predictions(self, labels: IndexLoss, pieces: Sequence[slice]) -> Array | None:
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
            piece = pieces[index]
            self.soft_counts.slope(
                self.targets[piece], self._weights(piece), (by_true, by_false), products[piece]
            )

        self.batch.for_each(len(pieces), write)
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
    """Labels, one row each, whose probabilities are too small to be summed as numbers."""

    shares: RegionProbabilities
    weights: Array
    loss: FaintLoss

    @classmethod
    def of(
        cls, xp: Any, given: Array, truth: Array, weights: Array, kind: DistributionKind
    ) -> "_Faint":
        """Counts them, one row for each label."""
        logs = log_shares(xp, given, kind, exclusive=False)
        true, false = weights * truth, weights * (1 - truth)
        loss = faint_loss(xp, F1, logs, true, false)
        return cls(answer_shares(xp, given, kind), weights, loss)

    def by_predictions(self) -> Array:
        return self.shares.spread(self.loss.by_log_inside)

    def by_targets(self) -> Array:
        return self.weights * self.loss.by_truth
