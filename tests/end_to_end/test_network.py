"""A network that loses, cuts and resets: deadlines hold, and what is dead is let go."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from lossd.client import DeadlineExceededError, UnavailableError
from lossd.v1 import SquaredError
from tests.end_to_end.conftest import Process, serve
from tests.end_to_end.network import Network, network

LARGE = 1 << 18  # elements: a message of 2 MiB, of many segments


@pytest.fixture(scope="module")
def cable() -> Iterator[Network]:
    with network() as made:
        yield made


@pytest.fixture(scope="module")
def far_server(cable: Network) -> Iterator[Process]:
    address = f"{cable.server_address}:0"
    with serve("--backend", "numpy", address=address, inside=cable.inside) as process:
        yield process


def compute(client: Any, elements: int = 32) -> float:
    ones = np.ones(elements, np.float32)
    found: float = client.compute(SquaredError(), ones, np.zeros_like(ones)).loss
    return found


def test_calls_are_answered_though_one_packet_in_fifty_is_lost(
    cable: Network, far_server: Process, connect: Any
) -> None:
    with (
        connect(far_server.address, timeout=60) as client,
        cable.failing(0.02, "DROP"),
        ThreadPoolExecutor(4) as pool,
    ):
        found = list(pool.map(lambda _: compute(client), range(40)))
    assert set(found) == {1}


def test_calls_are_answered_though_connections_are_reset(
    cable: Network, far_server: Process, connect: Any
) -> None:
    with (
        connect(far_server.address, timeout=60) as client,
        cable.failing(0.005, "REJECT", "--reject-with", "tcp-reset"),
        ThreadPoolExecutor(4) as pool,
    ):
        found = list(pool.map(lambda _: compute(client, LARGE), range(8)))
    assert set(found) == {1}


def test_a_deadline_holds_while_the_cable_is_out_and_the_client_recovers(
    cable: Network, far_server: Process, connect: Any
) -> None:
    with connect(far_server.address, timeout=1) as client:
        assert compute(client) == 1
        with cable.cut():
            begun = time.monotonic()
            with pytest.raises((DeadlineExceededError, UnavailableError)):
                compute(client)
            assert time.monotonic() - begun < 5
        with connect(far_server.address, timeout=30) as another:
            assert compute(another) == 1
        deadline = time.monotonic() + 30
        while (found := attempt(client)) is None:
            assert time.monotonic() < deadline
    assert found == 1


def attempt(client: Any) -> float | None:
    try:
        return compute(client)
    except (DeadlineExceededError, UnavailableError):
        return None


def test_a_peer_that_is_gone_without_a_word_is_let_go_within_a_minute(
    cable: Network, connect: Any, request: pytest.FixtureRequest
) -> None:
    if not request.config.getoption("--whole"):
        pytest.skip("takes a minute: run with --whole")
    address = f"{cable.server_address}:0"
    with (
        serve("--backend", "numpy", address=address, inside=cable.inside) as process,
        connect(process.address) as client,
    ):
        assert compute(client) == 1
        pid = process.process.pid
        assert cable.connections(pid)
        with cable.cut():
            deadline = time.monotonic() + 60
            while cable.connections(pid):
                assert time.monotonic() < deadline
                time.sleep(0.5)
