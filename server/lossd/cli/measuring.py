"""Measures how long calls take, for ``lossd bench``.

In a closed loop each caller calls again when it has its answer, which gives the throughput.  In an
open loop calls are due at even intervals, and each is timed from the moment when it was due: a call
that waits because another was slow includes that wait, which a closed loop would omit ("coordinated
omission", Tene 2013).
"""

import itertools
import math
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from lossd.cli.served import RunningServer
from lossd.client.result import LossResult

PHASES = ("receive", "decode", "queue", "compute")
PERCENTILES = (50, 90, 99)

Call = Callable[[], LossResult[Any]]


@dataclass(frozen=True, slots=True)
class Subject:
    """The call to time, and the bytes of the arrays that it sends."""

    call: Call
    sent: int


@dataclass(frozen=True, slots=True)
class KindOfCall:
    """The loss, its parameters and the type of its inputs, and how it is called."""

    loss: str
    parameters: tuple[str, ...]
    dtype: str
    transport: str
    shape: tuple[int, ...]
    callers: int


@dataclass(frozen=True, slots=True)
class Row(KindOfCall):
    """The measurements of one kind of call.

    ``gigabytes_per_second`` counts the arrays of requests and replies.  ``due_per_second`` is the
    rate of the open loop in which latencies were measured; None if the loop was closed.
    ``milliseconds`` has percentiles and the maximum, ``phases`` medians of the server's times in
    milliseconds, ``peak_bytes`` the server's peak memory beyond that at the start.  The server
    keeps freed memory, so this belongs to the largest call so far.  It is None for a server
    elsewhere.
    """

    calls: int
    calls_per_second: float
    gigabytes_per_second: float
    due_per_second: float | None
    milliseconds: dict[str, float]
    phases: dict[str, float]
    peak_bytes: int | None


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure, and how many calls are due meanwhile.

    They are a share (``load``) of the throughput, which is measured first; or ``rate`` a second; or
    as many as can be made, if ``is_closed``.
    """

    seconds: float
    load: float = 0.7
    rate: float | None = None
    is_closed: bool = False


@dataclass(frozen=True, slots=True)
class ServerMemory:
    """A server whose memory can be observed, and its bytes at the start."""

    server: RunningServer
    idle: int


@dataclass(frozen=True, slots=True)
class TimedCalls:
    """The seconds of each call and the server's timings, and the seconds of all together."""

    latencies: list[float]
    timings: list[Any]
    took: float

    @property
    def calls_per_second(self) -> float:
        """How many calls were answered in a second."""
        return len(self.latencies) / self.took

    def milliseconds(self) -> dict[str, float]:
        """Returns percentiles of the calls, and the maximum."""
        found = {f"p{p}": float(np.percentile(self.latencies, p)) * 1e3 for p in PERCENTILES}
        return found | {"max": max(self.latencies) * 1e3}

    def phases(self) -> dict[str, float]:
        """Returns medians of the server's phases in milliseconds."""
        return {
            phase: statistics.median(getattr(timing, phase) for timing in self.timings) * 1e3
            for phase in PHASES
        }


def measure(kind: KindOfCall, subject: Subject, effort: Effort, memory: ServerMemory | None) -> Row:
    """Measures one kind of call."""
    call = subject.call
    size = subject.sent + _received(call())  # this connects, and finds out which transport works
    if memory is not None:
        memory.server.forget_peak()
    closed = opened = None
    due = effort.rate
    if due is None:
        closed = as_many_as_possible(call, kind.callers, effort.seconds)
        due = None if effort.is_closed else closed.calls_per_second * effort.load
    if due is not None:
        opened = at_a_rate(call, kind.callers, due, max(math.ceil(due * effort.seconds), 1))
    loops = [loop for loop in (closed, opened) if loop is not None]
    rate, timed = loops[0].calls_per_second, loops[-1]
    return Row(
        **asdict(kind),
        calls=sum(len(loop.latencies) for loop in loops),
        calls_per_second=rate,
        gigabytes_per_second=rate * size / 1e9,
        due_per_second=due,
        milliseconds=timed.milliseconds(),
        phases=timed.phases(),
        peak_bytes=None if memory is None else max(memory.server.peak() - memory.idle, 0),
    )


def _received(result: LossResult[Any]) -> int:
    """Returns the bytes of the arrays of a result."""
    found = [] if result.per_example is None else [result.per_example]
    for gradient in result.gradients.values():
        found += gradient if isinstance(gradient, list) else [gradient]
    return sum(np.asarray(array).nbytes for array in found)


def as_many_as_possible(call: Call, callers: int, seconds: float) -> TimedCalls:
    """Has each caller call again when it has its answer."""
    timed = TimedCalls([], [], 0)
    started = time.perf_counter()

    def work(_: int) -> None:
        while (begun := time.perf_counter()) - started < seconds:
            timing = call().server_timing
            timed.latencies.append(time.perf_counter() - begun)
            timed.timings.append(timing)

    _in_threads(work, callers)
    return replace(timed, took=time.perf_counter() - started)


def at_a_rate(call: Call, callers: int, rate: float, count: int) -> TimedCalls:
    """Makes calls that are due at even intervals, and times each from when it was due."""
    indices = itertools.count()
    timed = TimedCalls([], [], 0)
    started = time.perf_counter()

    def work(_: int) -> None:
        while (index := next(indices)) < count:
            due = started + index / rate
            time.sleep(max(due - time.perf_counter(), 0))
            timing = call().server_timing
            timed.latencies.append(time.perf_counter() - due)
            timed.timings.append(timing)

    _in_threads(work, callers)
    return replace(timed, took=max(time.perf_counter() - started, count / rate))


def _in_threads(work: Callable[[int], None], count: int) -> None:
    failures: list[BaseException] = []

    def guarded(caller: int) -> None:
        try:
            work(caller)
        except Exception as error:  # noqa: BLE001 - raised again where somebody sees it
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(caller,)) for caller in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
