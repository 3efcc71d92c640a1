"""The cost of a small batch (32x10) beside its arithmetic: processor time in one thread.

    python benchmarks/small.py [--rounds N]

"bare" is the least that computes cross-entropy and its gradient, a dozen calls of NumPy without a
check; "known" a job whose plan was made before, as in the second step of a training loop and all
that follow; "new" the first of its kind.  "message" goes from the bytes of a known request to those
of its reply, within a server's process but without gRPC.  They take turns, and medians are
compared, so that a machine that slows down slows all of them.

On one EPYC core, in microseconds: bare 13, known 7, new 98, message 18.  Before small batches were
prepared "known" took 40 and "message" 63; before there were plans, 96 and 182.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
from prometheus_client import CollectorRegistry
from rich.console import Console

from lossd import v1
from lossd.backends.choose import Chosen, cpu_backend
from lossd.batch import Job
from lossd.client.requests import build_request
from lossd.engine import Engine
from lossd.losses import LOSSES
from lossd.serving.call import Call, Received
from lossd.serving.config import Config
from lossd.serving.loss_service.servicer import LossServicer
from lossd.serving.process.device_check import CheckedDevice
from lossd.serving.process.versions import versions
from lossd.serving.rpc.admission import ComputeSlots
from lossd.serving.telemetry import Telemetry
from lossd.tensors import Array

ROWS, CLASSES, CALLS = 32, 10, 500


class Waiting:
    """The context of a call whose caller waits."""

    def is_active(self) -> bool:
        """See ``Context``."""
        return True

    def peer(self) -> str:
        """Returns a connection."""
        return "ipv4:127.0.0.1:1"

    def time_remaining(self) -> float:
        """See ``Context``."""
        return 30.0

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        """See ``Context``."""
        return ()

    def cancel(self) -> None:
        """See ``Context``."""

    def send_initial_metadata(self, metadata: tuple[tuple[str, str], ...], /) -> None:
        """See ``Context``."""


def bare(predictions: Array, targets: Array) -> tuple[Array, Array, Array]:
    """Computes mean cross-entropy, the values of all rows, and the gradient."""
    rows = np.arange(len(predictions))
    logits = predictions - predictions.max(axis=1, keepdims=True)
    derivatives = np.exp(logits)
    sums = derivatives.sum(axis=1, keepdims=True)
    values = np.log(sums[:, 0]) - logits[rows, targets]
    derivatives /= sums
    derivatives[rows, targets] -= 1
    derivatives /= np.float32(len(predictions))
    return values.mean(), values, derivatives


def main() -> None:
    """Prints medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    rng = np.random.default_rng(0)
    predictions = rng.standard_normal((ROWS, CLASSES), dtype=np.float32)
    targets = rng.integers(0, CLASSES, ROWS)
    inputs: dict[str, Array] = {"predictions": predictions, "targets": targets}
    backend = cpu_backend(2)
    engine = Engine(backend)
    telemetry = Telemetry(CollectorRegistry(), losses=LOSSES)
    tried = CheckedDevice(Chosen(backend, "it is there"), engine, {})
    servicer = LossServicer(Config(), tried, ComputeSlots(2), telemetry, installed=versions())
    message = build_request(v1.CrossEntropy(), inputs).serialise()
    given = {name: [array] for name, array in inputs.items()}
    job = Job(loss=LOSSES["cross_entropy"], parameters={}, inputs=given)
    plan = engine.plan(job)
    arrays = plan.laid.arrays(job)
    sides: dict[str, Callable[[], object]] = {
        "bare": lambda: bare(predictions, targets),
        "known": lambda: engine.compute(plan, plan.asked, arrays),
        "new": lambda: engine.run(job),
        "message": lambda: servicer.compute_loss(Received(message), Call(Waiting(), "id")),
    }
    took: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds + 1):
        for name, side in sides.items():
            took[name].append(_microseconds(side))
    engine.close()
    base = took["bare"][1:]  # the first round warms up
    for name, found in took.items():
        ratio = statistics.median(a / b for a, b in zip(found[1:], base, strict=True))
        median = statistics.median(found[1:])
        Console().print(f"{name:8} {median:6.1f} us, {ratio:4.1f} times bare", highlight=False)


def _microseconds(work: Callable[[], object]) -> float:
    """Returns the processor time of one call."""
    started = time.thread_time()
    for _ in range(CALLS):
        work()
    return (time.thread_time() - started) / CALLS * 1e6


if __name__ == "__main__":
    main()
