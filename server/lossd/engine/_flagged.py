"""Examples that are not finite, or have another status."""

import numpy as np
import numpy.typing as npt

from lossd.batch import Batch
from lossd.engine._memory import Hold
from lossd.engine._result import NO_EXAMPLES, NOTHING_SAID, ExampleStatuses
from lossd.errors import InvalidRequest
from lossd.losses import Status
from lossd.reduction import Flags
from lossd.shapes import Evaluated

# Of an example that is flagged: its index and its status, and both again in the reply.  Of few of
# them it is not worth the count.
_FLAGGED_BYTES, _MANY_FLAGGED = 2 * (8 + 1), 1 << 16


def flagged(flags: Flags | None, hold: Hold) -> npt.NDArray[np.int64]:
    """Returns the rows that are flagged; where none is, there may be millions that are not."""
    if flags is None:
        return NO_EXAMPLES
    count = int(np.count_nonzero(flags))
    if count > _MANY_FLAGGED:
        hold(count * _FLAGGED_BYTES)
    return flags.nonzero()[0]


def statuses_of(
    batch: Batch, evaluated: Evaluated, nonfinite: npt.NDArray[np.int64]
) -> ExampleStatuses:
    """Returns the statuses of examples that the request did not exclude, with NONFINITE."""
    if evaluated.statuses is None and not len(nonfinite):
        return NOTHING_SAID
    if evaluated.statuses is None:
        return ExampleStatuses(nonfinite, np.full(len(nonfinite), Status.NONFINITE, np.uint8))
    numbers = evaluated.statuses
    if batch.plan.excluded_by_request is not None:
        numbers[batch.plan.excluded_by_request] = 0
    numbers[nonfinite[numbers[nonfinite] == 0]] = Status.NONFINITE  # else its own status stays
    found = np.flatnonzero(numbers)
    return ExampleStatuses(found, numbers[found])


def check_finite(batch: Batch, evaluated: Evaluated, nonfinite: npt.NDArray[np.int64]) -> None:
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
