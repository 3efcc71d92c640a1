"""``lossd config``."""

from collections.abc import Iterable, Sequence
from typing import Any

import click
from click.core import ParameterSource
from rich.table import Table
from rich.text import Text

from lossd.cli.failures import told
from lossd.cli.settings import SERVES_TOO, takes_hidden_settings
from lossd.cli.shown import console, print_json
from lossd.cli.variables import misspelt_variables
from lossd.errors import ServiceError
from lossd.serving import free_addresses
from lossd.serving.access import entrance
from lossd.serving.cautions import cautions
from lossd.serving.config import Config, Setting, settings

_SOURCES = {
    ParameterSource.COMMANDLINE: "flag",
    ParameterSource.ENVIRONMENT: "environment",
}

_LEAST_FOR_VALUES = len("127.0.0.1:50051") + 1


@click.command(epilog=SERVES_TOO)
@click.option(
    "--check", is_flag=True, help="Only check the settings, and the files that they name."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@takes_hidden_settings
def config(*, config: Config, check: bool, as_json: bool) -> None:
    """Show the settings of lossd serve, and where each comes from."""
    unknown = misspelt_variables()
    if check and unknown:
        said = ", ".join(unknown) + next(iter(unknown.values()))
        raise click.ClickException(f"variables must be settings of lossd, got {said}")
    if check:
        _warn(config)
        _check_files(config)
        click.echo("every setting is in bounds")
        return
    shown = [(setting, getattr(config, setting.name), _source(setting)) for setting in settings()]
    if as_json:
        print_json(
            [
                {"flag": s.flag, "value": value, "from": source, "variable": s.variable}
                for s, value, source in shown
            ]
        )
    else:
        _print(shown)
    for name in unknown:
        click.echo(f"{name} is set, and is no setting", err=True)


def _warn(config: Config) -> None:
    """Says what is no mistake in itself, and is seldom meant.

    Raises:
        click.ClickException: if a file that says who may come in cannot be used.
    """
    try:
        found = list(cautions(config, entrance.build(config)))
    except ServiceError as error:
        raise click.ClickException(str(error)) from error
    for said in found:
        click.echo(f"warning: {said}", err=True)


def _check_files(config: Config) -> None:
    """Checks what a server would read, share, send with or make, as ``lossd doctor`` does.

    Raises:
        click.ClickException: if it cannot be used.
    """
    from lossd.cli.machine import files_here  # noqa: PLC0415 - it imports all that computes

    with told():
        free_addresses.check_directory(config.address)
    for finding in files_here(config):
        if finding.is_bad:
            raise click.ClickException(finding.found)


def _source(setting: Setting) -> str:
    source = click.get_current_context().get_parameter_source(setting.name)
    return _SOURCES.get(source, "default") if source else "default"


def _print(shown: list[tuple[Setting, Any, str]]) -> None:
    """Prints a table, without the variables where they would leave values too little room."""
    others = zip(*((s.flag, source, s.variable) for s, _, source in shown), strict=True)
    taken = sum(1 + max(map(len, cells)) for cells in others)
    columns = ["setting", "value", "from", "variable"]
    stdout = console()
    if taken + _LEAST_FOR_VALUES > stdout.width:
        columns.pop()
    rows = ((s.flag, Text(str(value)), source, s.variable) for s, value, source in shown)
    stdout.print(_table(rows, columns))


def _table(rows: Iterable[Sequence[str | Text]], columns: list[str]) -> Table:
    """Returns as many cells of each row as there are columns."""
    table = Table(*columns, box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for column in table.columns:
        column.no_wrap, column.overflow = column.header != "value", "fold"
    for row in rows:
        table.add_row(*row[: len(columns)])
    return table
