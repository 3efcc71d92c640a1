"""``lossd doctor``."""

from dataclasses import asdict
from pathlib import Path

import click
from click.core import ParameterSource
from rich.table import Table
from rich.text import Text

from lossd.cli.failures import told
from lossd.cli.machine import Finding, findings_here
from lossd.cli.reaching import Credentials, connected_client, takes_tls
from lossd.cli.running import findings_of
from lossd.cli.settings import SERVES_TOO, takes_hidden_settings
from lossd.cli.shown import console, print_json
from lossd.serving.config import Config, settings


@click.command(epilog=SERVES_TOO)
@click.option(
    "--server", metavar="ADDRESS", is_eager=True,  # before settings, which ask for it
    help="Look at the server that runs there, and test its losses, instead of this machine.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@takes_tls
@takes_hidden_settings
def doctor(*, config: Config, server: str | None, as_json: bool, credentials: Credentials) -> None:
    """Look at this machine, and test every loss on it.

    It fails if something is wrong. The settings are those that lossd serve would have. With
    --server, their variables are left unread, flags of TLS are those of a client, and --token-file
    has the token that proves who asks.
    """
    if server is None:
        findings = list(findings_here(config))
    else:
        _refuse_settings()
        token = Path(config.token_file) if config.token_file else None
        with told(), connected_client(server, Credentials(credentials.tls, token)) as client:
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
        if setting.name == "token_file":
            continue
        if context.get_parameter_source(setting.name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{setting.flag} must be left out with --server, got both")


def _print(findings: list[Finding]) -> None:
    table = Table("", "looked at", "found", show_header=False)
    table.columns[1].overflow = table.columns[2].overflow = "fold"
    for finding in findings:
        mark = _mark(finding)
        table.add_row(mark, Text(finding.thing), Text(finding.found))
    console().print(table)


def _mark(finding: Finding) -> Text:
    if finding.is_bad:
        return Text("wrong", style="red")
    return Text("warn", style="yellow") if finding.is_warning else Text("ok", style="green")
