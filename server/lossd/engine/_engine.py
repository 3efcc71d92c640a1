"""The engine: decides how a job is computed, and has it computed.

It lays the batch out, lets the backend fill the buffers that will be sent, and makes the aggregate
from what the backend returns.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd.backends import Array, Backend, Resident, shrunk_totals
from lossd.batch import Batch, Job, parameter_error
from lossd.checkpoints import Checkpoint, never_stop
from lossd.errors import InvalidRequest
from lossd.losses import ParameterError, Status
from lossd.networks import Networks
from lossd.plan import Answered, Plan
from lossd.reduction import EmptyPolicy, Flags, NonfinitePolicy, Reduction, RowPlan
from lossd.shapes import (
    NO_NETWORKS,
    Buffers,
    Evaluated,
    PreparedBatch,
)

Hold = Callable[[int], None]
# An array, or a list of them for an input of several tensors.  Any, because with a union everyone
# who reads the usual single array would have to tell the type checker that it is no list.
Arrays = Any
Allocate = Callable[[tuple[int, ...], npt.DTypeLike], Array]
# The same for the gradient with respect to an input, by its name; None to leave it to ``Allocate``.
Place = Callable[[str, tuple[int, ...], npt.DTypeLike], Array | None]


# Of an example that is flagged: its index and its status, and both again in the reply.  Of few of
# them it is not worth the count.
_FLAGGED_BYTES, _MANY_FLAGGED = 2 * (8 + 1), 1 << 16


def hold_nothing(_: int) -> None:
    """Stands for whoever counts bytes, where nobody does."""


@dataclass(frozen=True, slots=True)
class ExampleStatuses:
    """The examples that have a status: flat indices, ascending, and the number of each Status."""

    indices: npt.NDArray[np.int64]
    numbers: npt.NDArray[np.uint8]


_NO_EXAMPLES = np.zeros(0, np.int64)
_NOTHING_SAID = ExampleStatuses(_NO_EXAMPLES, np.zeros(0, np.uint8))


@dataclass(slots=True)  # not frozen: that would take four times as long, for every call
class Result:
    """The result of one job: numbers, and buffers that can be sent as they are.

    ``loss`` is None under ``Reduction.NONE``; ``per_example`` is None where it was not asked for,
    and for losses of a set.  ``nonfinite_examples`` holds flat indices, ascending; ``status`` is
    that of a whole set, or of gradients that belong to no example.
    """

    loss: float | None
    loss_sum: float
    weight_sum: float
    example_count: int
    ignored_count: int
    nonfinite_examples: npt.NDArray[np.int64]
    statuses: ExampleStatuses
    status: Status | None
    per_example: Array | None
    gradients: Mapping[str, Arrays]
    outputs: Mapping[str, Array]
    backend: str
    terms: tuple["ComputedTerm", ...] = ()


@dataclass(frozen=True, slots=True)
class ComputedTerm:
    """The result of one term of a sum, before its weight is applied."""

    loss: float
    loss_sum: float
    weight_sum: float
    example_count: int
    ignored_count: int
    nonfinite_count: int
    status: Status | None
    gradient_norm: float
    outputs: Mapping[str, Array]


class Engine:
    """Runs jobs on a backend, with the operator's networks; may be called from many threads.

    ``overrides`` has the backends that compute single losses in place of this one, by loss, and
    ``routes`` those that do where no tensor is on a device.
    """

    def __init__(
        self,
        backend: Backend,
        networks: Networks = NO_NETWORKS,
        *,
        overrides: Mapping[str, Backend] = MappingProxyType({}),
        routes: Mapping[str, Backend] = MappingProxyType({}),
    ) -> None:
        self.backend = backend
        self.networks = networks
        self._overrides = overrides
        self._routes = routes

    def run(
        self,
        job: Job,
        *,
        allocate: Allocate | None = None,
        place: Place = lambda *_: None,
        checkpoint: Checkpoint = never_stop,
        hold: Hold = hold_nothing,
    ) -> Result:
        """Computes a job.

        ``allocate(shape, dtype)`` makes the arrays of the result, wherever they are to live, except
        for the gradients that ``place(input, shape, dtype)`` has a place for.
        ``checkpoint`` is called between tiles and may raise to stop the work.  ``hold`` is told the
        bytes that it takes beside its inputs before any is taken, and may raise; gradients and
        outputs are not among them where ``allocate`` is given, which knows where they are.

        Raises:
            InvalidRequest: if the caller broke a rule.
            DeviceFull: if the device does not have enough memory.
        """
        plan = self._plan(job, is_kept=False)
        return self.compute(
            plan,
            job,
            plan.laid.arrays(job),
            allocate=allocate,
            place=place,
            checkpoint=checkpoint,
            hold=hold,
        )

    def resident(self, job: Job) -> frozenset[str]:
        """Returns the inputs that may stay on a device, where they are read and nowhere else.

        Raises:
            InvalidRequest: if the caller broke a rule.
        """
        plan = self._plan(job, is_kept=False)
        backend = self._backend_of(job)
        if backend.exports is None or job.nonfinite is NonfinitePolicy.ZERO:
            return frozenset()
        return plan.laid.resident(checks_domains=backend.checks_domains(plan.laid.template))

    def plan(self, job: Job) -> Plan:
        """Decides everything about a job that does not depend on its data, for more jobs like it.

        Raises:
            InvalidRequest: if the caller broke a rule.
            TooLarge: for more than can be computed at once.
        """
        return self._plan(job, is_kept=True)

    def _plan(self, job: Job, *, is_kept: bool) -> Plan:
        try:
            return Plan.of(job, self._backend_of(job), self.networks, is_kept=is_kept)
        except ParameterError as error:  # a rule between parameters, which only the body knows
            raise parameter_error(job.loss, error) from error

    def _backend_of(self, job: Job) -> Backend:
        name = job.loss.name
        found = self._overrides.get(name) or self._routes.get(name)
        if found is None or (name not in self._overrides and _is_on_device(job)):
            return self.backend
        return found

    def compute(
        self,
        plan: Plan,
        job: Job,
        arrays: Sequence[Array | None],
        *,
        allocate: Allocate | None = None,
        place: Place = lambda *_: None,
        checkpoint: Checkpoint = never_stop,
        hold: Hold = hold_nothing,
    ) -> Result:
        """Computes a job by its plan, as ``run`` does.

        ``arrays`` are its inputs as ``plan.laid.arrays`` has them; those of the job are not read.
        """
        if plan.prepared is not None and allocate is None:
            checkpoint()
            result = _at_once(plan, plan.prepared, arrays)
            if result is not None:
                return result
        _hold(plan, hold, with_answered=allocate is None)
        batch = plan.laid.batch(job, arrays, checkpoint)
        if job.empty is EmptyPolicy.ERROR and batch.plan.is_empty:
            raise InvalidRequest(
                "examples must be kept and have weight, got none", reason="EMPTY_BATCH"
            )
        reply = _Reply.allocated(plan, allocate or np.empty, place)
        try:
            evaluated = plan.evaluate(batch, reply.buffers, checkpoint)
        except ParameterError as error:
            raise parameter_error(job.loss, error) from error
        nonfinite = _flagged(evaluated.nonfinite, hold)
        if job.nonfinite is NonfinitePolicy.ERROR:
            _check_finite(batch, evaluated, nonfinite)
        loss_sum, loss = self._totals(plan, job, batch, evaluated, reply.buffers, checkpoint)
        return Result(
            loss=loss,
            loss_sum=loss_sum,
            weight_sum=batch.plan.weight_sum,
            example_count=batch.plan.example_count,
            ignored_count=batch.plan.ignored_count,
            nonfinite_examples=nonfinite,
            statuses=_statuses(batch, evaluated, nonfinite),
            status=evaluated.status,
            per_example=reply.values,
            gradients=_by_input(reply.gradients),
            outputs=reply.outputs,
            backend=plan.backend,
        )

    @staticmethod
    def _totals(  # noqa: PLR0917 - all that a computed job is made of
        plan: Plan,
        job: Job,
        batch: Batch,
        evaluated: Evaluated,
        buffers: Buffers,
        checkpoint: Checkpoint,
    ) -> tuple[float, float | None]:
        """Returns the sum of the losses and the aggregate, also where adding up is beyond float64.

        What values are not kept for is computed once more then, into the same buffers.
        """
        # Of infinities of both signs, which are flagged, and of numbers beyond float64.
        with np.errstate(over="ignore", invalid="ignore"):
            loss_sum = float(evaluated.sums.sum())
        if math.isfinite(loss_sum) or plan.every_value is None or batch.plan.is_empty:
            return loss_sum, _aggregate(job, batch.plan, loss_sum)
        values = buffers.values
        if values is None and (evaluated.nonfinite is None or not math.isnan(loss_sum)):
            values = np.empty(plan.every_value.shape, plan.every_value.dtype).reshape(-1)
            plan.evaluate(batch, replace(buffers, values=values), checkpoint)
        if values is None or not np.isfinite(values).all():
            return loss_sum, _aggregate(job, batch.plan, loss_sum)
        rows = batch.plan
        loss_sum, loss = shrunk_totals(values, rows.row_weights(), rows.divisor)
        return loss_sum, None if job.reduction is Reduction.NONE else loss

    def close(self) -> None:
        """Ends the threads of its backends and frees what they hold."""
        for backend in {self.backend, *self._overrides.values(), *self._routes.values()}:
            backend.close()


def _hold(plan: Plan, hold: Hold, *, with_answered: bool) -> None:
    """Counts what a job takes, if it is much, before any of it is taken."""
    laid = plan.laid
    if laid.needed:
        answered = laid.gradient_bytes + sum(output.nbytes for output in plan.outputs)
        hold(laid.needed + (answered if with_answered else 0))


def _is_on_device(job: Job) -> bool:
    return any(isinstance(one, Resident) for arrays in job.inputs.values() for one in arrays)


def _at_once(plan: Plan, prepared: PreparedBatch, arrays: Sequence[Array | None]) -> Result | None:
    """Computes a job in one call; None where that does not tell all."""
    inputs = [array for array in arrays if array is not None and array.flags.c_contiguous]
    if len(inputs) < len(arrays):
        return None
    values = None if plan.values is None else np.empty(plan.values.shape, plan.values.dtype)
    gradients = {a.input: np.empty(a.shape, a.dtype) for a in plan.gradients}
    rows = prepared.rows
    # All gradients that there are: the first input has one, or none.
    loss_sum = prepared.call(inputs, values, next(iter(gradients.values()), None))
    if loss_sum is None or not math.isfinite(loss_sum):
        return None
    return Result(
        loss=_aggregate(plan.asked, rows, loss_sum),
        loss_sum=loss_sum,
        weight_sum=rows.weight_sum,
        example_count=rows.example_count,
        ignored_count=rows.ignored_count,
        nonfinite_examples=_NO_EXAMPLES,
        statuses=_NOTHING_SAID,
        status=None,
        per_example=values,
        gradients=gradients,
        outputs={},
        backend=plan.backend,
    )


@dataclass(slots=True)
class _GradientBuffer:
    """A gradient that is being computed: the backend fills ``rows``, and ``array`` is returned."""

    answered: Answered
    array: Array
    rows: Array

    @classmethod
    def allocated(cls, answered: Answered, allocate: Allocate, place: Place) -> "_GradientBuffer":
        array, slot = place(answered.input, answered.shape, answered.dtype), answered.slot
        if array is None:
            array = allocate(answered.shape, answered.dtype)
        if slot is None:  # with respect to a parameter, which is one number
            return cls(answered, array, array)
        if slot.is_moved:
            rows = slot.turned(array)
            return cls(
                answered, array, np.empty(slot.rows_shape, answered.dtype) if rows is None else rows
            )
        return cls(answered, array, array.reshape(slot.rows_shape))

    def finished(self) -> Array:
        """Returns the gradient in the caller's layout, where the rows are laid out differently."""
        slot = self.answered.slot
        if slot is not None and slot.is_moved and not np.may_share_memory(self.array, self.rows):
            self.array[...] = slot.as_given(self.rows)
        return self.array


@dataclass(slots=True)
class _Reply:
    """The arrays of a result, wherever they are to be."""

    values: Array | None
    gradients: Mapping[str, _GradientBuffer]
    outputs: Mapping[str, Array]

    @classmethod
    def allocated(cls, plan: Plan, allocate: Allocate, place: Place) -> "_Reply":
        values = None if plan.values is None else allocate(plan.values.shape, plan.values.dtype)
        gradients = {a.name: _GradientBuffer.allocated(a, allocate, place) for a in plan.gradients}
        outputs = {a.name: allocate(a.shape, a.dtype) for a in plan.outputs}
        return cls(values, gradients, outputs)

    @property
    def buffers(self) -> Buffers:
        """The same arrays as rows, for the backend to fill."""
        return Buffers(
            None if self.values is None else self.values.reshape(-1),
            {name: gradient.rows for name, gradient in self.gradients.items()},
            {name: output.reshape(-1) for name, output in self.outputs.items()},
        )


def _by_input(gradients: Mapping[str, _GradientBuffer]) -> dict[str, Arrays]:
    """Returns the finished gradients; those of an input of several tensors are a list."""
    found: dict[str, list[Array]] = {}
    for gradient in gradients.values():
        found.setdefault(gradient.answered.input, []).append(gradient.finished())
    return {name: arrays if len(arrays) > 1 else arrays[0] for name, arrays in found.items()}


def _flagged(flags: Flags | None, hold: Hold) -> npt.NDArray[np.int64]:
    """Returns the rows that are flagged; where none is, there may be millions that are not."""
    if flags is None:
        return _NO_EXAMPLES
    count = int(np.count_nonzero(flags))
    if count > _MANY_FLAGGED:
        hold(count * _FLAGGED_BYTES)
    return flags.nonzero()[0]


def _statuses(
    batch: Batch, evaluated: Evaluated, nonfinite: npt.NDArray[np.int64]
) -> ExampleStatuses:
    """Returns the statuses of examples that the request did not exclude, with NONFINITE."""
    if evaluated.statuses is None and not len(nonfinite):
        return _NOTHING_SAID
    if evaluated.statuses is None:
        return ExampleStatuses(nonfinite, np.full(len(nonfinite), Status.NONFINITE, np.uint8))
    numbers = evaluated.statuses
    if batch.plan.excluded_by_request is not None:
        numbers[batch.plan.excluded_by_request] = 0
    numbers[nonfinite[numbers[nonfinite] == 0]] = Status.NONFINITE  # else its own status stays
    found = np.flatnonzero(numbers)
    return ExampleStatuses(found, numbers[found])


def _aggregate(job: Job, plan: RowPlan, loss_sum: float) -> float | None:
    if job.reduction is Reduction.NONE:
        return None
    if plan.is_empty:
        return np.nan if job.empty is EmptyPolicy.NAN else 0.0
    return loss_sum / plan.divisor


def _check_finite(batch: Batch, evaluated: Evaluated, nonfinite: npt.NDArray[np.int64]) -> None:
    """Raises InvalidRequest if an example, or the whole, is not finite."""
    if len(nonfinite):
        index = int(nonfinite[0])
        raise InvalidRequest(
            f"examples must have a finite {batch.loss.name} and gradient, got {len(nonfinite)} "
            f"that have not, the first at {index}",
            reason="NONFINITE_RESULT",
            field="nonfinite",
            details={"index": index, "count": len(nonfinite)},
        )
    if evaluated.status is Status.NONFINITE:
        raise InvalidRequest(
            f"{batch.loss.name} must be finite with its gradients, "
            f"got a loss of {evaluated.sums.sum():g}",
            reason="NONFINITE_RESULT",
            field="nonfinite",
        )
