"""The threshold curve of binary scores, and the areas under it.

Sums along the curve do not depend on the order in which the scores came: without weights they are
integers, with weights the order of addition depends on the values alone.
"""

from dataclasses import dataclass

import numpy as np

from lossd.checkpoints import Checkpoint, never_stop
from lossd.evaluation._declare import Array, Floats
from lossd.evaluation._examples import Flags
from lossd.ordering import ascending

# Weights are below 2 to this power: a product of two sums of 2^50 of them is within float64.
_HIGH = 448


@dataclass(frozen=True, slots=True)
class Curve:
    """True and false positives at each distinct score, from the highest down.

    Both are integers where there are no weights.  With weights each of them is divided by a power
    of two, so that no product leaves the range of float64; ``tilt`` is how much more the power is
    of false positives.
    """

    true_positives: Array
    false_positives: Array
    tilt: int = 0

    @property
    def lacks(self) -> str:
        """Which of positives and negatives is missing, if any: an area needs both."""
        if not len(self.true_positives):
            return "there is no example"
        if self.true_positives[-1] == 0:
            return "targets hold no positive"
        if self.false_positives[-1] == 0:
            return "targets hold no negative"
        return ""

    def area(self) -> float:
        """Returns the area under the receiver operating characteristic; ties count half."""
        positives, negatives = self.true_positives[-1], self.false_positives[-1]
        widths = np.diff(self.false_positives, prepend=self.false_positives.dtype.type(0))
        heights = self.true_positives.copy()
        heights[1:] += self.true_positives[:-1]  # twice the mean height
        if widths.dtype == np.int64:
            return int(np.dot(widths, heights)) / (2 * int(positives) * int(negatives))
        # Of the same terms in the same order, so that no rounding makes more than the whole of it.
        return float((widths * heights).sum() / (widths * (2 * positives)).sum())

    def partial_area(self, max_fpr: float) -> float:
        """Returns the area up to a false positive rate, scaled to 0.5 for chance and 1 at best.

        Reference: D. K. McClish, Analyzing a portion of the ROC curve, 1989.
        """
        missed = np.concatenate([[1.0], 1 - self.true_positives / self.true_positives[-1]])
        false = np.concatenate([[0.0], self.false_positives / self.false_positives[-1]])
        stop = int(np.searchsorted(false, max_fpr, "right"))
        if stop < len(false):
            height = np.interp(max_fpr, false[stop - 1 : stop + 1], missed[stop - 1 : stop + 1])
            missed, false = np.append(missed[:stop], height), np.append(false[:stop], max_fpr)
        # What is above the curve: where that is nothing, no rounding makes the score differ from 1.
        above = float(np.trapezoid(missed, false))
        chance = 0.5 * max_fpr**2
        return 1 - 0.5 * above / (max_fpr - chance)

    def average_precision(self) -> float:
        """Returns the mean of the precision at each step of the recall."""
        found = self.true_positives
        steps = np.diff(found, prepend=found.dtype.type(0))
        risen = steps > 0
        false = self.false_positives[risen]
        if self.tilt:
            with np.errstate(over="ignore", under="ignore"):
                false = np.ldexp(false, self.tilt)  # where it overflows, the precision is 0
        precisions = found[risen] / (found[risen] + false)
        return float((steps[risen] * precisions).sum() / steps[risen].sum())


@dataclass(frozen=True, slots=True)
class ManyCurves:
    """The curves of several questions, a row each, with a point for each example.

    Of examples that tie all but the last have the point before them.  The numbers are those of
    ``Curve``, and ``tilts`` those of each row, where there are weights.
    """

    true_positives: Array
    false_positives: Array
    tilts: Array | None = None

    @property
    def lacks(self) -> list[str]:
        """The thing that each of them lacks, see ``Curve``."""
        without = self.false_positives[:, -1] == 0
        lacks = np.where(without, "targets hold no negative", "")
        lacks = np.where(self.true_positives[:, -1] == 0, "targets hold no positive", lacks)
        found: list[str] = lacks.tolist()
        return found

    def areas(self) -> Floats:
        """Returns the area under each, see ``Curve``; NaN where it lacks something."""
        yes, no = self.true_positives, self.false_positives
        heights = yes.copy()
        heights[:, 1:] += yes[:, :-1]
        widths = np.diff(no, axis=1, prepend=no.dtype.type(0))
        doubled = (widths * heights).sum(axis=1)
        # With weights of the same terms in the same order, see ``Curve.area``.
        whole = 2 * yes[:, -1]
        most = whole * no[:, -1] if self.tilts is None else (widths * whole[:, None]).sum(axis=1)
        with np.errstate(invalid="ignore"):
            areas: Floats = doubled / most
        return areas

    def average_precisions(self) -> Floats:
        """Returns the average precision of each, see ``Curve``; NaN where there is no positive."""
        yes, no = self.true_positives, self.false_positives
        steps = np.diff(yes, axis=1, prepend=yes.dtype.type(0))
        with np.errstate(invalid="ignore", over="ignore", under="ignore"):
            no = no if self.tilts is None else np.ldexp(no, self.tilts[:, None])
            precisions = np.divide(yes, yes + no, out=np.zeros(yes.shape), where=yes > 0)
            found: Floats = (steps * precisions).sum(axis=1) / steps.sum(axis=1)
        return found


def curves(scores: Array, positive: Flags, weights: Floats | None) -> ManyCurves:
    """Counts the examples at or above each score, along the last axis."""
    if weights is None:
        order = np.argsort(scores, axis=1)[:, ::-1]
    else:  # of examples that tie too, so that no sum depends on how they came
        heavy = np.broadcast_to(weights, scores.shape)
        order = np.lexsort((heavy, positive, scores), axis=1)[:, ::-1]
    ordered = np.take_along_axis(scores, order, axis=1)
    are_ends = np.ones(scores.shape, np.bool_)
    np.not_equal(ordered[:, 1:], ordered[:, :-1], out=are_ends[:, :-1])
    hits = np.take_along_axis(positive, order, axis=1)
    yes: Array
    no: Array
    if weights is None:
        yes = np.cumsum(hits, axis=1, dtype=np.int64)
        no = np.arange(1, scores.shape[1] + 1) - yes
        return ManyCurves(_at_ends(yes, are_ends), _at_ends(no, are_ends))
    heavy = weights[order]
    yes, powers = _scaled_rows(np.where(hits, heavy, 0))
    no, others = _scaled_rows(np.where(hits, 0, heavy))
    yes, no = (_at_ends(np.cumsum(one, axis=1), are_ends) for one in (yes, no))
    return ManyCurves(yes, no, others - powers)


def _at_ends(sums: Array, are_ends: Flags) -> Array:
    """Returns sums along a curve as they are at the last end of examples that tie."""
    found: Array = np.maximum.accumulate(np.where(are_ends, sums, 0), axis=1)
    return found


def _scaled_rows(weights: Floats) -> tuple[Floats, Array]:
    """Returns each row as ``scaled`` does."""
    powers: Array = np.frexp(weights.max(axis=1))[1] - _HIGH
    return np.ldexp(weights, -powers[:, None]), powers


def curve(
    scores: Array,
    positive: Flags,
    weights: Floats | None,
    checkpoint: Checkpoint = never_stop,
) -> Curve:
    """Counts the examples at or above each distinct score."""
    keys = (scores,) if weights is None else (weights, positive, scores)
    order = ascending(*keys, checkpoint=checkpoint)
    ordered, hits = scores[order][::-1], positive[order][::-1]
    checkpoint()
    ends = np.flatnonzero(
        np.append(ordered[1:] != ordered[:-1], np.ones(min(1, len(ordered)), bool))
    )
    if weights is None:
        # NumPy keeps the interpreter while it widens numbers one by one, on their way into sums.
        found = np.cumsum(hits.astype(np.int64))[ends]
        checkpoint()
        return Curve(found, ends + 1 - found)
    heavy = weights[order][::-1]
    checkpoint()
    yes, power = scaled(np.where(hits, heavy, 0))
    checkpoint()
    no, other_power = scaled(np.where(hits, 0, heavy))
    checkpoint()
    return Curve(np.cumsum(yes)[ends], np.cumsum(no)[ends], other_power - power)


def scaled(weights: Floats) -> tuple[Floats, int]:
    """Returns weights divided by a power of two, and the power.

    The largest are as large as their products may be, so that far smaller ones count too.
    """
    power = int(np.frexp(weights.max(initial=0))[1]) - _HIGH
    return np.ldexp(weights, -power), power
