"""Servers that Ray runs: callers notice nothing of those that are replaced and killed."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lossd.client import LossClient
from lossd.v1 import Huber
from tests.deploy.fleet import load
from tests.deploy.test_replicas import answered

ray = pytest.importorskip("ray", reason="needs Ray: pip install ray")

from deploy.ray import replicas  # noqa: E402 - imports Ray

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    environment = {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    ray.init(
        address="local", num_cpus=2, include_dashboard=False, log_to_driver=False,
        runtime_env={"env_vars": environment},
    )  # fmt: skip
    yield
    ray.shutdown()


def two_free_ports() -> int:
    """The first of two ports in a row that nobody listens on."""
    while True:
        with socket.socket() as one, socket.socket() as other:
            one.bind(("0.0.0.0", 0))  # noqa: S104 - the addresses of this machine, to see if free
            port: int = one.getsockname()[1]
            try:
                other.bind(("0.0.0.0", port + 1))  # noqa: S104
            except (OSError, OverflowError):
                continue
            return port


def test_two_replicas_share_calls_and_are_replaced_and_killed_unnoticed(cluster: None) -> None:
    del cluster
    started = replicas.start(2, port=two_free_ports(), cpus=0.5, backend="numpy", drain_seconds=5)
    target = replicas.target(started)
    values, zeros = np.full(320, 3, np.float32), np.zeros(320, np.float32)

    def call(client: LossClient) -> Any:
        return client.compute(Huber(), predictions=values, targets=zeros)

    with load(target, call, is_right=lambda result: result.loss == 2.5) as seen:
        answered(seen, 50)
        for replica in started:
            replicas.replace(replica)
            answered(seen, 50)
        ray.kill(started[0], no_restart=False)  # as kill -9 does it
        answered(seen, 50)
        assert replicas.target(started) == target  # it is back, and where it was
        answered(seen, 50)

    assert (seen.errors, seen.wrong) == ([], 0)
