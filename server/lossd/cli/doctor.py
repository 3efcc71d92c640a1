"""``lossd doctor``."""

from dataclasses import asdict

import click
from click.core import ParameterSource
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lossd.cli.failures import told
from lossd.cli.machine import Finding, findings_here
from lossd.cli.reaching import reached
from lossd.cli.running import findings_of
from lossd.cli.settings import SERVES_TOO, takes_hidden_settings
from lossd.cli.shown import print_json
from lossd.serving.config import Config, settings


@click.command(epilog=SERVES_TOO)
@click.option(
    "--server", metavar="ADDRESS",
    help="Look at the server that runs there, and test its losses, instead of this machine.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@takes_hidden_settings
def doctor(*, config: Config, server: str | None, as_json: bool) -> None:
    """Look at this machine and test every loss on it; fail if something is wrong.

    The settings are those that lossd serve would have.
    """
    if server is None:
        findings = list(findings_here(config))
    else:
        _refuse_settings()
        with told(), reached(server) as client:
            findings = list(findings_of(client))
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        _print(findings)
    if any(finding.is_bad for finding in findings):
        raise click.ClickException("something is wrong, see above")


def _refuse_settings() -> None:
    """Refuses flags for a server that is yet to start, which would have no effect here."""
    context = click.get_current_context()
    for setting in settings():
        if context.get_parameter_source(setting.name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{setting.flag} must be left out with --server, got both")


def _print(findings: list[Finding]) -> None:
    table = Table("", "looked at", "found", show_header=False)
    table.columns[1].overflow = table.columns[2].overflow = "fold"
    for finding in findings:
        mark = Text("wrong", style="red") if finding.is_bad else Text("ok", style="green")
        table.add_row(mark, Text(finding.thing), Text(finding.found))
    Console().print(table)
