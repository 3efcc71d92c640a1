"""Counters and histograms as a registry of Prometheus collects them, over the tallies.

The library's own take five times as long to add to, and a call adds to a good twenty.
"""

import threading
from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client import Counter
from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.samples import Exemplar
from prometheus_client.utils import floatToGoString

from lossd.serving.families import Family
from lossd.serving.tallies import Count, Instance, Spread


class Tallied:
    """The series of a counter or a histogram.

    ``settle`` is called before they are read, and the lock is held while they are.
    """

    def __init__(self, family: Family, lock: threading.Lock, settle: Callable[[], object]) -> None:
        self._family = family
        self._lock = lock
        self._settle = settle
        self._series: dict[tuple[str, ...], Count | Spread] = {}

    def labels(self, *values: str) -> Count | Spread:
        """Returns a series, which begins at 0."""
        is_counter = self._family.type is Counter
        made = Count() if is_counter else Spread(self._family.buckets)
        return self._series.setdefault(values, made)

    def describe(self) -> Iterator[Metric]:
        """Yields the metric without its series; from it a registry knows their names."""
        yield self._metric()

    def collect(self) -> Iterator[Metric]:
        """Yields the metric as it is now."""
        self._settle()
        metric = self._metric()
        with self._lock:  # only to copy: calls wait for it
            found = [(labels, _read(series)) for labels, series in self._series.items()]
        for labels, (total, buckets) in found:
            if self._family.type is Counter:
                metric.add_metric(labels, total)
            else:
                metric.add_metric(labels, [*map(_bucket, buckets)], total)
        yield metric

    def _metric(self) -> Any:
        family = self._family
        kind: Any = CounterMetricFamily if family.type is Counter else HistogramMetricFamily
        return kind(family.name, family.description, labels=family.labels)


def _read(series: Count | Spread) -> tuple[float, list[tuple[float, int, Instance | None]]]:
    if isinstance(series, Count):
        return series.value, []
    return series.total, [*series.buckets()]


def _bucket(found: tuple[float, int, Instance | None]) -> tuple[Any, ...]:
    bound, count, instance = found
    name = floatToGoString(bound)  # type: ignore[no-untyped-call]
    if instance is None:
        return name, count
    return name, count, Exemplar(dict(instance.labels), instance.value, instance.time)
