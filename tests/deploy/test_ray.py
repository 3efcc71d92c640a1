"""Servers that Ray runs: callers notice nothing of those that are replaced and killed."""

import contextlib
import functools
import socket
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lossd.client import LossClient
from lossd.serving.exposition import read_scrape
from lossd.v1 import Huber
from tests.deploy.fleet import load
from tests.deploy.test_replicas import answered

ray = pytest.importorskip("ray", reason="needs Ray: pip install ray")

from ray.cluster_utils import Cluster  # noqa: E402

from deploy.ray import replicas  # noqa: E402 - imports Ray

ROOT = Path(__file__).resolve().parents[2]


ENVIRONMENT = {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A cluster with one node, to which others may be added."""
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    ray.init(address=made.address, log_to_driver=False, runtime_env={"env_vars": ENVIRONMENT})
    yield made
    ray.shutdown()
    made.shutdown()


def free_ports(count: int) -> int:
    """The first of some ports in a row that nobody listens on."""
    while True:
        with contextlib.ExitStack() as stack:
            sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
            sockets[0].bind(("0.0.0.0", 0))  # noqa: S104 - the addresses of this machine, to see if free
            port: int = sockets[0].getsockname()[1]
            try:
                for position, each in enumerate(sockets[1:], 1):
                    each.bind(("0.0.0.0", port + position))  # noqa: S104
            except (OSError, OverflowError):
                continue
            return port


VALUES, ZEROS = np.full(320, 3, np.float32), np.zeros(320, np.float32)


def call(client: LossClient) -> Any:
    return client.compute(Huber(), predictions=VALUES, targets=ZEROS)


def is_right(result: Any) -> bool:
    return bool(result.loss == 2.5)


def calls_of(replica: Any) -> float:
    """The batches that a server has answered."""
    url = ray.get(replica.metrics_url.remote())
    with urllib.request.urlopen(url, timeout=10) as page:  # noqa: S310 - ours
        series = read_scrape(page.read().decode())
        return sum(value for name, _, value in series if name == "lossd_requests_total")


def test_two_replicas_share_calls_and_are_replaced_and_killed_unnoticed(cluster: Cluster) -> None:
    del cluster
    started = replicas.start(2, port=free_ports(2), cpus=0.5, backend="numpy", drain_seconds=5)
    target = replicas.target(started)

    with load(target, call, is_right=is_right) as seen:
        answered(seen, 50)
        for replica in started:
            replicas.replace(replica)
            answered(seen, 50)
        ray.kill(started[0], no_restart=False)  # as kill -9 does it
        answered(seen, 50)
        assert replicas.target(started) == target  # it is back, and where it was
        answered(seen, 50)

    assert (seen.errors, seen.wrong) == ([], 0)


def test_replicas_are_added_and_taken_away_and_running_clients_share_their_calls(
    cluster: Cluster,
) -> None:
    del cluster
    port = free_ports(3)
    settings: dict[str, Any] = {
        "cpus": 0.2, "backend": "numpy", "drain_seconds": 5, "group": "comes and goes",
    }  # fmt: skip
    first = replicas.start(1, port=port, **settings)
    of_group = functools.partial(replicas.found, "comes and goes")
    assert replicas.target(first) == of_group()
    with load(of_group, call, is_right=is_right) as seen:
        answered(seen, 30)
        added = replicas.start(2, port=port + 1, **settings)
        everyone = first + added
        ready = time.monotonic() if replicas.target(everyone) else 0  # which waits for them
        while not all(calls_of(each) for each in added):
            answered(seen, 10)
        found_after = time.monotonic() - ready
        begun = [calls_of(each) for each in everyone]
        answered(seen, 300)
        got = [calls_of(each) - before for each, before in zip(everyone, begun, strict=True)]
        for each in added:  # while the client still calls them
            replicas.stop(each)
        answered(seen, 30)
        assert replicas.target(first) == of_group()

    assert (seen.errors, seen.wrong) == ([], 0)
    assert found_after < 30  # five seconds, but for what else the machine does
    assert all(of_added > 0.5 * sum(got) / len(got) for of_added in got[1:])


def test_a_node_that_joins_later_gets_servers_and_running_clients_find_them(
    cluster: Cluster,
) -> None:
    settings: dict[str, Any] = {"cpus": 1.5, "backend": "numpy", "group": "late node"}
    pair = replicas.start(2, port=free_ports(2), **settings)  # of which one finds no room
    asked = {replica.address.remote(): replica for replica in pair}
    (answer,) = ray.wait(list(asked), timeout=60)[0]
    first = asked[answer]
    late = next(replica for replica in pair if replica is not first)
    with load(functools.partial(replicas.found, "late node"), call, is_right=is_right) as seen:
        answered(seen, 30)
        node = cluster.add_node(num_cpus=2, node_ip_address="127.0.0.2")
        assert "127.0.0.2:" in replicas.target(pair)  # which waits for both
        ready = time.monotonic()
        while not calls_of(late):
            answered(seen, 10)
        found_after = time.monotonic() - ready
        begun = calls_of(late)
        answered(seen, 300)
        share = (calls_of(late) - begun) / 300
        replicas.stop(late)
        answered(seen, 30)
        cluster.remove_node(node)
        answered(seen, 30)

    assert (seen.errors, seen.wrong) == ([], 0)
    assert found_after < 30  # seconds
    assert share > 0.25
