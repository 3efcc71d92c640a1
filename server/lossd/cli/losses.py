"""``lossd losses``."""

from pathlib import Path

import click

from lossd.backends.numpy import NumpyBackend
from lossd.cli import charts
from lossd.cli.completing import complete_losses
from lossd.cli.failures import told
from lossd.cli.files import PlotFile, writing
from lossd.cli.listed import page_named, served_losses
from lossd.cli.loss_pages import loss_pages
from lossd.cli.names import loss_named, refuse_metric
from lossd.cli.page_text import print_pages, terminal_width
from lossd.cli.reaching import (
    Credentials,
    connected_client,
    refuse_with_address,
    takes_credentials,
)
from lossd.cli.terminal_plot import plot_text
from lossd.engine import Engine
from lossd.losses import LOSSES, Loss, Shape


@click.command()
@click.argument("name", required=False, shell_complete=complete_losses)
@click.option("--search", metavar="WORDS", help="List those that match all of these words.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: everything that is known.")
@click.option(
    "--plot", type=PlotFile(),
    help="Draw each pointwise loss and its gradient, or NAME alone, into this file instead.",
)  # fmt: skip
@click.option(
    "--address",
    metavar="ADDRESS",
    help="Address of a server, to list its losses instead of one's own.",
)
@takes_credentials
def losses(
    *,
    name: str | None,
    search: str | None,
    as_json: bool,
    plot: Path | None,
    address: str | None,
    credentials: Credentials,
) -> None:
    """List the losses; with NAME, say everything about one."""
    if name is not None:
        refuse_metric(name)
    if address is not None:
        refuse_with_address("plot")
        with told(), connected_client(address, credentials) as client:
            pages = served_losses(client)
        served = None if name is None else page_named(name, pages)
        print_pages(pages, served, search, as_json=as_json)
        return
    chosen = None if name is None else loss_named(name)
    if plot is not None:
        _draw(_drawn(chosen), plot)
        return
    is_drawn = chosen in LOSSES and not as_json
    curves = plot_text(LOSSES[chosen], terminal_width()) if chosen and is_drawn else ""
    print_pages(loss_pages(), chosen, search, as_json=as_json, plot=curves)


def _drawn(chosen: str | None) -> list[Loss]:
    pointwise = [loss for loss in LOSSES.values() if loss.shape is Shape.POINTWISE]
    if chosen is None:
        return pointwise
    found = [loss for loss in pointwise if loss.name == chosen]
    if not found:
        names = ", ".join(loss.name for loss in pointwise)
        raise click.UsageError(f"--plot must be of a loss of two numbers ({names}), got {chosen}")
    return found


def _draw(drawn: list[Loss], path: Path) -> None:
    engine = Engine(NumpyBackend(threads=1))
    try:
        with writing(path):
            charts.draw(engine, drawn, path)
    finally:
        engine.backend.close()
    click.echo(f"{len(drawn)} losses in {path}")
