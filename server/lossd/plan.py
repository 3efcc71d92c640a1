"""A plan: everything about a job that does not depend on its data, decided once.

A training loop asks for the same with other numbers at every step.  What follows from the loss, its
parameters, the names, shapes and types of the tensors and the options is the same for all steps:
whether it is right, how inputs are laid out, what computes them in which pieces, and which arrays
are answered.  Every job is computed by a plan.  Whoever can tell that two jobs are alike keeps it;
of the second one only what lies in its data is checked.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lossd.backends import Backend
from lossd.batch import Job, Operand, Slot
from lossd.networks import Networks
from lossd.reduction import NonfinitePolicy
from lossd.shapes import Evaluator, Laid, PreparedBatch, lay_out, prepare

HOST = "numpy"  # the name of the backend that computes on the host


@dataclass(frozen=True, slots=True)
class Answered:
    """An array of the result; a gradient with respect to an input has that input's ``slot``.

    ``input`` names the whole input, or the parameter, that a gradient is with respect to.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    slot: Slot | None = None
    input: str = ""

    @property
    def nbytes(self) -> int:
        """The bytes of its numbers."""
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """How jobs are computed that differ in their data alone, of which it holds nothing.

    ``asked`` is such a job without its tensors.  ``values``, ``gradients`` and ``outputs`` are the
    arrays of the result; ``every_value`` is what ``values`` are where they are asked for, None for
    a loss that has none.  ``is_brief`` says that computing takes less time than waiting for a turn.
    ``prepared`` computes such jobs in one call, unless something is unusual about their data.
    """

    asked: Job
    laid: Laid
    evaluate: Evaluator
    values: Answered | None
    every_value: Answered | None
    gradients: tuple[Answered, ...]
    outputs: tuple[Answered, ...]
    backend: str
    is_brief: bool
    prepared: PreparedBatch | None = None

    @property
    def nbytes(self) -> int:
        """The bytes of what is kept of its parameters: a number for each element of a row."""
        return self.laid.spread_bytes

    @classmethod
    def of(cls, job: Job, backend: Backend, networks: Networks, *, is_kept: bool = False) -> "Plan":
        """Returns the plan of a job; one that ``is_kept`` is worth more preparation.

        Raises:
            InvalidRequest: or one below it, for whatever is wrong with the job beside its data.
            TooLarge: for images that would take too much memory inside a network.
        """
        laid = lay_out(job, networks, workers=backend.threads)
        rules, template = laid.rules, laid.template
        values = Answered("", template.example_shape, template.dtype)
        every_value = values if job.loss.shape.has_values else None
        by_name = {operand.name: operand for operand in template.operands}
        return cls(
            asked=replace(job, inputs={}, weights=None, mask=None, cotangent=None),
            laid=laid,
            evaluate=rules.evaluator(
                template, backend, zero_nonfinite=job.nonfinite is NonfinitePolicy.ZERO
            ),
            values=every_value if job.per_example else None,
            every_value=every_value,
            gradients=tuple(_gradient(name, by_name.get(name)) for name in template.gradients),
            outputs=tuple(
                Answered(
                    output.name,
                    template.example_shape,
                    np.dtype(np.int64) if output.is_index else template.dtype,
                )
                for output in template.outputs
            ),
            backend=HOST if rules.on_host else backend.name,
            is_brief=backend.in_cache and rules.is_brief(laid.layout),
            prepared=prepare(job, laid, backend) if is_kept else None,
        )


def _gradient(name: str, operand: Operand | None) -> Answered:
    """Returns what a gradient is like: its input, or one number for a parameter."""
    if operand is None:
        return Answered(name, (), np.dtype(np.float64), None, name)
    slot = operand.slot
    return Answered(name, operand.shape, operand.rows.dtype, slot, slot.input.base_name)
