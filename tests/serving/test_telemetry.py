"""The metrics that are declared are the ones that are scraped."""

import inspect
import math
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram

from lossd.serving import collectors, families
from lossd.serving.families import FAMILIES, Family
from lossd.serving.tallies import Spread
from lossd.serving.telemetry import Telemetry

FOREIGN = ("process_",)


def test_every_family_is_registered_and_nothing_else() -> None:
    registry = CollectorRegistry()
    Telemetry(registry, losses=["huber"])
    found = {metric.name for metric in registry.collect()}

    assert {name for name in found if not name.startswith(FOREIGN)} == {f.name for f in FAMILIES}


def test_every_family_in_the_module_is_in_the_list() -> None:
    declared = [f for _, f in inspect.getmembers(families, lambda value: isinstance(value, Family))]

    assert sorted(f.name for f in declared) == sorted(f.name for f in FAMILIES)


def test_a_method_has_its_series_before_its_first_call() -> None:
    registry = CollectorRegistry()
    Telemetry(registry, losses=[]).expect(["/a.B/C"])
    labels = {"grpc_type": "unary", "grpc_service": "a.B", "grpc_method": "C"}

    assert registry.get_sample_value("grpc_server_started_total", labels) == 0
    for code in ("OK", "INTERNAL"):  # what begins at 1 has not increased, Prometheus thinks
        of_code = {**labels, "grpc_code": code}
        assert registry.get_sample_value("grpc_server_handled_total", of_code) == 0


def test_a_caller_cannot_make_labels() -> None:
    assert Telemetry(CollectorRegistry(), losses=["huber"]).loss_label("x" * 9) == "unknown"


def scrape(served: Telemetry, accept: str = "", query: str = "") -> str:
    environment = {
        "REQUEST_METHOD": "GET", "PATH_INFO": "/metrics", "HTTP_ACCEPT": accept,
        "QUERY_STRING": query,
    }  # fmt: skip
    return b"".join(served.application()(environment, lambda *_: lambda _: None)).decode()


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text; version=1.0.0"])
def test_a_scrape_has_no_series_of_when_others_began(accept: str) -> None:
    served = Telemetry(CollectorRegistry(), losses=["huber"])
    served.expect(["/a.B/C"])

    assert "grpc_server_started_total{" in scrape(served, accept)
    assert "_created" not in scrape(served, accept)
    assert "_created" not in scrape(served, accept, "name[]=grpc_server_started_total")


def test_limits_are_beside_what_they_limit() -> None:
    registry = CollectorRegistry()
    served = Telemetry(registry, losses=[])
    served.limit(calls=64, request_bytes=1 << 31, threads=2, segments=0, segment_bytes=0)

    assert registry.get_sample_value("lossd_max_inflight_requests") == 64
    assert registry.get_sample_value("lossd_max_inflight_bytes") == 1 << 31
    assert registry.get_sample_value("lossd_compute_threads") == 2


def _samples(registry: CollectorRegistry, name: str) -> set[tuple[str, Any, float]]:
    """The series of a metric, without when they began."""
    found = (s for m in registry.collect() if m.name == name for s in m.samples)
    return {
        (s.name, tuple(sorted(s.labels.items())), s.value)
        for s in found
        if not s.name.endswith("_created")
    }


def test_calls_are_counted_as_the_library_would() -> None:
    """The same numbers, those on a bound and beyond all among them, added to its own metrics."""
    rng = np.random.default_rng(0)
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    served = Telemetry(ours, losses=["huber"])
    size, count = families.REQUEST_BYTES, families.EXAMPLES
    sizes = Histogram(
        size.name, size.description, size.labels, registry=theirs, buckets=size.buckets
    )
    counts = Counter(count.name, count.description, count.labels, registry=theirs)
    for number in [0, *size.buckets, 1 << 40, *rng.integers(0, 1 << 20, 100).tolist()]:
        served.transferred("shared_memory", number, 1)
        sizes.labels("shared_memory").observe(number)
        served.computed("huber", "numpy", examples=number, nonfinite=0)
        counts.labels("huber", "numpy").inc(number)

    for family in (size, count):
        assert _samples(ours, family.name) == _samples(theirs, family.name)


def test_no_call_is_lost_among_threads_and_scrapes() -> None:
    registry = CollectorRegistry()
    served = Telemetry(registry, losses=["huber"])

    def count(_: int) -> None:
        for number in range(200):
            served.computed("huber", "numpy", examples=1, nonfinite=2)
            served.transferred("grpc", 1, 1)
            if number % 50 == 0:
                list(registry.collect())

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(count, range(8)))

    labels = {"loss": "huber", "backend": "numpy"}
    assert registry.get_sample_value("lossd_examples_total", labels) == 1600
    assert registry.get_sample_value("lossd_nonfinite_total", {"loss": "huber"}) == 3200
    assert registry.get_sample_value("lossd_request_bytes_count", {"transport": "grpc"}) == 1600


def test_a_measured_time_leads_to_its_trace() -> None:
    served = Telemetry(CollectorRegistry(), losses=["huber"])
    spread = Spread((0.1, 1.0))
    for value, trace in ((0.05, "a"), (0.5, "b"), (0.6, "c"), (7.0, None)):
        spread.add(value, None if trace is None else {"trace_id": trace})
    found = [
        (bound, count, one and one.labels["trace_id"]) for bound, count, one in spread.buckets()
    ]

    assert found == [(0.1, 1, "a"), (1.0, 3, "c"), (math.inf, 4, None)]
    served._of(families.DURATION, "huber").add(0.5, {"trace_id": "b"})
    assert '# {trace_id="b"} 0.5' in scrape(served, "application/openmetrics-text; version=1.0.0")


def test_what_is_noted_is_counted_at_the_next_scrape_or_with_many_others() -> None:
    registry = CollectorRegistry()
    served = Telemetry(registry, losses=["huber"])
    rejected = {"reason": "TOO_LARGE"}
    for number in range(1, 4):
        served.rejected("TOO_LARGE")
        assert registry.get_sample_value("lossd_rejected_total", rejected) == number
    for _ in range(5000):
        served.rejected("TOO_LARGE")
    assert len(served._notes) < 5000
    assert registry.get_sample_value("lossd_rejected_total", rejected) == 5003
    assert not served._notes


def test_who_counts_a_call_waits_for_no_scrape() -> None:
    served = Telemetry(CollectorRegistry(), losses=["huber"])
    served.expect(["/a.B/C"])

    def count() -> None:
        for _ in range(5000):
            served.started("/a.B/C")

    with served._notes.lock, ThreadPoolExecutor(1) as other:
        other.submit(count).result(timeout=20)
    assert re.search(r"^grpc_server_started_total.* 5000\.0$", scrape(served), re.MULTILINE)


def test_a_scrape_holds_up_no_call_while_it_formats(monkeypatch: pytest.MonkeyPatch) -> None:
    served, is_free = Telemetry(CollectorRegistry(), losses=["huber"]), list[bool]()
    served.expect(["/a.B/C"])
    bucket = collectors._bucket

    def watched(found: Any) -> Any:
        is_free.append(not served._notes.lock.locked())
        return bucket(found)

    monkeypatch.setattr(collectors, "_bucket", watched)
    scrape(served)
    assert is_free
    assert all(is_free)
