"""``lossd metrics``."""

import click

from lossd.cli.completing import complete_metrics
from lossd.cli.failures import told
from lossd.cli.listed import page_named, served_metrics
from lossd.cli.metric_pages import metric_pages
from lossd.cli.names import metric_named, refuse_loss
from lossd.cli.page_text import print_pages
from lossd.cli.reaching import Credentials, connected_client, takes_credentials


@click.command()
@click.argument("name", required=False, shell_complete=complete_metrics)
@click.option("--search", metavar="WORDS", help="List those that match all of these words.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: everything that is known.")
@click.option(
    "--address",
    metavar="ADDRESS",
    help="Address of a server, to list its metrics instead of one's own.",
)
@takes_credentials
def metrics(
    *,
    name: str | None,
    search: str | None,
    as_json: bool,
    address: str | None,
    credentials: Credentials,
) -> None:
    """List the metrics; with NAME, say everything about one."""
    if name is not None:
        refuse_loss(name)
    if address is None:
        chosen = None if name is None else metric_named(name)
        print_pages(metric_pages(), chosen, search, as_json=as_json)
        return
    with told(), connected_client(address, credentials) as client:
        pages = served_metrics(client)
    chosen = None if name is None else page_named(name, pages)
    print_pages(pages, chosen, search, as_json=as_json)
