"""Pages of metrics in Prometheus's format: served from a registry, and read."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast
from wsgiref.types import WSGIApplication

import prometheus_client
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families


def scrape_page(registry: CollectorRegistry) -> WSGIApplication:
    """Returns what answers every request with all that a registry has."""
    return prometheus_client.make_wsgi_app(cast("CollectorRegistry", _Undated(registry)))


def read_scrape(text: str) -> Iterator[tuple[str, Mapping[str, str], float]]:
    """Yields name, labels and value of each series in a page of metrics.

    Raises:
        ValueError: if it is no such page.
    """
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            yield sample.name, sample.labels, sample.value


@dataclass(frozen=True, slots=True)
class _Undated:
    """A registry without the times at which series began: nobody asks, and they are as many."""

    registry: Any

    def collect(self) -> Iterator[Metric]:
        for metric in self.registry.collect():
            metric.samples = [s for s in metric.samples if not s.name.endswith("_created")]
            yield metric

    def restricted_registry(self, names: Iterable[str]) -> "_Undated":
        return _Undated(self.registry.restricted_registry(names))
