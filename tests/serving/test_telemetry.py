"""The metrics that are declared are the ones that are scraped."""

import inspect

import pytest
from prometheus_client import CollectorRegistry

from lossd.serving import telemetry
from lossd.serving.telemetry import FAMILIES, Family, Telemetry

FOREIGN = ("process_",)


def test_every_family_is_registered_and_nothing_else() -> None:
    registry = CollectorRegistry()
    Telemetry(registry, losses=["huber"])
    found = {metric.name for metric in registry.collect()}

    assert {name for name in found if not name.startswith(FOREIGN)} == {f.name for f in FAMILIES}


def test_every_family_in_the_module_is_in_the_list() -> None:
    declared = [
        f for _, f in inspect.getmembers(telemetry, lambda value: isinstance(value, Family))
    ]

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
