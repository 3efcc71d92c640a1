"""``lossd losses``."""

from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from lossd.backends.numpy import NumpyBackend
from lossd.cli import charts
from lossd.cli.files import PlotFile, writing
from lossd.engine import Engine
from lossd.losses import LOSSES, Loss, Shape
from lossd.serving import catalogue


@click.command()
@click.option(
    "--plot",
    type=PlotFile(),
    help="Draw each pointwise loss and its gradient into this file instead.",
)
def losses(plot: Path | None) -> None:
    """List the losses, their inputs and their parameters."""
    if plot is not None:
        _draw(plot)
        return
    table = Table("loss", "computes", "inputs", "parameters [default] in bounds", expand=True)
    for loss in LOSSES.values():
        table.add_row(
            loss.message, loss.summary, _inputs(loss), _parameters(loss), end_section=True
        )
    Console().print(table)


def _draw(path: Path) -> None:
    pointwise = [loss for loss in LOSSES.values() if loss.shape is Shape.POINTWISE]
    engine = Engine(NumpyBackend(threads=1))
    try:
        with writing(path):
            charts.draw(engine, pointwise, path)
    finally:
        engine.backend.close()
    click.echo(f"{len(pointwise)} losses in {path}")


def _inputs(loss: Loss) -> str:
    return "\n".join(
        f"{declared.name} {' or '.join(catalogue.shapes(loss, declared))}"
        for declared in loss.inputs
    )


def _parameters(loss: Loss) -> str:
    return "\n".join(
        f"{p.name} \\[{catalogue.default_text(p) or 'unset'}] {p.bounds or ''}".rstrip()
        for p in loss.all_parameters
    )
