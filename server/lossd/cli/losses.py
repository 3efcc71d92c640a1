"""``lossd losses``."""

import click
from rich.console import Console
from rich.table import Table

from lossd.losses import LOSSES, Loss
from lossd.serving import catalogue


@click.command()
def losses() -> None:
    """List the losses, their inputs and their parameters."""
    table = Table("loss", "computes", "inputs", "parameters [default] in bounds", expand=True)
    for loss in LOSSES.values():
        table.add_row(
            loss.message, loss.summary, _inputs(loss), _parameters(loss), end_section=True
        )
    Console().print(table)


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
