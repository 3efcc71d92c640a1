"""Callers notice nothing of servers that come, go, are replaced and are killed."""

import contextlib
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from lossd.client import LossClient
from lossd.v1 import Accuracy, CrossEntropy, Huber
from tests.deploy.fleet import Fleet, Load, fleet, load
from tests.deploy.proxies import PROXIES, binary, proxy
from tests.end_to_end.conftest import serve
from tests.end_to_end.test_stream import METHOD, answers, call_of, messages_of
from tests.waiting import until

AGE = ("--max-connection-age-seconds", "2")
DRAIN = ("--drain-delay-seconds", "1")
# Numbers that go in the message, in shared memory where one server has some, and in chunks.
SIZES = {"message": 320, "memory": 1 << 17, "chunks": 1 << 19}


def answered(seen: Load, more: int) -> None:
    """Waits until so many more calls were answered."""
    begin = seen.answered
    until(lambda: seen.answered >= begin + more, "calls must be answered")


def found(servers: Fleet, host: str) -> None:
    """Waits until a server gets calls."""
    until(lambda: servers.calls(host) > 0, "new ones must be found", 30)


def share(servers: Fleet, host: str) -> bool:
    """Whether a server gets at least half of what would be fair, from now on."""
    before = {each: servers.calls(each) for each in servers.running}
    until(lambda: servers.calls(host) > before[host], "it must get calls", 5)
    time.sleep(1)  # of traffic, to compare
    got = {each: servers.calls(each) - before[each] for each in servers.running}
    return got[host] >= 0.5 * sum(got.values()) / len(got)


def takes_large_batches() -> None:
    """Skips a test if HAProxy is too old for batches beyond a window of HTTP/2."""
    said = subprocess.run([binary("haproxy"), "-v"], capture_output=True, text=True, check=True)
    version = re.search(r"version (\d+)\.(\d+)", said.stdout)
    assert version is not None
    if tuple(map(int, version.groups())) < (2, 8):
        pytest.skip("HAProxy 2.8 is the first that can have one call on a connection to a server")


@contextlib.contextmanager
def front(name: str, servers: Fleet, folder: Path) -> Iterator[str]:
    """Yields the target that clients connect to."""
    if name == "client":
        yield servers.target
        return
    with proxy(name, servers, folder) as address:
        yield address


# Through a proxy no memory is shared, and what would be goes in the message.
FRONTS = [("client", way) for way in SIZES] + [
    (p, w) for p in PROXIES for w in ("memory", "chunks")
]
FEW = (("client", "memory"), ("envoy", "chunks"), ("haproxy", "memory"), ("haproxy", "chunks"))


@pytest.fixture(params=FRONTS, ids="-".join)
def loaded(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    whole: bool,  # noqa: FBT001
) -> Iterator[tuple[Fleet, Load]]:
    """One server behind a front, and callers whose results are looked at."""
    name, way = request.param
    if not whole and (name, way) not in FEW:
        pytest.skip("it takes half a minute: run with --whole")
    if (name, way) == ("haproxy", "chunks"):
        takes_large_batches()
    size = SIZES[way]
    shared = ("--shm-dir", str(tmp_path)) if way == "memory" else ()
    age = AGE if name == "client" else ()  # a proxy looks for servers by itself
    values, zeros = np.full(size, 3, np.float32), np.zeros(size, np.float32)

    def is_right(result: Any) -> bool:
        expected = np.float32(1 / size)  # a slope of delta = 1, and the mean of all
        return bool(result.loss == 2.5 and (result.gradients["predictions"] == expected).all())

    with (
        fleet(1, *age, *DRAIN, "--threads", "1", *shared) as servers,
        front(name, servers, tmp_path) as target,
        load(
            target,
            lambda client: client.compute(Huber(), predictions=values, targets=zeros),
            is_right=is_right,
        ) as seen,
    ):
        yield servers, seen
    assert (seen.errors, seen.wrong) == ([], 0)
    # Memory is shared with one server beside its client, and through no proxy.
    used = "shared_memory" if shared and name == "client" else "grpc"
    assert seen.transports[used] > 0


def test_servers_come_are_replaced_killed_and_go(loaded: tuple[Fleet, Load]) -> None:
    servers, seen = loaded
    answered(seen, 20)
    added = [servers.add(), servers.add()]
    for host in added:
        found(servers, host)
    assert all(share(servers, host) for host in added)

    for host in list(servers.running):
        servers.replace(host)
        answered(seen, 20)

    killed, *others = servers.running
    servers.remove(killed, signal.SIGKILL)
    answered(seen, 100)

    for host in others[1:]:
        assert servers.remove(host) == 0
    answered(seen, 20)


def test_without_an_age_a_client_does_not_look_for_servers_that_came() -> None:
    one: dict[str, Any] = {"predictions": [0.0], "targets": [0.0]}
    with (
        fleet(1, *DRAIN) as servers,
        load(
            servers.target, lambda client: client.compute(Huber(), **one), is_right=bool, threads=1
        ) as seen,
    ):
        answered(seen, 1)
        added = servers.add()
        time.sleep(5)  # more than twice the age of the other tests

        assert servers.calls(added) == 0


def connections(address: str) -> int:
    """The established connections to a port of this machine, counted at their callers' end."""
    port = f"{int(address.rpartition(':')[2]):04X}"
    tables = [Path(f"/proc/net/{name}").read_text() for name in ("tcp", "tcp6")]
    ends = [line.split()[1:4] for table in tables for line in table.splitlines()[1:]]
    return sum(remote.endswith(f":{port}") and state == "01" for _, remote, state in ends)


def test_old_connections_end_though_health_is_watched_on_them() -> None:
    with serve("--backend", "numpy", *AGE) as server, LossClient(server.address) as client:
        counts = []
        end = time.monotonic() + 8
        while time.monotonic() < end:
            client.compute(Huber(), predictions=[0.0], targets=[0.0])
            counts.append(connections(server.address))

    assert max(counts) <= 3  # the old one, the new one, and on a busy machine one that is going
    assert counts[-1] <= 2
    assert counts[-1] >= 1


def test_a_stream_outlives_the_age_of_its_connection_and_the_next_is_on_a_new_one() -> None:
    with (
        serve("--backend", "numpy", *AGE) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        invoke: Any = channel.stream_stream(METHOD)

        def batches() -> Iterator[bytes]:
            for _ in range(5):
                yield from messages_of(call_of())
                time.sleep(1)  # so that the stream lasts twice as long as its connection may

        assert [reply.loss for reply in answers(invoke(batches(), timeout=30))] == [4] * 5
        again = answers(invoke(iter(messages_of(call_of())), timeout=30))
        assert [reply.loss for reply in again] == [4]


def test_a_call_that_takes_longer_than_the_age_is_not_cut() -> None:
    with (
        serve("--backend", "numpy", *AGE) as server,
        LossClient(server.address) as client,
        client.evaluation(Accuracy()) as run,
    ):
        end = time.monotonic() + 5
        while time.monotonic() < end:
            run.update(predictions=[1], targets=[1])
            time.sleep(0.2)
        result: Any = run.result()

    assert result.value == 1


def test_large_batches_do_not_wait_for_each_other_in_haproxy(tmp_path: Path) -> None:
    takes_large_batches()
    zeros, labels = np.zeros((4096, 1000), np.float32), np.zeros(4096, np.int64)
    with (
        fleet(1, *DRAIN) as servers,
        proxy("haproxy", servers, tmp_path) as target,
        load(
            target,
            lambda client: client.compute(CrossEntropy(), predictions=zeros, targets=labels),
            is_right=lambda result: abs(result.loss - np.log(1000)) < 1e-6,
            threads=12,
        ) as seen,
    ):
        answered(seen, 100)
    assert (seen.errors, seen.wrong) == ([], 0)
