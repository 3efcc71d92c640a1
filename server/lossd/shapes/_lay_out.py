"""Checks a job and lays it out, first without its data: everything that a caller can get wrong.

The one exception is the domain of floating-point targets (probabilities below 0, say), which may be
checked piece by piece so that targets are read once; they are never used as an index.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from lossd.backends import Resident
from lossd.batch import (
    Array,
    Batch,
    Given,
    Job,
    Layout,
    Operand,
    Slot,
    body_parameters,
    complete,
    compute_type,
    named_arrays,
    wanted_gradients,
)
from lossd.checkpoints import Checkpoint, never_stop
from lossd.losses import Content
from lossd.networks import Networks
from lossd.reduction import Reduction, plan_rows
from lossd.shapes._memory import gradient_bytes, own_bytes
from lossd.shapes._shape import ShapeRules
from lossd.shapes._table import rules_of

NO_NETWORKS = Networks()
_NUMBERS = (Content.FLOATS, Content.NUMBERS, Content.CLASSES)
_FLOATS = [np.dtype(kind) for kind in (np.float16, ml_dtypes.bfloat16, np.float32, np.float64)]
_NO_ROWS = plan_rows(
    0,
    ignored=None,
    weights=None,
    denominators=None,
    cotangent=1.0,
    reduction=Reduction.SUM,
    normalizer=None,
)


@dataclass(frozen=True, slots=True)
class Laid:
    """A job without its data, checked and laid out.

    ``slots`` are those of the layout, with the domains that follow from the parameters.
    ``template`` is a batch like those that are made of it, without rows.  ``needed`` are the bytes
    that one takes beside its inputs, gradients and outputs, and ``gradient_bytes`` those of its
    gradients, unless they are few.  ``spread_bytes`` are those of lists among the parameters that
    are spread over a row, which are made here.  ``sources`` say which tensor each slot is filled
    with: the name of the input, and the position in its list; None for one that is not given.
    """

    rules: ShapeRules
    parameters: Mapping[str, Any]  # all of them, with the defaults
    layout: Layout
    slots: tuple[Slot, ...]
    template: Batch
    needed: int
    gradient_bytes: int
    spread_bytes: int
    sources: tuple[tuple[str, int] | None, ...]

    def arrays(self, job: Job) -> list[Array | None]:
        """Returns the tensors of a job in the order of the slots; None for those not given."""
        return [None if s is None else job.inputs[s[0]][s[1]] for s in self.sources]

    def resident(self, *, checks_domains: bool) -> frozenset[str]:
        """Returns the inputs whose numbers nothing looks at but what computes the loss by rows.

        ``checks_domains`` tells whether that looks whether they are within their domains.
        """
        loss = self.template.loss
        if not self.rules.reads_rows or loss.may_ignore(self.parameters):
            return frozenset()
        if not self.layout.rows * self.layout.length:
            return frozenset()
        return frozenset(
            slot.input.base_name
            for slot, operand in zip(self.slots, self.template.operands, strict=True)
            if not (slot.is_moved or slot.is_classes or slot.default is not None)
            and (checks_domains or slot.input.domain is None)
            and slot.input.content in _NUMBERS
            and operand.rows.dtype in _FLOATS
        )

    def batch(
        self, job: Job, arrays: Sequence[Array | None], checkpoint: Checkpoint = never_stop
    ) -> Batch:
        """Checks the data of a job, and lays it out.

        ``arrays`` are its tensors in the order of the slots; those of the job are not read.
        ``checkpoint`` is called on the way of what takes long, and may raise to stop.

        Raises:
            InvalidRequest: or one below it, naming the thing, the rule and the value.
        """
        rules, parameters = self.rules, self.parameters
        operands = tuple(map(Slot.filled, self.slots, arrays))
        plan = rules.plan(job, self.layout, operands, parameters, checkpoint)
        operands = rules.checked(job.loss, operands, plan.excluded, parameters)
        batch = self.template.filled(operands, plan)
        if not batch.rows:
            rules.check_rules(batch)
        return batch


def lay_out(job: Job, networks: Networks = NO_NETWORKS, *, workers: int = 1) -> Laid:
    """Checks a job and lays it out, except for its data; ``workers`` will compute it.

    Raises:
        InvalidRequest: or one below it, naming the thing, the rule and the value.
        TooLarge: for images that would take too much memory inside a network.
    """
    rules = rules_of(job.loss)
    parameters = complete(job)
    arrays = named_arrays(job)
    layout = rules.lay_out(Given(job.loss, arrays, parameters, networks))
    dtype = compute_type(arrays, parameters)
    slots = tuple([slot.under(parameters) for slot in layout.slots])
    operands = tuple([_without_rows(slot, arrays.get(slot.name)) for slot in slots])
    needed = rules.needed(job, layout, arrays, parameters, dtype, workers)
    of_body = body_parameters(job.loss, parameters, layout, dtype)
    spread_bytes = sum(own_bytes(of_body[name]) for name in job.loss.vectors)
    return Laid(
        rules,
        parameters,
        layout,
        slots,
        template=Batch(
            loss=job.loss,
            parameters=of_body,
            operands=operands,
            example_shape=layout.example_shape,
            rows=layout.rows,
            length=layout.length,
            dtype=dtype,
            plan=_NO_ROWS,
            gradients=wanted_gradients(job, operands),
            outputs=tuple(member.value for member in parameters.get("outputs", ())),
            parts=layout.parts,
            pipeline=layout.pipeline,
            layout_parameters={p.name: parameters[p.name] for p in job.loss.layout_parameters},
        ),
        needed=needed + spread_bytes if needed else 0,
        gradient_bytes=gradient_bytes(job, layout, arrays) if needed else 0,
        spread_bytes=spread_bytes,
        sources=tuple([slot.input.source if slot.name in arrays else None for slot in slots]),
    )


def _without_rows(slot: Slot, array: Array | None) -> Operand:
    """Returns the operand of a slot, of the type and the place that it will have but of no rows."""
    is_index = array is None or slot.is_classes or slot.input.content is Content.LABELS
    dtype = np.dtype(np.int64) if is_index or array is None else array.dtype
    rows = np.empty((0, *slot.rows_shape[1:]), dtype)
    return Operand(slot, rows.view(Resident) if isinstance(array, Resident) else rows)
