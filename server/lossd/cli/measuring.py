"""Measures how long calls take, for ``lossd bench``.

First as many calls as possible are made, which gives the throughput.  Then calls are due at even
intervals, at a share of it, and each is timed from the moment when it was due: a call that waits
because another was slow includes that wait, which a loop of calls would omit ("coordinated
omission", Tene 2013).
"""

import itertools
import math
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lossd.cli.served import RunningServer
from lossd.client.result import LossResult

PHASES = ("receive", "decode", "queue", "compute")
PERCENTILES = (50, 90, 99)


@dataclass(frozen=True, slots=True)
class Row:
    """The measurements of one transport, shape and number of callers.

    ``milliseconds`` has percentiles and the maximum, ``phases`` medians of the server's times in
    milliseconds, ``peak_bytes`` the server's peak memory beyond that at the start.  The server
    keeps freed memory, so this belongs to the largest call so far.  It is None for a server
    elsewhere.
    """

    transport: str
    shape: tuple[int, int]
    callers: int
    calls: int
    calls_per_second: float
    gigabytes_per_second: float
    due_per_second: float
    milliseconds: dict[str, float]
    phases: dict[str, float]
    peak_bytes: int | None


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure, and how busy the server is to be."""

    seconds: float
    load: float


@dataclass(frozen=True, slots=True)
class ServerMemory:
    """A server whose memory can be observed, and its bytes at the start."""

    server: RunningServer
    idle: int


def measure(
    kind: tuple[str, tuple[int, int], int],
    call: Callable[[], LossResult],
    effort: Effort,
    memory: ServerMemory | None,
) -> Row:
    """Measures one kind of call: its transport, shape and callers."""
    transport, shape, callers = kind
    call()  # connects, and finds out which transport works
    if memory is not None:
        memory.server.forget_peak()
    made, took = _as_many_as_possible(call, callers, effort.seconds)
    throughput = made / took
    due = throughput * effort.load
    latencies, phases = at_a_rate(call, callers, due, max(math.ceil(due * effort.seconds), 1))
    milliseconds = {f"p{p}": float(np.percentile(latencies, p)) * 1e3 for p in PERCENTILES}
    return Row(
        transport=transport,
        shape=shape,
        callers=callers,
        calls=made + len(latencies),
        calls_per_second=throughput,
        gigabytes_per_second=throughput * 2 * 4 * math.prod(shape) / 1e9,
        due_per_second=due,
        milliseconds=milliseconds | {"max": max(latencies) * 1e3},
        phases=phases,
        peak_bytes=None if memory is None else max(memory.server.peak() - memory.idle, 0),
    )


def _as_many_as_possible(
    call: Callable[[], Any], callers: int, seconds: float
) -> tuple[int, float]:
    started = time.perf_counter()
    counts = [0] * callers

    def work(caller: int) -> None:
        while time.perf_counter() - started < seconds:
            call()
            counts[caller] += 1

    _in_threads(work, callers)
    return sum(counts), time.perf_counter() - started


def at_a_rate(
    call: Callable[[], LossResult], callers: int, rate: float, count: int
) -> tuple[list[float], dict[str, float]]:
    """Makes calls that are due at even intervals.

    Returns:
        Seconds from when each call was due to its answer, and the server's phases in milliseconds.
    """
    indices = itertools.count()
    latencies: list[float] = []
    timings: list[Any] = []
    started = time.perf_counter()

    def work(_: int) -> None:
        while (index := next(indices)) < count:
            due = started + index / rate
            time.sleep(max(due - time.perf_counter(), 0))
            timing = call().server_timing
            latencies.append(time.perf_counter() - due)
            timings.append(timing)

    _in_threads(work, callers)
    return latencies, {
        phase: statistics.median(getattr(timing, phase) for timing in timings) * 1e3
        for phase in PHASES
    }


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
