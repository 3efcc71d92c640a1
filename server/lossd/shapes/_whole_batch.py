"""Shapes whose examples are computed together: one contract for all bodies that see a whole batch.

A body is given the examples that are present, and a ``BatchContext`` after its inputs.  It returns
the value of each, or one value of all, and the gradients of the sum of all values times their
scales.  Here its results are written to the positions of the examples; those that are absent, or
have no part in the sum, are exactly 0.
"""

import abc
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd.backends import Backend, round_into
from lossd.batch import Array, Batch, Layout, Operand, check_domains, check_rules
from lossd.checkpoints import Checkpoint
from lossd.losses import BatchContext, BodyResult, Loss, Output, Status
from lossd.reduction import Flags, Floats, RowPlan, block_sums
from lossd.shapes._blocks import BLOCK_ELEMENTS, block_rows
from lossd.shapes._memory import largest
from lossd.shapes._pieces import side_by_side
from lossd.shapes._shape import Buffers, Evaluated, Evaluator, ShapeRules
from lossd.shapes._soft_counts import WatchedCounts

Indices = npt.NDArray[np.intp]


class WholeBatch(ShapeRules):
    """A shape whose examples are compared with each other, or have one value together."""

    working_bytes = 160  # of an element in float32, unless the loss says otherwise

    def working(
        self, loss: Loss, layout: Layout, parameters: Mapping[str, Any], workers: int
    ) -> int:
        """See ``ShapeRules.working``: what is made of all elements."""
        del parameters, workers
        elements = largest([slot.rows_shape for slot in layout.slots])
        return elements * (loss.working_bytes or self.working_bytes)

    @abc.abstractmethod
    def hidden(self, plan: RowPlan) -> Flags | None:
        """Returns the examples that a body does not see, all excluded; None for none."""

    def scales(self, batch: Batch, present: "Present") -> Floats:
        """Returns the factor of each value's gradient in all gradients; 0 for excluded examples."""
        scales = np.full(batch.rows, batch.plan.gradient_scale)
        if batch.plan.excluded is not None:
            scales[batch.plan.excluded] = 0
        return present.of(scales)

    def check_rules(self, batch: Batch) -> None:
        """See ``ShapeRules.check_rules``."""
        scales = self.scales(batch, Present(batch, None))
        check_rules(batch, BatchContext(np.zeros(0), scales))

    def evaluator(self, template: Batch, backend: Backend, *, zero_nonfinite: bool) -> Evaluator:
        """See ``ShapeRules.evaluator``."""
        del template

        def evaluate(batch: Batch, buffers: Buffers, checkpoint: Checkpoint) -> Evaluated:
            present = Present(batch, self.hidden(batch.plan))
            counts = _counts(batch, backend)
            watched = counts if present.are_all else None
            if watched is None:
                check_domains(batch)
            context = BatchContext(
                weights=present.of(_weights(batch)),
                scales=self.scales(batch, present),
                wanted=frozenset(batch.gradients),
                for_each=side_by_side(backend, checkpoint),
                in_cache=backend.in_cache,
                is_weighted=batch.plan.weights is not None,
                soft_counts=counts,
                places=_places(batch, buffers, present) if backend.in_cache else {},
                checkpoint=checkpoint,
            )
            inputs = []
            for declared in batch.loss.inputs:
                checkpoint()  # widening is as much work as computing a piece
                inputs.append(present.rows(batch.find(declared.name), widen=backend.in_cache))
            checkpoint()
            found = _computed(batch, backend, inputs, context)
            if watched is not None and not watched.has_checked(batch):
                check_domains(batch)
            with np.errstate(all="ignore"):
                results = _Results(batch, buffers, present, checkpoint, counts)
                return results.written(found, zero_nonfinite=zero_nonfinite)

        return evaluate


def _weights(batch: Batch) -> Floats:
    """Returns the weight of each example."""
    weights = batch.plan.weights
    if weights is None:  # one number stands for all, without memory for each
        return np.broadcast_to(1.0, batch.rows)
    return weights


def _counts(batch: Batch, backend: Backend) -> WatchedCounts | None:
    """Returns what counts for a body and looks at its targets, if there is anything."""
    kernel = backend.soft_counts(batch.dtype) if batch.loss.has_soft_counts else None
    return None if kernel is None else WatchedCounts(kernel, batch.loss.inputs[-1].domain)


def _places(batch: Batch, buffers: Buffers, present: "Present") -> dict[str, Array]:
    """Returns the places in the reply that a body may write to itself: nothing is moved there."""
    return {
        name: out
        for name, out in buffers.gradients.items()
        if out.dtype == batch.dtype and out.flags.aligned and present.are_all
    }


def _computed(
    batch: Batch, backend: Backend, inputs: Sequence[Array | None], context: BatchContext
) -> BodyResult:
    """Runs the body, and brings everything that will be read back to the host.

    What is stored in 16 bits goes to a device and comes back like that.
    """
    place, fetch = backend.place, backend.fetch
    operands = [batch.find(declared.name) for declared in batch.loss.inputs]
    types = [None if o is None else o.compute_type(batch.dtype) for o in operands]
    sent = {o.name: o.rows.dtype for o in batch.operands}
    with backend.session(), np.errstate(all="ignore"):
        found = batch.loss.body(
            backend.xp,
            *(
                None if array is None else place(array, dtype)
                for array, dtype in zip(inputs, types, strict=True)
            ),
            replace(context, weights=place(context.weights), scales=place(context.scales)),
            **batch.parameters,
        )
        return BodyResult(
            value=fetch(found.value),
            gradients={
                name: fetch(found.gradient(name), sent.get(name)) for name in batch.gradients
            },
            outputs={name: fetch(output) for name, output in found.outputs.items()},
            statuses=None if found.statuses is None else fetch(found.statuses),
            status=found.status,
        )


class Present:
    """The examples that a body sees."""

    def __init__(self, batch: Batch, hidden: Flags | None) -> None:
        self._batch = batch
        self._kept = None if hidden is None else ~hidden  # None for all

    @property
    def are_all(self) -> bool:
        """Whether a body sees all examples."""
        return self._kept is None

    def of(self, numbers: Array) -> Array:
        """Returns the numbers of these examples, from one number for each example."""
        return numbers if self._kept is None else numbers[self._kept]

    def rows(self, operand: Operand | None, *, widen: bool) -> Array | None:
        """Returns the rows of these examples, in the type to compute in, or as they were sent."""
        if operand is None:
            return None
        rows = operand.as_type(self._batch.dtype if widen else operand.rows.dtype)
        if self._kept is None or not operand.slot.is_by_example:
            return rows
        return rows[self._kept]

    def places(self) -> Indices | None:
        """Returns the positions of these examples; None where all are present."""
        return None if self._kept is None else np.flatnonzero(self._kept)

    def spread(self, found: Array, dtype: npt.DTypeLike) -> Array:
        """Returns one number for each example from those of the present ones; 0 for the others."""
        numbers = np.zeros(self._batch.rows, dtype)
        numbers[... if self._kept is None else self._kept] = found
        return numbers


@dataclass(frozen=True, slots=True)
class _Results:
    """The results of a body, which are to be written to the positions of the examples."""

    batch: Batch
    buffers: Buffers
    present: Present
    checkpoint: Checkpoint
    counts: WatchedCounts | None

    def written(self, found: BodyResult, *, zero_nonfinite: bool) -> Evaluated:
        """Fills the buffers and sums the values; there may be only one for all examples."""
        plan, is_each = self.batch.plan, self.batch.loss.shape.has_values
        values = self._values(found.value) if is_each else np.array([found.value], np.float64)
        wrong = ~np.isfinite(values)
        nonfinite, is_sound = self._spread_gradients(found)
        if is_each:
            nonfinite = wrong if nonfinite is None else nonfinite | wrong
        if zero_nonfinite and (nonfinite is not None or wrong.any() or not is_sound):
            values[nonfinite if is_each else wrong] = 0
            of_rows = np.zeros(self.batch.rows, np.bool_) if nonfinite is None else nonfinite
            self._zero_gradients(of_rows | wrong)  # a common value flags all
        if self.buffers.values is not None:
            self.buffers.values[:] = values
        for output in self.batch.outputs:
            self._spread_output(output, found.outputs[output.name])
            for lost in (plan.excluded, nonfinite if zero_nonfinite else None):
                if lost is not None:
                    self.buffers.outputs[output.name][lost] = _nothing(output)
        is_lost = not is_sound or (not is_each and wrong.any())
        return Evaluated(
            sums=block_sums(
                values, plan.weights if is_each else None, block_rows(self.batch.length)
            ),
            nonfinite=nonfinite,
            statuses=None
            if found.statuses is None
            else self.present.spread(found.statuses, np.uint8),
            status=Status.NONFINITE if is_lost else found.status,
        )

    def _values(self, found: Array) -> Array:
        values = self.present.spread(found, self.batch.dtype)
        if self.batch.plan.excluded is not None:
            values[self.batch.plan.excluded] = 0
        return values

    def _is_by_example(self, name: str) -> bool:
        """Returns whether a gradient belongs to examples, not to a parameter or to shared rows."""
        operand = self.batch.find(name)
        return operand is not None and operand.slot.is_by_example

    def _spread_gradients(self, found: BodyResult) -> tuple[Flags | None, bool]:
        """Writes gradients to their positions, and flags the examples whose own are not finite.

        The flags are None where all are finite.  Returns besides whether those that belong to no
        example are finite, which decides the status of the whole.
        """
        nonfinite, is_sound = None, True
        for name, out in self.buffers.gradients.items():
            if self._is_by_example(name):
                places = self.present.places()
                lost = self._spread(found.gradient(name), places, out)
                if lost is not None:
                    nonfinite = lost if nonfinite is None else nonfinite | lost
            else:
                is_sound &= self._spread(found.gradient(name), None, out) is None
        return nonfinite, is_sound

    def _spread(self, found: Array, places: Indices | None, out: Array) -> Flags | None:
        """Writes the results of present examples to their positions, and 0 elsewhere.

        Returns which rows are not finite, None where all are.
        """
        if found is out and self.counts is not None and self.counts.has_written(out):
            return None
        count, length = len(out) if out.ndim else 1, math.prod(out.shape[1:])
        if places is not None:
            out[...] = 0
        lost: Flags | None = None
        rows = out.reshape(count, length)
        given = found.reshape(len(found) if found.ndim else 1, length)
        height = block_rows(max(1, length))
        for start in range(0, len(given), height):
            for first in range(0, length, BLOCK_ELEMENTS):
                self.checkpoint()
                part = np.s_[start : start + height, first : first + BLOCK_ELEMENTS]
                own = part[0] if places is None else places[part[0]]
                sent = rows[part] if places is None else np.empty(given[part].shape, out.dtype)
                if found is not out:
                    round_into(given[part], sent)
                if places is not None:
                    rows[own, part[1]] = sent
                finite = np.isfinite(sent)
                if not finite.all():  # by row it takes longer
                    lost = np.zeros(count, np.bool_) if lost is None else lost
                    lost[own] |= ~finite.all(axis=1)
        return lost

    def _zero_gradients(self, lost: Flags) -> None:
        for name, out in self.buffers.gradients.items():
            if self._is_by_example(name):
                out[lost] = 0
            else:
                out[~np.isfinite(out)] = 0

    def _spread_output(self, output: Output, found: Array) -> None:
        """Writes an output to its positions; indices of examples are converted to the caller's."""
        out, places = self.buffers.outputs[output.name], self.present.places()
        if places is None:
            out[...] = found
            return
        out[...] = _nothing(output)
        out[places] = np.append(places, -1)[found] if output.is_index else found


def _nothing(output: Output) -> int:
    """Returns the output of an example that has none: -1 for an index, which is no example."""
    return -1 if output.is_index else 0
