"""``lossd serve``."""

import logging
import os

import click

from lossd.cli.settings import SectionedCommand, takes_settings
from lossd.errors import LossdError
from lossd.serving import app, logs
from lossd.serving.config import Config, unknown_variables
from lossd.serving.signals import EndingSignal

log = logging.getLogger(__name__)


@click.command(cls=SectionedCommand)
@takes_settings
def serve(config: Config) -> None:
    """Serve losses until SIGTERM or SIGINT."""
    logs.configure(config.log_format, config.log_level)
    for name in unknown_variables(os.environ):
        log.warning("variable is no setting", extra={"variable": name})
    ending = EndingSignal()
    try:
        server = app.start(config, on_failure=ending.give)
    except LossdError as error:
        raise click.ClickException(str(error)) from error
    # One line, for people and for the programs that started us with port 0.
    click.echo(f"ready address={server.address} metrics={server.metrics_url}")
    ending.wait()
    server.stop()
    if server.has_failed:
        raise click.ClickException("the device must answer, got nothing from it: start again")
