"""``lossd metrics``."""

import click

from lossd.cli.completing import complete_metrics
from lossd.cli.names import metric_named
from lossd.cli.page_text import print_pages
from lossd.cli.pages import metric_pages


@click.command()
@click.argument("name", required=False, shell_complete=complete_metrics)
@click.option("--search", metavar="WORDS", help="List those that all of these words are about.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: everything that is known.")
def metrics(*, name: str | None, search: str | None, as_json: bool) -> None:
    """List the evaluation metrics; with NAME, say everything about one."""
    chosen = None if name is None else metric_named(name)
    print_pages(metric_pages(), chosen, search, as_json=as_json)
