"""``lossd serve``."""

import contextlib
import gc
import logging
import os
from collections.abc import Iterator

import click

from lossd.cli.settings import SectionedCommand, takes_settings
from lossd.cli.telling import tell
from lossd.errors import ServiceError
from lossd.serving import app
from lossd.serving.config import Config, LogFormat, unknown_variables
from lossd.serving.free_addresses import AddressError
from lossd.serving.process import files, logs
from lossd.serving.process.allocator import keep_freed_memory
from lossd.serving.process.signals import EndingSignal
from lossd.serving.rpc import threads
from lossd.serving.server import Server

log = logging.getLogger(__name__)


@click.command(cls=SectionedCommand)
@takes_settings
def serve(config: Config) -> None:
    """Serve losses until SIGTERM or SIGINT."""
    keep_freed_memory()  # before there is another thread, which would have an arena of its own
    lines = logs.configure(config.log_format, config.log_level)
    files.open_as_many_as_may_be()
    for name in unknown_variables(os.environ):
        log.warning("variable is no setting", extra={"variable": name})
    ending = EndingSignal(config.drain_delay_seconds + config.drain_seconds + 1)
    reasons: list[str] = []

    def fail(reason: str) -> None:
        reasons.append(reason)
        ending.give()

    def prepare() -> None:
        gc.collect()
        ending.begin()

    threads.when_one_dies(fail)
    with _explained(config.log_format):
        server = app.start(
            config,
            on_failure=fail,
            log_lines_lost=lambda: lines.lost,
            before_serving=prepare,
            is_wanted=lambda: not ending.has_come,
        )
    # What lasts as long as the process: each time that the collector looked at it, all calls waited
    # for 20 to 50 ms.
    gc.freeze()
    # One line, for people and for the programs that started us with port 0.
    tell(
        f"ready address={server.address} metrics={server.metrics_url}",
        is_wanted=lambda: not ending.has_come,
    )
    ending.wait()
    _stop(server, ending, reasons, config.log_format)


def _stop(server: Server, ending: EndingSignal, reasons: list[str], form: LogFormat) -> None:
    """Ends a server, and this process with its status; ``reasons`` are why it failed, if it did."""
    has_stopped = server.stop(in_doubt=bool(reasons))
    if has_stopped:
        ending.status = 1 if reasons else 0
    elif not reasons:
        reasons.append("gRPC must end its calls, got nothing from it")
        log.critical("calls are left", extra={"because": reasons[0]})
    server.close()
    if not reasons:
        return
    if form is LogFormat.TEXT:  # programs find the reason in the log
        click.echo(f"Error: {reasons[0]}: start again", err=True)
    if has_stopped:
        raise click.exceptions.Exit(1)
    ending.leave(1)


@contextlib.contextmanager
def _explained(form: LogFormat) -> Iterator[None]:
    """Says why a server does not start, once: to people in a line of its own, else in the log."""
    try:
        yield
    except ServiceError as error:
        where = ""
        if isinstance(error, AddressError):
            where = " (--address and --metrics-port say where to serve)"
        if form is LogFormat.TEXT:
            raise click.ClickException(f"{error}{where}") from error
        log.critical("cannot start", extra={"because": f"{error}{where}"})
        raise click.exceptions.Exit(1) from error
    except Exception as error:
        if form is LogFormat.TEXT:
            raise
        log.critical("cannot start", exc_info=True)
        raise click.exceptions.Exit(1) from error
