"""Computes the terms of a sum, one after the other."""

from lossd.batch import Job
from lossd.checkpoints import Checkpoint, never_stop
from lossd.engine import Allocate, Engine, Hold, Place, Result, hold_nothing
from lossd.errors import ServiceError
from lossd.sums._jobs import SumJob, check, job_of, of_term
from lossd.sums._total import Total


def run(
    engine: Engine,
    job: Job | SumJob,
    *,
    allocate: Allocate | None = None,
    place: Place = lambda *_: None,
    checkpoint: Checkpoint = never_stop,
    hold: Hold = hold_nothing,
) -> Result:
    """Computes a job; for a sum, computes all terms and adds them up.

    ``allocate`` and ``place`` make the arrays of the result of a single loss; they and ``hold`` are
    as in ``Engine.run``.

    Raises:
        InvalidRequest: if the caller broke a rule.
        DeviceFull: if the device does not have enough memory.
    """
    if isinstance(job, Job):
        return engine.run(job, allocate=allocate, place=place, checkpoint=checkpoint, hold=hold)
    check(job)
    total = Total(job, engine.networks)
    most = _Most(hold)

    def computed(position: int, own: Job) -> Result:
        try:
            return engine.run(own, checkpoint=checkpoint, hold=most.hold)
        except ServiceError as error:
            raise of_term(position, error, job.terms[position]) from error

    for position in range(len(job.terms)):
        most.keep(total.add(position, computed(position, job_of(job, position))))
    lost = total.settle()
    if lost is not None:
        total.take_losses(
            {
                position: computed(position, total.without(position, lost))
                for position, term in enumerate(job.terms)
                if term.job.loss.shape.is_apart
            },
            lost,
        )
    return total.finished(engine.backend.name)


class _Most:
    """Terms are computed one after the other: what counts is twice the most, for it is added up.

    That is beside what is kept of each term.
    """

    def __init__(self, hold: Hold) -> None:
        self._hold = hold
        self._held = self._kept = 0

    def keep(self, nbytes: int) -> None:
        """Takes note of what is kept of a term while others are computed."""
        self._kept += nbytes

    def hold(self, needed: int) -> None:
        """Counts what a term takes beyond those before it."""
        beyond = self._kept + 2 * needed - self._held
        if beyond > 0:
            self._hold(beyond)
            self._held += beyond
