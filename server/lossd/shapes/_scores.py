"""Scores of two sides, computed as the pointwise losses that a loss of two sides is made of.

Those of a side are computed by themselves, piece by piece, by kernels where there are some;
``_pairs`` computes those of pairs together, and ``_other_means`` adds what goes through the mean of
the other side.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from lossd.backends import nonfinite_rows
from lossd.batch import Array, Batch
from lossd.checkpoints import Checkpoint
from lossd.reduction import Flags, Floats, RowPlan, block_sums
from lossd.shapes._blocks import block_rows
from lossd.shapes._shape import Buffers, Evaluated, Evaluator
from lossd.shapes.pointwise import PointwiseShape

POINTWISE = PointwiseShape()
# Scores that are looked at together: what is made of them in float64 fits a cache.
WINDOW_ELEMENTS = 1 << 17


@dataclass(slots=True)
class SidesPlan(RowPlan):
    """A plan of rows that all weigh the same, but for a factor of each side."""

    counts: Mapping[str, int]  # the rows of each side by its input, in their order

    @classmethod
    def of(cls, plan: RowPlan, counts: Mapping[str, int]) -> "SidesPlan":
        """Returns a plan whose sides have a mean each."""
        known: dict[str, Any] = {field.name: getattr(plan, field.name) for field in fields(RowPlan)}
        return cls(**known, counts=counts)

    def factor(self, name: str) -> float:
        """Returns what turns the mean over all rows into that over a side."""
        count = self.counts[name]
        return sum(self.counts.values()) / count if count else 0.0

    def row_weights(self) -> Floats:
        """See ``RowPlan.row_weights``."""
        return np.repeat(list(map(self.factor, self.counts)), list(self.counts.values()))


@dataclass(frozen=True, slots=True)
class SideScores:
    """The scores that a pointwise loss is of: the names of its inputs, and their examples."""

    names: tuple[str, ...]
    part: slice
    evaluate: Evaluator

    @property
    def name(self) -> str:
        """The input with respect to which there is a gradient."""
        return self.names[0]

    def batch(self, batch: Batch, gradients: Sequence[str], centre: float = 0.0) -> Batch:
        """Returns the batch of these scores; see ``scores_of``."""
        return scores_of(batch, self.names, self.part, gradients, centre)

    def computed(self, part: Batch, whole: Batch, places: Buffers, check: Checkpoint) -> Evaluated:
        """Computes a batch of these scores, of a whole one."""
        found = self.evaluate(part, places, check)
        with np.errstate(over="ignore"):  # a sum may be beyond float64
            found.sums = found.sums * _factor(whole.plan, self.name)
        return found


def scores_of(
    batch: Batch,
    names: tuple[str, ...],
    part: slice,
    gradients: Sequence[str],
    centre: float = 0.0,
) -> Batch:
    """Returns the batch of some inputs of a batch, ``centre`` being the mean of the other side."""
    operands = {operand.name: operand for operand in batch.operands}
    rows = part.stop - part.start
    return Batch(
        loss=batch.loss.pointwise[names],
        parameters={**batch.parameters, "centre": centre},
        operands=tuple(operands[name] for name in names),
        example_shape=(rows,),
        rows=rows,
        length=batch.length,
        dtype=batch.dtype,
        plan=_plan_of(batch.plan, part, _factor(batch.plan, names[0])),
        gradients=tuple(name for name in gradients if name == names[0]),
        outputs=(),
    )


def _factor(plan: RowPlan, name: str) -> float:
    """Returns what all values of a side are multiplied by."""
    return plan.factor(name) if isinstance(plan, SidesPlan) else 1.0


def _plan_of(plan: RowPlan, part: slice, factor: float) -> RowPlan:
    """Returns what is done to some of the rows."""
    scale = plan.gradient_scale
    return RowPlan(
        excluded=None if plan.excluded is None else plan.excluded[part],
        excluded_by_request=None,
        masked=None,
        weights=None if plan.weights is None else plan.weights[part],
        gradient_scale=factor * (scale if isinstance(scale, float) else scale[part]),
        divisor=plan.divisor,
        example_count=part.stop - part.start,
        ignored_count=0,
        weight_sum=plan.weight_sum,
    )


def _values_of(buffers: Buffers, part: slice) -> Array | None:
    return None if buffers.values is None else buffers.values[part]


def joined(found: Sequence[tuple[slice, Evaluated]], rows: int) -> Evaluated:
    """Returns the results of several ranges of rows, in their order, as one."""
    sums = np.concatenate([one.sums for _, one in found])
    if all(one.nonfinite is None for _, one in found):
        return Evaluated(sums, None)
    nonfinite = np.zeros(rows, np.bool_)
    for part, one in found:
        if one.nonfinite is not None:
            nonfinite[part] = one.nonfinite
    return Evaluated(sums, nonfinite)


def each_side(given: Sequence[SideScores]) -> Evaluator:
    """Returns the function that computes the scores of each side independently."""

    def evaluate(batch: Batch, buffers: Buffers, checkpoint: Checkpoint) -> Evaluated:
        found = []
        for one in given:
            own = {n: out for n, out in buffers.gradients.items() if n == one.name}
            places = Buffers(_values_of(buffers, one.part), own, {})
            part = one.batch(batch, batch.gradients)
            found.append((one.part, one.computed(part, batch, places, checkpoint)))
        return joined(found, batch.rows)

    return evaluate


def flag_nonfinite(scores: Array, flags: Flags) -> None:
    """Flags the rows where a score is not finite."""
    if not np.isfinite(scores).all():
        flags[nonfinite_rows(scores)] = True


def widened(batch: Batch) -> Batch:
    """Returns the same with its first input in the type to compute in, which its gradient has."""
    first, *others = batch.operands
    wide = replace(first, rows=first.as_type(batch.dtype))
    return batch.filled((wide, *others), batch.plan)


def windows_of(rows: int, length: int) -> list[tuple[slice, slice]]:
    """Returns windows of all scores, none beyond them, whose bounds depend on the shape alone."""
    height, width = max(1, WINDOW_ELEMENTS // length), min(length, WINDOW_ELEMENTS)
    return [
        (slice(start, min(start + height, rows)), slice(first, min(first + width, length)))
        for start in range(0, rows, height)
        for first in range(0, length, width)
    ]


def zeroed(
    batch: Batch, values: Array, buffers: Buffers, given: Sequence[SideScores], lost: Flags
) -> Floats:
    """Makes the rows that are not finite 0, and returns the sums of what is left."""
    values[lost] = 0
    sums = []
    for one in given:
        for name in one.names:
            if (out := buffers.gradients.get(name)) is not None:
                out[lost[one.part]] = 0
        weights = None if batch.plan.weights is None else batch.plan.weights[one.part]
        own = block_sums(values[one.part], weights, block_rows(batch.length))
        sums.append(own * _factor(batch.plan, one.name))
    return np.concatenate(sums)
