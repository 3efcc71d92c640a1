"""``lossd bench``: how long calls of a loss take, by transport, size and number of callers."""

import contextlib
import itertools
import json
import math
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from lossd.cli.arguments import Real, WholeWithin
from lossd.cli.bench_compare import Change, change_tables, compared
from lossd.cli.bench_report import draw, tables
from lossd.cli.completing import complete_losses, complete_parameters
from lossd.cli.failures import told
from lossd.cli.files import OutputFile, PlotFile, check_outputs, writing
from lossd.cli.measuring import Effort, KindOfCall, Row, ServerMemory, measure
from lossd.cli.reaching import (
    Credentials,
    connected_client,
    is_given,
    refuse_with_address,
    takes_credentials,
)
from lossd.cli.served import RunningServer, running_server
from lossd.cli.shown import console, plain
from lossd.cli.workloads import DTYPES, Workload, workload
from lossd.client import LossClient

TRANSPORTS = ("tcp", "unix", "shared_memory")
_MEMORY = Path("/dev/shm")  # noqa: S108 - the one tmpfs that every Linux has
_STDOUT = Path("-")
_SHAPE = re.compile(r"[1-9][0-9]{0,8}(x[1-9][0-9]{0,8}){0,7}")
_MOST_NUMBERS = 1 << 26  # of the first input: 256 MiB, half of the limit of a message
_USUAL = "cross_entropy"

Kinds = Sequence[tuple[tuple[int, ...], int]]  # the shape and the number of callers of each


@click.command()
@click.argument("loss", default=_USUAL, shell_complete=complete_losses)
@click.option(
    "--shape", "shapes", metavar="SHAPE", multiple=True,
    help="Sizes of the first input, such as 32x10; again for several.  [default: a small and a "
    "large batch]",
)  # fmt: skip
@click.option(
    "--dtype", type=click.Choice(tuple(DTYPES)), default="float32", show_default=True,
    help="Type of the inputs that may have fractions.",
)  # fmt: skip
@click.option(
    "--param", "parameters", multiple=True, metavar="NAME=VALUE",
    shell_complete=complete_parameters, help="A parameter of the loss, as for compute.",
)  # fmt: skip
@click.option(
    "--input", "also", multiple=True, metavar="NAME",
    help="An optional input to send too; again for several.",
)  # fmt: skip
@click.option(
    "--transport", "transports", type=click.Choice(TRANSPORTS), multiple=True, default=TRANSPORTS,
    show_default=True, help="How calls travel; again for several.",
)  # fmt: skip
@click.option(
    "--callers", "callers", type=WholeWithin(1, 64), multiple=True, default=(1, 4),
    show_default=True, help="Threads that call; again for several.",
)  # fmt: skip
@click.option(
    "--seconds", type=Real(0.1, 3600), default=2.0, show_default=True,
    help="How long each part of a measurement takes.",
)  # fmt: skip
@click.option(
    "--load", type=Real(0.01, 1), default=0.7, show_default=True,
    help="Calls that are due while latencies are measured, as a share of the throughput, which "
    "is measured first.",
)  # fmt: skip
@click.option(
    "--rate", type=Real(0.01, 1e6), metavar="CALLS",
    help="Calls that are due each second, whatever the throughput is.",
)  # fmt: skip
@click.option(
    "--closed", is_flag=True,
    help="No call is due: each caller calls again when it has its answer.",
)  # fmt: skip
@click.option(
    "--address", metavar="ADDRESS",
    help="Address of a running server to measure instead of one of its own, by the way it offers.",
)  # fmt: skip
@click.option(
    "--networks", type=click.Path(file_okay=False, exists=True, path_type=Path),
    help="Directory of the networks that losses of images look through, as for serve.",
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
    loss: str,
    shapes: tuple[str, ...],
    dtype: str,
    parameters: tuple[str, ...],
    also: tuple[str, ...],
    callers: tuple[int, ...],
    report: Path | None,
    plot: Path | None,
    compare: tuple[Path, Path] | None,
    **options: Any,
) -> None:
    """Time LOSS and its gradients.

    They are computed by servers that are started for it, or by one at --address. Latencies count
    from the moment when a call was due, at a steady rate.
    """
    check_outputs()
    if compare:
        _compare(compare, report)
        return
    work = workload(loss, parameters, also, dtype)
    sizes = [_shape(text) for text in shapes] or work.usual_shapes()
    kinds = list(itertools.product(sizes, callers))
    with told():
        rows = list(_measured(work, kinds, **options))
    _report(rows, tables(rows), report)
    if plot is not None:
        draw(rows, plot)


def _measured(
    work: Workload,
    kinds: Kinds,
    *,
    transports: tuple[str, ...],
    address: str | None,
    credentials: Credentials,
    networks: Path | None,
    **pace: Any,
) -> Iterator[Row]:
    """Yields the measurements of a server that runs, or of one for each transport."""
    effort = _effort(**pace)
    for shape, _ in kinds:
        work.random_inputs(shape, most=2)  # refuses a shape before a server is started
    if address is None:
        for transport in transports:
            yield from _of_own(transport, work, kinds, effort, networks)
        return
    refuse_with_address("transports", "networks")
    yield from _of_running(address, credentials, work, kinds, effort)


def _effort(*, seconds: float, load: float, rate: float | None, closed: bool) -> Effort:
    """Returns how to measure; how many calls are due can be said in one way only."""
    names = [name for name in ("load", "rate", "closed") if is_given(name)]
    if len(names) > 1:
        flags = " and ".join(f"--{name}" for name in names)
        raise click.UsageError(f"--load, --rate or --closed must come alone, got {flags}")
    return Effort(seconds, load, rate, closed)


def _compare(files: tuple[Path, Path], report: Path | None) -> None:
    """Reports how the second file differs from the first.

    Raises:
        click.UsageError: if a flag of a measurement is given too.
    """
    own = ("compare", "report")
    if any(is_given(name) for name in click.get_current_context().params if name not in own):
        raise click.UsageError(
            "--compare must come alone or with --json, got more of a measurement"
        )
    changes = compared(*files)
    _report(changes, change_tables(changes), report)


def _report(found: Sequence[Row | Change], shown: Iterable[Table], report: Path | None) -> None:
    """Prints tables, or JSON in their place, or writes it beside them."""
    text = json.dumps(plain([asdict(one) for one in found]), indent=2)
    if report == _STDOUT:
        click.echo(text)
        return
    console().print(*shown, sep="\n")
    if report is not None:
        with writing(report):
            report.write_text(text)


def _of_own(
    transport: str, work: Workload, kinds: Kinds, effort: Effort, networks: Path | None
) -> Iterator[Row]:
    """Measures a server that is started for the measurement."""
    flags = () if networks is None else ("--networks", str(networks))
    with serving(transport, *flags) as server, LossClient(server.address) as client:
        memory = ServerMemory(server, server.resident())
        for shape, callers in kinds:
            subject = work.subject(client, shape, is_shared=transport == "shared_memory")
            yield measure(_kind(work, transport, shape, callers), subject, effort, memory)


def _of_running(
    address: str, credentials: Credentials, work: Workload, kinds: Kinds, effort: Effort
) -> Iterator[Row]:
    """Measures a server that runs already, whose memory cannot be observed."""
    with connected_client(address, credentials) as client:
        is_shared = "shared_memory" in client.server_info().transports
        for shape, callers in kinds:
            subject = work.subject(client, shape, is_shared=is_shared)
            transport = subject.call().transport
            yield measure(_kind(work, transport, shape, callers), subject, effort, None)


def _kind(work: Workload, transport: str, shape: tuple[int, ...], callers: int) -> KindOfCall:
    return KindOfCall(work.loss.name, work.parameters, work.dtype, transport, shape, callers)


def _shape(text: str) -> tuple[int, ...]:
    if not _SHAPE.fullmatch(text):
        raise click.UsageError(f"--shape must be sizes such as 32x10 or 4096, got {text}")
    shape = tuple(map(int, text.split("x")))
    if math.prod(shape) > _MOST_NUMBERS:
        raise click.UsageError(f"--shape must have at most {_MOST_NUMBERS} numbers, got {text}")
    return shape


@contextlib.contextmanager
def serving(transport: str, *flags: str) -> Iterator[RunningServer]:
    """Runs a server that is reached by a transport."""
    quiet = ("--log-level", "warning", *flags)
    if transport == "tcp":
        with running_server(*quiet) as server:
            yield server
        return
    memory = _MEMORY if _MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="lossd-bench-", dir=memory) as folder:
        sharing = ("--shm-dir", folder) if transport == "shared_memory" else ()
        with running_server(*quiet, *sharing, address=f"unix:{folder}/socket") as server:
            yield server
