"""Scrapes of a server's Prometheus metrics, and the rates between two of them."""

import http.client
import itertools
import math
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lossd.serving.exposition import read_scrape

Labels = frozenset[tuple[str, str]]
_SECONDS = 5.0


class ScrapeError(Exception):
    """A page of metrics that cannot be had; the message says why."""


@dataclass(frozen=True, slots=True)
class Scrape:
    """The values of all series at a time in seconds."""

    seconds: float
    values: Mapping[tuple[str, Labels], float]

    def total(self, name: str, **labels: str) -> float:
        """Returns the sum of the series of a name that have these labels; 0 without any."""
        wanted = labels.items()
        return math.fsum(
            value for (own, has), value in self.values.items() if own == name and wanted <= has
        )

    def by(self, label: str, name: str, **labels: str) -> dict[str, float]:
        """Returns the sums by the values of a label."""
        wanted, found = labels.items(), dict[str, float]()
        for (own, has), value in self.values.items():
            if own == name and wanted <= has:
                key = dict(has).get(label, "")
                found[key] = found.get(key, 0.0) + value
        return found


def scrape(url: str, authority: Path | None) -> Scrape:
    """Returns what a page of metrics says now.

    Raises:
        ScrapeError: if it does not answer, or with something else.
    """
    context = _context(authority) if url.startswith("https:") else None
    handlers = [urllib.request.ProxyHandler({})]
    secure = [urllib.request.HTTPSHandler(context=context)] if context else []
    opener = urllib.request.build_opener(*handlers, *secure)
    try:
        with opener.open(url, timeout=_SECONDS) as reply:
            text, now = reply.read().decode(), time.monotonic()
        series = {(name, frozenset(has.items())): value for name, has, value in read_scrape(text)}
    except urllib.error.HTTPError as error:
        error.close()
        raise ScrapeError(f"{url}: {error}") from error
    except OSError as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        hint = ""
        if context is None and isinstance(reason, http.client.RemoteDisconnected):
            hint = "; does it want https?"
        raise ScrapeError(f"{url}: {reason}{hint}") from error
    except (ValueError, http.client.HTTPException) as error:  # the port of gRPC, for example
        raise ScrapeError(f"{url} must be a page of metrics, got something else") from error
    return Scrape(now, series)


def _context(authority: Path | None) -> ssl.SSLContext:
    """Returns what checks a page's certificate; public authorities do where none is given.

    Raises:
        ScrapeError: if a file holds none.
    """
    if authority is None:
        return ssl.create_default_context()
    try:
        # Text beside certificates may have any letters, and the mark of some editors before it.
        held = authority.read_bytes().decode("ascii", "ignore")
        return ssl.create_default_context(cadata=held)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise ScrapeError(
            f"--tls-ca must hold certificates in PEM, got {authority}: {reason}"
        ) from error


@dataclass(frozen=True, slots=True)
class Between:
    """The growth of counters from one scrape to a later one, by the rules of Prometheus."""

    first: Scrape
    last: Scrape

    @property
    def seconds(self) -> float:
        """The time between the two."""
        return self.last.seconds - self.first.seconds

    def rate(self, name: str, **labels: str) -> float:
        """Returns the growth of a counter a second."""
        return math.fsum(self.rates(name, **labels).values())

    def rates(self, name: str, **labels: str) -> dict[Labels, float]:
        """Returns the growth a second of each series with these labels."""
        wanted = labels.items()
        return {
            has: self._growth(name, has) / self.seconds
            for own, has in self.last.values
            if own == name and wanted <= has
        }

    def _growth(self, name: str, has: Labels) -> float:
        before, after = (one.values.get((name, has), 0.0) for one in (self.first, self.last))
        return after - before if after >= before else after  # the server was started again

    def mean(self, name: str, **labels: str) -> float | None:
        """Returns the mean of what a histogram saw; None if it saw nothing."""
        count = self.rate(f"{name}_count", **labels)
        return self.rate(f"{name}_sum", **labels) / count if count else None

    def quantile(self, share: float, name: str, **labels: str) -> float | None:
        """Returns a quantile of what a histogram saw, as ``histogram_quantile`` estimates it."""
        counts: dict[float, float] = {}
        for has, value in self.rates(f"{name}_bucket", **labels).items():
            bound = float(dict(has)["le"])
            counts[bound] = counts.get(bound, 0.0) + value
        return _quantile(share, sorted(counts.items()))


def _quantile(share: float, buckets: list[tuple[float, float]]) -> float | None:
    """Returns the point between two bounds, as if what lies there were spread evenly."""
    if len(buckets) < 2 or not buckets[-1][1]:
        return None
    rank = share * buckets[-1][1]
    for (low, below), (high, upto) in itertools.pairwise([(0.0, 0.0), *buckets]):
        if upto >= rank:
            if math.isinf(high):
                return low
            return low + (high - low) * (rank - below) / (upto - below) if upto > below else low
    return buckets[-2][0]


def labelled(rates: Mapping[Labels, float], label: str) -> dict[str, float]:
    """Returns sums by the values of a label."""
    found: dict[str, float] = {}
    for has, value in rates.items():
        key = dict(has).get(label, "")
        found[key] = found.get(key, 0.0) + value
    return found
