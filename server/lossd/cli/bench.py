"""``lossd bench``: how long calls take, by transport, size and number of callers.

First as many calls as possible are made, which gives the throughput.  Then calls are due at even
intervals, at a share of it, and each is timed from the moment when it was due: a call that waits
because another was slow counts with its wait, which a loop of calls would leave out ("coordinated
omission", Tene 2013).
"""

import contextlib
import itertools
import json
import math
import re
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from lossd.cli.served import Served, served
from lossd.client import LossClient
from lossd.client.result import LossResult
from lossd.v1 import CrossEntropy

TRANSPORTS = ("tcp", "unix", "shared_memory")
PHASES = ("receive", "decode", "queue", "compute")
PERCENTILES = (50, 90, 99)
_MEMORY = Path("/dev/shm")  # noqa: S108 - the one tmpfs that every Linux has
_QUIET = ("--log-level", "warning")
_SHAPE = re.compile(r"([1-9]\d*)x([1-9]\d*)")


@dataclass(frozen=True, slots=True)
class Row:
    """What was measured of one transport, shape and number of callers.

    ``milliseconds`` has percentiles and the maximum, ``phases`` medians of the server's times in
    milliseconds, ``peak_bytes`` the server's memory at most beyond what it began with; it keeps
    what is freed, so that this is of the largest call so far.
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
    peak_bytes: int


@click.command()
@click.option(
    "--transport", "transports", type=click.Choice(TRANSPORTS), multiple=True, default=TRANSPORTS,
    show_default=True, help="How calls travel; again for several.",
)  # fmt: skip
@click.option(
    "--shape", "shapes", metavar="ROWSxCLASSES", multiple=True, default=("32x10", "4096x1000"),
    show_default=True, help="Shape of the predictions; again for several.",
)  # fmt: skip
@click.option(
    "--callers", "callers", type=click.IntRange(1, 64), multiple=True, default=(1, 4),
    show_default=True, help="Threads that call; again for several.",
)  # fmt: skip
@click.option(
    "--seconds", type=click.FloatRange(0.1), default=2.0, show_default=True,
    help="How long each of the two parts of a measurement takes.",
)  # fmt: skip
@click.option(
    "--load", type=click.FloatRange(0.01, 1), default=0.7, show_default=True,
    help="Calls that are due, as a share of the throughput.",
)  # fmt: skip
@click.option("--json", "report", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path))
def bench(
    *,
    transports: tuple[str, ...],
    shapes: tuple[str, ...],
    callers: tuple[int, ...],
    seconds: float,
    load: float,
    report: Path | None,
    plot: Path | None,
) -> None:
    """Time CrossEntropy and its gradient on a server in a second process."""
    sizes = [_shape(text) for text in shapes]
    rows = []
    for transport in transports:
        with serving(transport) as server, LossClient(server.address) as client:
            idle = server.resident()
            for shape, count in itertools.product(sizes, callers):
                call = _call(client, transport, shape)
                kind = transport, shape, count
                rows.append(measure(kind, call, Effort(seconds, load), server, idle))
    Console(width=120).print(_table(rows))
    if report is not None:
        report.write_text(json.dumps([asdict(row) for row in rows], indent=2))
    if plot is not None:
        _draw(rows, plot)


def _shape(text: str) -> tuple[int, int]:
    found = _SHAPE.fullmatch(text)
    if not found:
        raise click.ClickException(f"--shape must be ROWSxCLASSES, for example 32x10, got {text}")
    return int(found[1]), int(found[2])


@contextlib.contextmanager
def serving(transport: str) -> Iterator[Served]:
    """A server that is reached by a transport."""
    if transport == "tcp":
        with served(*_QUIET) as server:
            yield server
        return
    memory = _MEMORY if _MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="lossd-bench-", dir=memory) as folder:
        sharing = ("--shm-dir", folder) if transport == "shared_memory" else ()
        with served(*_QUIET, *sharing, address=f"unix:{folder}/socket") as server:
            yield server


def _call(client: LossClient, transport: str, shape: tuple[int, int]) -> Callable[[], LossResult]:
    """What is timed: with shared memory the predictions lie there already."""
    random = np.random.default_rng(0)
    predictions = client.empty(shape) if transport == "shared_memory" else np.empty(shape, "f4")
    predictions[...] = random.standard_normal(shape, np.float32)
    labels = random.integers(0, shape[1], shape[0])
    return lambda: client.compute(CrossEntropy(), predictions=predictions, targets=labels)


# ------------------------------------------------------------------ measuring


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure, and how busy the server is to be."""

    seconds: float
    load: float


def measure(
    kind: tuple[str, tuple[int, int], int],
    call: Callable[[], LossResult],
    effort: Effort,
    server: Served,
    idle: int,
) -> Row:
    """Measures one kind of call: its transport, shape and callers."""
    transport, shape, callers = kind
    call()  # connects, and finds out how to travel
    server.forget_peak()
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
        peak_bytes=max(server.peak() - idle, 0),
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
        Seconds from when each was due to its answer, and the server's phases in milliseconds.
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


# ------------------------------------------------------------------ showing


def _table(rows: list[Row]) -> Table:
    table = Table(title="CrossEntropy and its gradient; times in ms", title_justify="left")
    heads = ("transport", "shape", "callers", "calls/s", "GB/s", "p50", "p90", "p99", "max")
    for head in (*heads, *PHASES, "peak MiB"):
        table.add_column(head, justify="left" if head in heads[:2] else "right")
    for row in rows:
        numbers = [row.gigabytes_per_second, *row.milliseconds.values(), *row.phases.values()]
        table.add_row(
            row.transport, "x".join(map(str, row.shape)), str(row.callers),
            f"{row.calls_per_second:.4g}", *(f"{number:.3g}" for number in numbers),
            f"{row.peak_bytes / (1 << 20):.1f}",
        )  # fmt: skip
    return table


def _draw(rows: list[Row], path: Path) -> None:
    """Latency over size: a line for the median of each transport, the 99th percentile above."""
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - the extra "demo" brings it
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f"--plot needs {error.name}: install it with pip install 'lossd[demo]'"
        ) from error
    fewest = min(row.callers for row in rows)
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot(
        xlabel="size of the predictions, MiB", ylabel="latency, ms", xscale="log", yscale="log",
        title=f"CrossEntropy and its gradient, callers: {fewest}",
    )  # fmt: skip
    for transport in dict.fromkeys(row.transport for row in rows):
        own = [row for row in rows if (row.transport, row.callers) == (transport, fewest)]
        own.sort(key=lambda row: math.prod(row.shape))
        sizes = [4 * math.prod(row.shape) / (1 << 20) for row in own]
        medians, tails = ([row.milliseconds[p] for row in own] for p in ("p50", "p99"))
        (line,) = axes.plot(sizes, medians, marker="o", label=transport.replace("_", " "))
        axes.fill_between(sizes, medians, tails, color=line.get_color(), alpha=0.15, linewidth=0)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, title="median, and up to p99", title_fontsize="small")
    figure.savefig(path, dpi=120)
