"""Which backend computes which losses, where there is a GPU beside the CPU.

A loss that looks at each number once and is given tensors of the host takes as long as copying
them, so that it pays only if the copies are quicker than the CPU computes.  What compares examples
with each other, aligns sequences or runs networks computes much for each number, and goes to the
GPU.  The rates are measured once, before the server is ready; tensors that are on the device
already stay there.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lossd.backends import Rates
from lossd.batch import Job
from lossd.engine import Engine
from lossd.losses import LOSSES, Loss, Shape
from lossd.plan import HOST
from lossd.shapes import rules_of

DEVICE = "cupy"  # the name of the backend that computes on a GPU
# One loss stands for each shape whose losses look at each number once.
STREAMING: Mapping[str, str] = {
    "pointwise": "squared_error",
    "rowwise": "cross_entropy",
    "regionwise": "dice",
    "vectors": "cosine_embedding",
}
_ROWS, _COLUMNS = 2048, 1024  # 8 MiB of float32: beyond the caches of most CPUs
_TIMES = 3


@dataclass(frozen=True, slots=True)
class Route:
    """The losses of one shape, what computes them where they are, and why.

    ``on_device`` is the backend for tensors that are on the device already.
    """

    shape: str
    losses: tuple[str, ...]
    backend: str
    reason: str
    on_device: str = DEVICE


@dataclass(frozen=True, slots=True)
class HostRun:
    """How long the CPU takes for a batch: ``sent`` bytes of inputs, ``returned`` of gradients."""

    seconds: float
    sent: int
    returned: int


def routes(
    rates: Rates, measure: Callable[[Loss], HostRun], asked: Mapping[str, str]
) -> tuple[Route, ...]:
    """Decides for every shape; ``asked`` says for some of them what the operator wants.

    ``measure`` runs a loss on the CPU.
    """
    by_shape: dict[str, list[Loss]] = {}
    for loss in LOSSES.values():
        by_shape.setdefault(loss.shape.name.lower(), []).append(loss)
    return tuple(
        _route(shape, losses, rates, measure, asked.get(shape))
        for shape, losses in by_shape.items()
    )


def _route(
    shape: str,
    losses: list[Loss],
    rates: Rates,
    measure: Callable[[Loss], HostRun],
    asked: str | None,
) -> Route:
    names = tuple(loss.name for loss in losses)
    if all(rules_of(loss).on_host for loss in losses):
        return Route(shape, names, HOST, "a few numbers, which are computed on the host", HOST)
    if asked is not None:
        return Route(shape, names, asked, "asked for")
    if shape not in STREAMING:
        return Route(shape, names, DEVICE, "much is computed for each number")
    run = measure(LOSSES[STREAMING[shape]])
    device = rates.seconds(run.sent, run.returned, resident=False)
    rate = (run.sent + run.returned) / run.seconds / 1e9
    by_copies = (run.sent + run.returned) / device / 1e9
    backend = HOST if run.seconds <= device else DEVICE
    reason = f"the CPU takes {rate:.3g} GB/s, the GPU {by_copies:.3g} with its copies: {rates}"
    return Route(shape, names, backend, reason)


def measured_on(engine: Engine) -> Callable[[Loss], HostRun]:
    """Returns a function that runs a loss on an engine of the CPU."""

    def measure(loss: Loss) -> HostRun:
        job = _job(loss)
        found = [_seconds(engine, job) for _ in range(1 + _TIMES)]
        sent = sum(array.nbytes for arrays in job.inputs.values() for array in arrays)
        first = job.inputs[loss.inputs[0].name][0]
        return HostRun(max(min(found[1:]), 1e-9), sent, first.nbytes)

    return measure


def _seconds(engine: Engine, job: Job) -> float:
    begun = time.perf_counter()
    engine.run(job)
    return time.perf_counter() - begun


def _job(loss: Loss) -> Job:
    """Returns a batch of a loss that stands for others."""
    random = np.random.default_rng(0)
    first = random.random((_ROWS, _COLUMNS), np.float32)
    names = [declared.name for declared in loss.inputs]
    is_rowwise = loss.name == STREAMING["rowwise"]
    second = random.integers(0, _COLUMNS, _ROWS) if is_rowwise else np.rint(first)
    signs = np.where(random.random(_ROWS) < 0.5, 1, -1)
    given: list[Any] = [first, second, signs]
    return Job(
        loss=loss,
        parameters={},
        inputs={name: [array] for name, array in zip(names, given, strict=False)},
        gradients=tuple(names[:1]),
        per_example=True,
    )


def parsed(text: str) -> dict[str, str]:
    """Reads what the operator wants: ``"rowwise=cupy,pointwise=numpy"``.

    Raises:
        ValueError: for a shape or a backend that there is not, and for one on a GPU whose losses
            are computed on the host.
    """
    found = {}
    kinds = [shape.name.lower() for shape in Shape]
    on_host = {loss.shape.name.lower() for loss in LOSSES.values() if rules_of(loss).on_host}
    for part in filter(None, map(str.strip, text.split(","))):
        kind, _, backend = part.partition("=")
        if kind not in kinds or backend not in (HOST, DEVICE):
            raise ValueError(
                f"must be SHAPE=BACKEND, with commas between, of {', '.join(kinds)} and "
                f"{HOST}, {DEVICE}"
            )
        if kind in on_host and backend == DEVICE:
            raise ValueError(f"must leave {kind} to {HOST}, which alone computes them")
        found[kind] = backend
    return found
