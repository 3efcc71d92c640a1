"""``lossd top``."""

import contextlib
import time
import urllib.parse
from dataclasses import asdict
from pathlib import Path

import click
from rich.live import Live

from lossd.cli.arguments import Real
from lossd.cli.reaching import is_given
from lossd.cli.scrapes import Between, Scrape, ScrapeError, scrape
from lossd.cli.shown import console, print_json
from lossd.cli.top_text import view_text, waiting_text
from lossd.cli.top_view import View, view_of
from lossd.serving.config import Config

_DEFAULT = f"http://localhost:{Config().metrics_port}/metrics"


@click.command()
@click.argument("url", default=_DEFAULT)
@click.option(
    "--interval", type=Real(0.1, 3600), default=2.0, show_default=True,
    help="Seconds between two looks, over which rates are taken.",
)  # fmt: skip
@click.option("--once", is_flag=True, help="Print one view, after two looks, and end.")
@click.option("--json", "as_json", is_flag=True, help="With --once, print JSON.")
@click.option(
    "--tls-ca", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Authorities of the page, which is then https; else public ones.",
)  # fmt: skip
def top(*, url: str, interval: float, once: bool, as_json: bool, tls_ca: Path | None) -> None:
    """Watch a running server: rates, latencies, losses, limits.

    URL is the server's page of Prometheus metrics, http://localhost:9464/metrics by default; a host
    and a port are enough. What it shows is what Prometheus would compute from the same scrapes.
    """
    page = _completed(url, "http" if tls_ca is None else "https")
    if as_json and not once:
        raise click.UsageError("--json must come with --once, got it alone")
    if not once:
        _watch(page, interval, tls_ca)
        return
    try:
        first = scrape(page, tls_ca)
        time.sleep(interval)
        found = view_of(page, Between(first, scrape(page, tls_ca)))
    except ScrapeError as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        print_json(asdict(found))
    else:
        screen = console(highlight=False)
        screen.print(view_text(found, screen.width))


def _completed(text: str, scheme: str) -> str:
    """Returns the URL of the page on a host, of a scheme if it has none.

    Raises:
        click.UsageError: if it is the URL of no page, or of one without TLS that https is said of.
    """
    if not is_given("url"):
        text = text.removeprefix("http://")
    url = text if "://" in text else f"{scheme}://{text}"
    if scheme == "https" and url.startswith("http:"):
        raise click.UsageError(f"--tls-ca must come with a page of https, got {text!r}")
    _, _, rest = url.partition("://")
    if not _is_of_page(url):
        raise click.UsageError(
            f"url must be the page of a server's metrics, such as {_DEFAULT}, got {text!r}"
        )
    return url if "/" in rest else f"{url}/metrics"


def _is_of_page(url: str) -> bool:
    if not url.isprintable() or " " in url:
        return False
    with contextlib.suppress(ValueError):  # of a host or a port that is none
        parts = urllib.parse.urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    return False


def _watch(url: str, interval: float, authority: Path | None) -> None:
    """Shows views until it is interrupted; a server that does not answer is waited for.

    Raises:
        click.ClickException: if it does not answer at first.
    """
    try:
        last = scrape(url, authority)
    except ScrapeError as error:
        raise click.ClickException(str(error)) from error
    screen = console(highlight=False)
    with Live(waiting_text(url, ""), console=screen, screen=True, auto_refresh=False) as live:
        try:
            while True:
                time.sleep(interval)
                found, last = _next(url, authority, last)
                if isinstance(found, View):
                    live.update(view_text(found, screen.width, screen.height), refresh=True)
                else:
                    live.update(waiting_text(url, found), refresh=True)
        except KeyboardInterrupt:
            return


def _next(url: str, authority: Path | None, last: Scrape) -> tuple[View | str, Scrape]:
    """Returns the next view, or why there is none, and the scrape to begin with next."""
    try:
        now = scrape(url, authority)
    except ScrapeError as error:
        return str(error), last
    return view_of(url, Between(last, now)), now
