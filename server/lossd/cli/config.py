"""``lossd config``."""

import os

import click
from click.core import ParameterSource
from rich.console import Console
from rich.table import Table

from lossd.cli.settings import takes_settings
from lossd.serving.config import Config, settings, unknown_variables

_SOURCES = {
    ParameterSource.COMMANDLINE: "flag",
    ParameterSource.ENVIRONMENT: "environment",
}


@click.command()
@click.option("--check", is_flag=True, help="Only check, and fail at variables that are misspelt.")
@takes_settings
def config(config: Config, check: bool) -> None:  # noqa: FBT001 - click calls by keyword
    """Show the settings that ``serve`` would run with, and where each comes from."""
    unknown = unknown_variables(os.environ)
    if check and unknown:
        raise click.ClickException(f"variables must be settings of lossd, got {', '.join(unknown)}")
    if check:
        click.echo("every setting is in bounds")
        return
    context = click.get_current_context()
    table = Table("setting", "value", "from", "variable")
    for setting in settings():
        source = context.get_parameter_source(setting.name)
        table.add_row(
            setting.flag,
            str(getattr(config, setting.name)),
            _SOURCES.get(source, "default") if source else "default",
            setting.variable,
        )
    Console().print(table)
    for name in unknown:
        click.echo(f"{name} is set, and is no setting", err=True)
