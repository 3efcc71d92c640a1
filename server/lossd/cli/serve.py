"""``lossd serve``."""

import logging

import click

from lossd.backends.choose import BackendChoice
from lossd.errors import LossdError
from lossd.serving import app
from lossd.serving.config import Config

DEFAULTS = Config()


@click.command(context_settings={"auto_envvar_prefix": "LOSSD", "show_default": True})
@click.option(
    "--address", default=DEFAULTS.address, help="host:port or unix:/path; port 0 picks one."
)
@click.option(
    "--metrics-port", default=DEFAULTS.metrics_port, help="Port of /metrics; 0 picks one."
)
@click.option("--metrics-host", default=DEFAULTS.metrics_host, help="Host of /metrics.")
@click.option(
    "--backend",
    type=click.Choice([choice.value for choice in BackendChoice]),
    default=DEFAULTS.backend.value,
    help="Where to compute; auto takes a GPU if there is a usable one.",
)
@click.option("--threads", default=0, help="Threads that compute; 0 for one a core.")
def serve(address: str, metrics_port: int, metrics_host: str, backend: str, threads: int) -> None:
    """Serve losses until SIGTERM or SIGINT."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    config = Config(
        address=address,
        metrics_port=metrics_port,
        metrics_host=metrics_host,
        backend=BackendChoice(backend),
        threads=threads,
    )
    stop = app.stop_signal()
    try:
        server = app.start(config)
    except LossdError as error:
        raise click.ClickException(str(error)) from error
    # One line, for people and for the programs that started us with port 0.
    click.echo(f"ready address={server.address} metrics={server.metrics_url}")
    stop.wait()
    server.stop()
