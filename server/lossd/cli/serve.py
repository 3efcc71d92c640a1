"""``lossd serve``."""

import logging
import os

import click

from lossd.cli.settings import SectionedCommand, takes_settings
from lossd.errors import ServiceError
from lossd.serving import app
from lossd.serving.addresses import AddressError
from lossd.serving.config import Config, unknown_variables
from lossd.serving.process import files, logs
from lossd.serving.process.allocator import keep_freed_memory
from lossd.serving.process.signals import EndingSignal
from lossd.serving.rpc import threads

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

    threads.when_one_dies(fail)
    try:
        server = app.start(config, on_failure=fail, log_lines_lost=lambda: lines.lost)
    except AddressError as error:
        said = "--address and --metrics-port say where to serve"
        raise click.ClickException(f"{error} ({said})") from error
    except ServiceError as error:
        raise click.ClickException(str(error)) from error
    # One line, for people and for the programs that started us with port 0.
    click.echo(f"ready address={server.address} metrics={server.metrics_url}")
    ending.wait()
    has_stopped = server.stop(in_doubt=bool(reasons))
    if has_stopped:
        ending.status = 1 if reasons else 0
    else:
        reasons.append("gRPC must end its calls, got nothing from it")
    server.close()
    if not reasons:
        return
    failure = click.ClickException(f"{reasons[0]}: start again")
    if has_stopped:
        raise failure
    failure.show()
    ending.leave(failure.exit_code)
