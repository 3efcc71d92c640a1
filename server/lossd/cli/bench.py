"""``lossd bench``: how long calls take, by transport, size and number of callers."""

import contextlib
import itertools
import json
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import click
import numpy as np
from click.core import ParameterSource
from rich.console import Console
from rich.table import Table

from lossd.cli.arguments import Real
from lossd.cli.bench_compare import Change, compared, table
from lossd.cli.bench_report import draw, tables
from lossd.cli.failures import told
from lossd.cli.files import OutputFile, PlotFile, writing
from lossd.cli.measuring import Effort, Row, ServerMemory, measure
from lossd.cli.reaching import Credentials, connected_client, takes_credentials
from lossd.cli.served import RunningServer, running_server
from lossd.cli.shown import plain
from lossd.client import LossClient
from lossd.client.result import LossResult
from lossd.v1 import CrossEntropy

TRANSPORTS = ("tcp", "unix", "shared_memory")
_MEMORY = Path("/dev/shm")  # noqa: S108 - the one tmpfs that every Linux has
_STDOUT = Path("-")
_QUIET = ("--log-level", "warning")
_SHAPE = re.compile(r"([1-9]\d{0,8})x([1-9]\d{0,8})")
_MOST_NUMBERS = 1 << 26  # of predictions: 256 MiB, half of the limit of a message


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
    "--seconds", type=Real(0.1, 3600), default=2.0, show_default=True,
    help="How long each of the two parts of a measurement takes.",
)  # fmt: skip
@click.option(
    "--load", type=Real(0.01, 1), default=0.7, show_default=True,
    help="Calls that are due, as a share of the throughput.",
)  # fmt: skip
@click.option(
    "--address", metavar="ADDRESS",
    help="Of a running server to measure instead of one of its own, by the way it offers.",
)  # fmt: skip
@click.option(
    "--json", "report", type=OutputFile(), is_flag=False, flag_value="-", metavar="[FILE]",
    help="Write the measurements as JSON into this file; without FILE, print them instead.",
)  # fmt: skip
@click.option(
    "--plot", type=PlotFile(), help="Draw latencies into this file, for example bench.png."
)
@click.option(
    "--compare", "compare", type=click.Path(dir_okay=False, exists=True, path_type=Path), nargs=2,
    metavar="BEFORE AFTER", help="Measure nothing; compare two files that --json wrote.",
)  # fmt: skip
@takes_credentials
def bench(
    *,
    transports: tuple[str, ...],
    shapes: tuple[str, ...],
    callers: tuple[int, ...],
    seconds: float,
    load: float,
    address: str | None,
    report: Path | None,
    plot: Path | None,
    compare: tuple[Path, Path] | None,
    credentials: Credentials,
) -> None:
    """Time CrossEntropy and its gradient, on a server in a second process or at --address.

    --load tells how busy the server is while latencies are measured.
    """
    if compare:
        _compare(compare, report)
        return
    sizes = [_shape(text) for text in shapes]
    effort = Effort(seconds, load)
    kinds = list(itertools.product(sizes, callers))
    with told():
        if address is not None:
            _refuse_transports()
            rows = list(_of_running(address, credentials, kinds, effort))
        else:
            rows = [row for name in transports for row in _of_own(name, kinds, effort)]
    _report(rows, tables(rows), report)
    if plot is not None:
        draw(rows, plot)


def _compare(files: tuple[Path, Path], report: Path | None) -> None:
    """Reports how the second file differs from the first.

    Raises:
        click.UsageError: if a flag of a measurement is given too.
    """
    context = click.get_current_context()
    for name in ("transports", "shapes", "callers", "seconds", "load", "address", "plot"):
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(
                "--compare must come alone or with --json, got a flag of a measurement"
            )
    changes = compared(*files)
    _report(changes, [table(changes)], report)


def _report(found: Sequence[Row | Change], shown: Iterable[Table], report: Path | None) -> None:
    """Prints tables, or JSON in their place, or writes it beside them."""
    text = json.dumps(plain([asdict(one) for one in found]), indent=2)
    if report == _STDOUT:
        click.echo(text)
        return
    Console().print(*shown, sep="\n")
    if report is not None:
        with writing(report):
            report.write_text(text)


def _refuse_transports() -> None:
    context = click.get_current_context()
    if context.get_parameter_source("transports") is ParameterSource.COMMANDLINE:
        raise click.UsageError("--transport must be left out with --address, got both")


Kinds = list[tuple[tuple[int, int], int]]


def _of_own(transport: str, kinds: Kinds, effort: Effort) -> Iterator[Row]:
    """Measures a server that is started for the measurement."""
    with serving(transport) as server, LossClient(server.address) as client:
        memory = ServerMemory(server, server.resident())
        for shape, callers in kinds:
            call = _call(client, shape, is_shared=transport == "shared_memory")
            yield measure((transport, shape, callers), call, effort, memory)


def _of_running(
    address: str, credentials: Credentials, kinds: Kinds, effort: Effort
) -> Iterator[Row]:
    """Measures a server that runs already, whose memory cannot be observed."""
    with connected_client(address, credentials) as client:
        is_shared = "shared_memory" in client.server_info().transports
        for shape, callers in kinds:
            call = _call(client, shape, is_shared=is_shared)
            yield measure((call().transport, shape, callers), call, effort, None)


def _shape(text: str) -> tuple[int, int]:
    found = _SHAPE.fullmatch(text)
    if not found:
        raise click.UsageError(f"--shape must be ROWSxCLASSES, for example 32x10, got {text}")
    rows, classes = int(found[1]), int(found[2])
    if rows * classes > _MOST_NUMBERS:
        raise click.UsageError(f"--shape must have at most {_MOST_NUMBERS} numbers, got {text}")
    return rows, classes


@contextlib.contextmanager
def serving(transport: str) -> Iterator[RunningServer]:
    """Runs a server that is reached by a transport."""
    if transport == "tcp":
        with running_server(*_QUIET) as server:
            yield server
        return
    memory = _MEMORY if _MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="lossd-bench-", dir=memory) as folder:
        sharing = ("--shm-dir", folder) if transport == "shared_memory" else ()
        with running_server(*_QUIET, *sharing, address=f"unix:{folder}/socket") as server:
            yield server


def _call(
    client: LossClient, shape: tuple[int, int], *, is_shared: bool
) -> Callable[[], LossResult]:
    """Returns the call to time; for shared memory its predictions lie there already."""
    random = np.random.default_rng(0)
    predictions = client.empty(shape) if is_shared else np.empty(shape, "f4")
    predictions[...] = random.standard_normal(shape, np.float32)
    labels = random.integers(0, shape[1], shape[0])
    return lambda: client.compute(CrossEntropy(), predictions=predictions, targets=labels)
