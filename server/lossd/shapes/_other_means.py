"""Scores of a side beside the mean of the other, which what they cost goes through, too."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lossd.backends import Backend, round_into
from lossd.batch import Array, Batch, Operand
from lossd.checkpoints import Checkpoint
from lossd.kernels.host import TokenInput
from lossd.losses import Status
from lossd.reduction import Flags, Floats
from lossd.shapes._scores import SideScores, flag_nonfinite, joined, widened, windows_of, zeroed
from lossd.shapes._shape import Buffers, Evaluated, Evaluator


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
            found.sums = zeroed(batch, values, buffers, given, found.nonfinite)
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
    with np.errstate(over="ignore"):  # which is divided by in two steps then
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
        return joined(found, self.batch.rows), places

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
        windows = windows_of(*array.shape)
        counts = np.array([(a.stop - a.start) * (b.stop - b.start) for a, b in windows], np.int64)
        given = TokenInput.of(array, None, is_by_sequence=False)
        starts, sums = np.cumsum(counts) - counts, np.zeros(len(windows))

        def add(index: int) -> None:
            self.checkpoint()
            kernel((given,), starts, counts, None, sums, slice(index, index + 1))

        return self._total(add, sums)

    def _sum(self, array: Array, summed: Any) -> float:
        windows = windows_of(*array.shape)
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
            part = widened(part)
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
        windows = windows_of(*place.shape)
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
            flag_nonfinite(out[window], own[window[0]])

        self.backend.side_by_side(len(windows), subtract)
