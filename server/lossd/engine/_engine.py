"""The engine: decides how a job is computed, and has it computed.

It lays the batch out, lets the backend fill the buffers that will be sent, and makes the aggregate
from what the backend returns.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from lossd.backends import Array, Backend, Resident, are_faint, shrunk_totals
from lossd.batch import Batch, Job, parameter_error
from lossd.checkpoints import Checkpoint, never_stop
from lossd.engine._flagged import check_finite, flagged, statuses_of
from lossd.engine._memory import Hold, hold_needed, hold_nothing
from lossd.engine._reply import Allocate, Place, Reply, by_input
from lossd.engine._result import NO_EXAMPLES, NOTHING_SAID, Result
from lossd.errors import InvalidRequest
from lossd.losses import ParameterError
from lossd.networks import Networks
from lossd.plan import Plan
from lossd.reduction import EmptyPolicy, NonfinitePolicy, Reduction, RowPlan
from lossd.shapes import NO_NETWORKS, Buffers, Evaluated, PreparedBatch


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
        hold_needed(plan, hold, with_answered=allocate is None)
        batch = plan.laid.batch(job, arrays, checkpoint)
        if job.empty is EmptyPolicy.ERROR and batch.plan.is_empty:
            raise InvalidRequest(
                "examples must be kept and have weight, got none",
                reason="EMPTY_BATCH",
                field="empty",
            )
        reply = Reply.allocated(plan, allocate or np.empty, place)
        try:
            evaluated = plan.evaluate(batch, reply.buffers, checkpoint)
        except ParameterError as error:
            raise parameter_error(job.loss, error) from error
        nonfinite = flagged(evaluated.nonfinite, hold)
        if job.nonfinite is NonfinitePolicy.ERROR:
            check_finite(batch, evaluated, nonfinite)
        loss_sum, loss = self._totals(plan, job, batch, evaluated, reply.buffers, checkpoint)
        return Result(
            loss=loss,
            loss_sum=loss_sum,
            weight_sum=batch.plan.weight_sum,
            example_count=batch.plan.example_count,
            ignored_count=batch.plan.ignored_count,
            nonfinite_examples=nonfinite,
            statuses=statuses_of(batch, evaluated, nonfinite),
            status=evaluated.status,
            per_example=reply.values,
            gradients=by_input(reply.gradients),
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
        """Returns the sum of the losses and the aggregate, also where a sum is beyond float64.

        If the values were not kept, the batch is computed once more, into the same buffers.
        """
        # Of infinities of both signs, which are flagged, and of numbers beyond float64.
        with np.errstate(over="ignore", invalid="ignore"):
            loss_sum = float(evaluated.sums.sum())
        is_plain = math.isfinite(loss_sum) and not are_faint(loss_sum, batch.plan.weights)
        if is_plain or plan.every_value is None or batch.plan.is_empty:
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
        nonfinite_examples=NO_EXAMPLES,
        statuses=NOTHING_SAID,
        status=None,
        per_example=values,
        gradients=gradients,
        outputs={},
        backend=plan.backend,
    )


def _aggregate(job: Job, plan: RowPlan, loss_sum: float) -> float | None:
    if job.reduction is Reduction.NONE:
        return None
    if plan.is_empty:
        return np.nan if job.empty is EmptyPolicy.NAN else 0.0
    return loss_sum / plan.divisor
