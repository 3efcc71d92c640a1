"""The states of a server."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from prometheus_client import CollectorRegistry

from lossd.serving.health import Health, State
from lossd.serving.telemetry import Telemetry


@pytest.fixture
def health() -> Health:
    telemetry = Telemetry(CollectorRegistry(), losses=())
    return Health(("lossd.v1.LossService",), ThreadPoolExecutor(1), telemetry)


def test_a_server_fails_once_and_for_good(health: Health) -> None:
    health.enter(State.READY)

    assert [health.fail(), health.fail()] == [True, False]
    health.enter(State.DRAINING)
    assert health.has_failed
    assert health.state() == "failed"


def test_a_server_that_ends_anyway_does_not_fail(health: Health) -> None:
    health.enter(State.DRAINING)

    assert not health.fail()
    assert health.state() == "draining"
