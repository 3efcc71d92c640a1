"""Scores of two sides, computed as the pointwise losses that a loss of two sides is made of.

Those of a side are computed by themselves, and those of pairs together: piece by piece, by kernels
where there are some.  What goes through the mean of the other side is added after that.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from lossd.backends import Backend, nonfinite_rows, round_into
from lossd.batch import Array, Batch, Operand
from lossd.checkpoints import Checkpoint
from lossd.kernels.host import TokenInput
from lossd.losses import Status
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


def _joined(found: Sequence[tuple[slice, Evaluated]], rows: int) -> Evaluated:
    """Returns the results of several ranges of rows, in their order, as one."""
    sums = np.concatenate([one.sums for _, one in found])
    if all(one.nonfinite is None for _, one in found):
        return Evaluated(sums, None)
    nonfinite = np.zeros(rows, np.bool_)
    for part, one in found:
        if one.nonfinite is not None:
            nonfinite[part] = one.nonfinite
    return Evaluated(sums, nonfinite)


# ------------------------------------------------------------------ each side by itself


def each_side(given: Sequence[SideScores]) -> Evaluator:
    """Returns the function that computes the scores of each side independently."""

    def evaluate(batch: Batch, buffers: Buffers, checkpoint: Checkpoint) -> Evaluated:
        found = []
        for one in given:
            own = {n: out for n, out in buffers.gradients.items() if n == one.name}
            places = Buffers(_values_of(buffers, one.part), own, {})
            part = one.batch(batch, batch.gradients)
            found.append((one.part, one.computed(part, batch, places, checkpoint)))
        return _joined(found, batch.rows)

    return evaluate


# ------------------------------------------------------------------ pairs


def pairs(scores: SideScores, backend: Backend, *, zero_nonfinite: bool) -> Evaluator:
    """Returns the function that computes pairs, whose two gradients are opposite."""

    def evaluate(batch: Batch, buffers: Buffers, checkpoint: Checkpoint) -> Evaluated:
        part = scores.batch(batch, scores.names[:1] if buffers.gradients else ())
        pair = _Opposites.of(scores.names, buffers.gradients)
        values = buffers.values
        is_widened = pair.are_rounded(part.operands[0].rows.dtype)
        if is_widened:
            part = _widened(part)
            pair = replace(pair, place=np.empty(part.operands[0].rows.shape, batch.dtype))
            if values is None and zero_nonfinite:
                values = np.empty(batch.rows, batch.dtype)
        places = {scores.name: pair.place} if buffers.gradients else {}
        found = scores.evaluate(part, Buffers(values, places, {}), checkpoint)
        flags = np.zeros(batch.rows, np.bool_) if found.nonfinite is None else found.nonfinite
        windows = list(_windows(*part.operands[0].rows.shape))

        def spread(index: int) -> None:
            checkpoint()
            pair.spread(windows[index], flags)

        if pair.are_to_spread:
            backend.side_by_side(len(windows), spread)
        if pair.second is not None and batch.plan.excluded is not None:
            pair.second[batch.plan.excluded] = 0
        found.nonfinite = flags if flags.any() else None
        if zero_nonfinite and is_widened and found.nonfinite is not None and values is not None:
            found.sums = _zeroed(batch, values, buffers, (scores,), flags)
        return found

    return evaluate


@dataclass(frozen=True, slots=True)
class _Opposites:
    """The gradients of pairs in the reply, None where one is not wanted.

    The first is computed in ``place``, which is that of either of them, unless they are rounded,
    once each, from what both come of.  The second is its negative.
    """

    first: Array | None
    second: Array | None
    place: Any  # None where neither is wanted

    @classmethod
    def of(cls, names: Sequence[str], gradients: Mapping[str, Any]) -> "_Opposites":
        """Returns those of two inputs, to be computed in one of them."""
        first, second = (gradients.get(name) for name in names)
        return cls(first, second, second if first is None else first)

    @property
    def are_to_spread(self) -> bool:
        """Whether any is to be written from its place."""
        return self.second is not None or self.first is not self.place

    def are_rounded(self, dtype: np.dtype[Any]) -> bool:
        """Returns whether one is of another type than their input."""
        return any(one is not None and one.dtype != dtype for one in (self.first, self.second))

    def spread(self, window: tuple[slice, slice], flags: Flags) -> None:
        """Writes a window of both, and flags the rows where a rounded one is not finite."""
        found = self.place[window]
        if self.second is not None and self.second.dtype == self.place.dtype:
            np.negative(found, out=self.second[window])
        elif self.second is not None:
            _round_scores(-found, self.second[window], flags[window[0]])
        if self.first is not None and self.first is not self.place:
            _round_scores(found, self.first[window], flags[window[0]])


def _round_scores(found: Array, out: Array, flags: Flags) -> None:
    """Writes scores, rounded, and flags the rows where one is not finite in the type of ``out``."""
    with np.errstate(all="ignore"):
        round_into(found, out)
    _flag_nonfinite(out, flags)


def _flag_nonfinite(scores: Array, flags: Flags) -> None:
    if not np.isfinite(scores).all():
        flags[nonfinite_rows(scores)] = True


def _widened(batch: Batch) -> Batch:
    """Returns the same with its first input in the type to compute in, which its gradient has."""
    first, *others = batch.operands
    wide = replace(first, rows=first.as_type(batch.dtype))
    return batch.filled((wide, *others), batch.plan)


def _windows(rows: int, length: int) -> Iterator[tuple[slice, slice]]:
    """Yields windows of all scores, none beyond them, whose bounds depend on the shape alone."""
    height, width = max(1, WINDOW_ELEMENTS // length), min(length, WINDOW_ELEMENTS)
    for start in range(0, rows, height):
        for first in range(0, length, width):
            yield slice(start, min(start + height, rows)), slice(first, min(first + width, length))


# ------------------------------------------------------------------ through the mean of the other


def with_means(given: Sequence[SideScores], backend: Backend, *, zero_nonfinite: bool) -> Evaluator:
    """Returns the function that compares scores with the mean of the other side.

    The mean is not held constant: a gradient has a term for what each score does to the other side.
    """

    def evaluate(batch: Batch, buffers: Buffers, checkpoint: Checkpoint) -> Evaluated:
        shares = {one.name: _shares(batch, one.part) for one in given}
        if any(share is None for share in shares.values()):
            return _undefined(batch, buffers)
        run = _Averaged(batch, given, buffers.gradients, backend, checkpoint, shares)
        values = buffers.values
        if values is None and zero_nonfinite:
            values = np.empty(batch.rows, batch.dtype)
        found, places = run.own_terms(values)
        if buffers.gradients:
            flags = np.zeros(batch.rows, np.bool_) if found.nonfinite is None else found.nonfinite
            run.add_terms_of_means(places, flags)
            found.nonfinite = flags if flags.any() else None
        if zero_nonfinite and found.nonfinite is not None and values is not None:
            found.sums = _zeroed(batch, values, buffers, given, found.nonfinite)
        return found

    return evaluate


def _shares(batch: Batch, part: slice) -> float | Floats | None:
    """Returns the share of an element of each example in the mean; None if no example has any.

    It is one number where all are alike.
    """
    plan, rows = batch.plan, part.stop - part.start
    if plan.weights is None and plan.excluded is None:
        return 1 / (rows * batch.length) if rows else None
    own = np.ones(rows) if plan.weights is None else plan.weights[part].copy()
    if plan.excluded is not None:
        own[plan.excluded[part]] = 0
    total = own.sum()
    if not total > 0:
        return None
    elements = total * batch.length
    shares: Floats = own / elements if elements < np.inf else own / total / batch.length
    return shares


def _undefined(batch: Batch, buffers: Buffers) -> Evaluated:
    """Returns the result without examples on one side, where there is no mean to compare with."""
    for array in (buffers.values, *buffers.gradients.values()):
        if array is not None:
            array[...] = 0
    statuses = np.full(batch.rows, int(Status.UNDEFINED), np.uint8)
    if batch.plan.excluded is not None:
        statuses[batch.plan.excluded] = 0
    return Evaluated(np.zeros(1), None, statuses)


@dataclass(frozen=True, slots=True)
class _Averaged:
    """The terms of a batch that go through its means, window by window.

    ``gradients`` are the places in the reply, and ``shares`` what ``_shares`` finds of each side.
    """

    batch: Batch
    sides: Sequence[SideScores]
    gradients: Mapping[str, Any]
    backend: Backend
    checkpoint: Checkpoint
    shares: Mapping[str, Any]

    def own_terms(self, values: Array | None) -> tuple[Evaluated, Mapping[str, Any]]:
        """Computes both sides with constant means; returns where their gradients are, too."""
        centres = {
            one.name: self.mean(self.batch.operand(one.name), one.part) for one in self.sides
        }
        found, places = [], {}
        for one, other in zip(self.sides, reversed(self.sides), strict=True):
            wanted = (one.name,) if self.gradients else ()
            part = one.batch(self.batch, wanted, centres[other.name])
            part, place = self.place(part, self.gradients.get(one.name))
            places[one.name] = place
            own = Buffers(None if values is None else values[one.part], {}, {})
            own.gradients = dict.fromkeys(wanted, place)
            found.append((one.part, one.computed(part, self.batch, own, self.checkpoint)))
        return _joined(found, self.batch.rows), places

    def add_terms_of_means(self, places: Mapping[str, Any], flags: Flags) -> None:
        """Writes the gradients with all their terms, and flags rows that are not finite."""
        sums = {name: self.sum(place) for name, place in places.items()}
        for one, other in zip(self.sides, reversed(self.sides), strict=True):
            if (out := self.gradients.get(one.name)) is not None:
                self.finish(places[one.name], sums[other.name], one, out, flags)

    def mean(self, operand: Operand, part: slice) -> float:
        """Returns the weighted mean of all scores of a side."""
        excluded, shares = self.batch.plan.excluded, self.shares[operand.name]
        if excluded is None and isinstance(shares, float):
            return self.sum(operand.rows) * shares

        def summed(window: tuple[slice, slice]) -> float:
            wide = operand.rows[window].astype(np.float64)
            if excluded is not None:
                wide[excluded[part][window[0]]] = 0
            if not isinstance(shares, float):
                wide *= shares[window[0], None]
            return float(wide.sum())

        total = self._sum(operand.rows, summed)
        return total * shares if isinstance(shares, float) else total

    def sum(self, array: Array) -> float:
        """Returns the sum of scores, or of a gradient."""
        kernel = self.backend.token_sums()
        if kernel is None:
            return self._sum(array, lambda window: float(array[window].sum(dtype=np.float64)))
        # The numbers of a window lie side by side, like the tokens of a sequence.
        windows = list(_windows(*array.shape))
        counts = np.array([(a.stop - a.start) * (b.stop - b.start) for a, b in windows], np.int64)
        given = TokenInput.of(array, None, is_by_sequence=False)
        starts, sums = np.cumsum(counts) - counts, np.zeros(len(windows))

        def add(index: int) -> None:
            self.checkpoint()
            kernel((given,), starts, counts, None, sums, slice(index, index + 1))

        return self._total(add, sums)

    def _sum(self, array: Array, summed: Any) -> float:
        windows = list(_windows(*array.shape))
        sums = np.zeros(len(windows))

        def add(index: int) -> None:
            self.checkpoint()
            with np.errstate(all="ignore"):
                sums[index] = summed(windows[index])

        return self._total(add, sums)

    def _total(self, add: Callable[[int], None], sums: Floats) -> float:
        self.backend.side_by_side(len(sums), add)
        with np.errstate(all="ignore"):
            return float(sums.sum())

    def place(self, part: Batch, out: Array | None) -> tuple[Batch, Any]:
        """Returns where a side's own terms go, in the type that is computed in, and its batch.

        That is their place in the reply if they need not be rounded before they are complete.
        """
        if not part.gradients:
            return part, None
        if not self.backend.in_cache:  # a device writes a gradient in the type of its input
            part = _widened(part)
        if out is not None and out.dtype == part.dtype:
            return part, out
        return part, np.empty(part.operands[0].rows.shape, part.dtype)

    def finish(
        self, place: Array, through_mean: float, scores: SideScores, out: Array, flags: Flags
    ) -> None:
        """Writes the gradient of a side with all its terms, and flags rows that are not finite."""
        shares, own = self.shares[scores.name], flags[scores.part]
        excluded = self.batch.plan.excluded
        hidden = None if excluded is None else excluded[scores.part]
        windows = list(_windows(*place.shape))
        is_plain = hidden is None and isinstance(shares, float) and out.dtype == place.dtype

        def terms(window: tuple[slice, slice]) -> Array:
            if isinstance(shares, float):
                lost = place.dtype.type(through_mean * shares)
            else:
                lost = (through_mean * shares[window[0]])[:, None]
            found: Array = place[window] - lost
            if hidden is not None:
                found[hidden[window[0]]] = 0
            return found

        def subtract(index: int) -> None:
            self.checkpoint()
            window = windows[index]
            with np.errstate(all="ignore"):
                if is_plain:
                    np.subtract(place[window], place.dtype.type(through_mean * shares), out[window])
                else:
                    round_into(terms(window), out[window])
            _flag_nonfinite(out[window], own[window[0]])

        self.backend.side_by_side(len(windows), subtract)


def _zeroed(
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
