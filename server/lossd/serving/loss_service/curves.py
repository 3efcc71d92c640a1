"""Training curves: the loss of each batch and the norm of its gradients, as metrics.

A gauge is read every few seconds, so that the norm, which takes a look at every number of the
gradients, need not be known of every batch.
"""

import logging
import math
import time
from collections.abc import Callable, Iterable

import numpy as np

from lossd.backends import Array
from lossd.engine import Result
from lossd.serving.call import Call
from lossd.serving.loss_service.norms import Norm, euclidean_norm
from lossd.serving.telemetry import Telemetry

log = logging.getLogger(__name__)

JOB = "x-lossd-job"

_SECONDS = 1.0  # between two norms of a curve at the least
_SHARE = 0.01  # of the time that norms may take


class Curves:
    """Draws one curve for each loss of each training job that the operator named.

    Batches of no job, or of one that he did not name, are drawn as of the job "".
    """

    def __init__(
        self,
        telemetry: Telemetry,
        jobs: frozenset[str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._telemetry = telemetry
        self._jobs = jobs
        self._clock = clock
        self._due: dict[tuple[str, str], float] = {}

    def draw(
        self, loss: str, call: Call, result: Result, norm_on_device: Norm = lambda _: 0.0
    ) -> None:
        """Adds the point of one batch."""
        if result.loss is None or not result.example_count:
            return
        job = self._job(call)
        self._telemetry.trained(loss, job, result.loss)
        now = self._clock()
        if result.gradients and now >= self._due.get((loss, job), now):
            self._due[loss, job] = math.inf  # one thread looks
            try:
                norm = euclidean_norm(_arrays(result), norm_on_device)
                self._telemetry.gradient(loss, job, norm)
            except Exception as error:  # noqa: BLE001 - no call fails for its curve
                facts = {"loss": loss, "because": str(error) or repr(error)}
                log.warning("norm of gradients could not be drawn", extra=facts)
            finally:
                done = self._clock()
                self._due[loss, job] = done + max(_SECONDS, (done - now) / _SHARE)

    def _job(self, call: Call) -> str:
        if not self._jobs:
            return ""
        named = (value for key, value in call.context.invocation_metadata() if key == JOB)
        name = str(next(named, ""))
        return name if name in self._jobs else ""


def _arrays(result: Result) -> Iterable[Array]:
    for gradient in result.gradients.values():
        yield from [gradient] if isinstance(gradient, np.ndarray) else gradient  # or a list of maps
