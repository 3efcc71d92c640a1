"""Where a server listens, and what it says where it cannot."""

import contextlib
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from lossd.client import LossClient
from lossd.v1 import SquaredError
from tests import faulty_server
from tests.end_to_end.conftest import not_served, page, serve
from tests.end_to_end.raw import CHANNEL, METHOD, request


def answer(address: str) -> float | None:
    with LossClient(address) as client:
        return client.compute(SquaredError(), [2.0], [0.0], timeout=20).loss


@contextlib.contextmanager
def listener() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield other.getsockname()[1]


@pytest.mark.parametrize(
    ("address", "line"),
    [
        ("127.0.0.1", "must be host:port"),
        ("127.0.0.1:99999", "must have a port in [0, 65535], got 127.0.0.1:99999"),
        ("http://127.0.0.1:50051", "must be host:port"),
    ],
)
def test_an_address_that_is_none_is_one_clear_line(address: str, line: str) -> None:
    said = not_served("--address", address, status=2)
    assert said.startswith(f"--address (LOSSD_ADDRESS) {line}")


@pytest.mark.parametrize(
    ("address", "line"),
    [
        ("nobody.invalid:0", "address must name a host that is known, got nobody.invalid:"),
        ("192.0.2.1:0", "address must be one of this machine, got 192.0.2.1:0"),
        ("unix:/nowhere/lossd.sock", "address must be in a directory that exists"),
    ],
)
def test_an_address_that_cannot_be_had_is_one_clear_line(address: str, line: str) -> None:
    assert not_served("--address", address).startswith(line)


def test_the_address_is_looked_at_before_the_metrics_port() -> None:
    with listener() as one, listener() as two:
        taken = f"127.0.0.1:{one}"
        said = not_served("--address", taken, "--metrics-port", str(two))
        assert said.startswith(f"address must be free, got {taken}")
        said = not_served("--metrics-port", str(two))
        assert said.startswith(f"metrics port must be free, got {two}")


def test_a_metrics_host_that_is_not_here_is_one_clear_line() -> None:
    said = not_served("--metrics-host", "nobody.invalid")
    assert said.startswith("metrics_host must name a host that is")
    said = not_served("--metrics-host", "192.0.2.1")
    assert said.startswith("metrics_host must be one of this machine")


def test_ipv6_serves_calls_and_pages() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    with serve("--backend", "numpy", "--metrics-host", "::1", address="[::1]:0") as process:
        assert process.address.startswith("[::1]:")
        assert page(process, "/readyz") == (200, "ready\n")
        assert answer(process.address) == 4


@pytest.mark.parametrize("name", ["unix:{}/lossd.sock", "unix:///{}/a%20b", "unix-abstract:{}x"])
def test_a_live_socket_is_not_taken_over(tmp_path: Path, name: str) -> None:
    address = name.format(tmp_path)
    with serve("--backend", "numpy", address=address) as process:
        said = not_served("--address", address)
        assert said.startswith(f"address must be free, got {address}")
        assert answer(address) == 4
        process.process.kill()  # leaves the file behind
        process.process.wait()
    with serve("--backend", "numpy", address=address):
        assert answer(address) == 4


@contextlib.contextmanager
def kept_connections(address: str, count: int) -> Iterator[list[bool]]:
    """Keeps connections of as many clients; yields which of these were answered."""
    own = (*CHANNEL, ("grpc.use_local_subchannel_pool", 1))
    with contextlib.ExitStack() as channels:
        answered = []
        for _ in range(count):
            channel = channels.enter_context(grpc.insecure_channel(address, options=own))
            compute: Any = channel.unary_unary(METHOD)
            try:
                compute(request(), timeout=20)
            except grpc.RpcError:
                answered.append(False)
            else:
                answered.append(True)
        yield answered


@pytest.mark.parametrize(
    "address", ["127.0.0.1:0", "unix:{}/lossd.sock", "unix:///{}/a%20b", "unix-abstract:{}"]
)
@pytest.mark.parametrize("most", [1, 2])
def test_callers_have_all_connections_and_the_server_hears_itself_beside_them(
    tmp_path: Path, address: str, most: int
) -> None:
    beats = (sys.executable, str(Path(faulty_server.__file__)), faulty_server.asks_often.__name__)
    flags = ("--backend", "numpy", "--max-connections", str(most))
    address = address.format(tmp_path)
    with (
        serve(*flags, address=address) as process,
        kept_connections(process.address, most + 1) as answered,
    ):
        assert answered == [True] * most + [False]
        process.end()
    age = ("--max-connection-age-seconds", "1")
    with serve(*flags, *age, address=address, inside=beats) as process:
        until = time.monotonic() + 3
        while time.monotonic() < until:  # connections grow old, and others take their places
            with kept_connections(process.address, most):
                assert page(process, "/healthz") == (200, "ok\n")
        assert process.end() == 0
        assert not [line for line in process.log() if "must answer itself" in line]
        assert not [*tmp_path.iterdir()]


def test_only_its_user_reaches_the_socket_by_which_a_server_hears_itself(tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/lossd.sock"
    with serve("--backend", "numpy", "--socket-mode", "666", address=address):
        modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in tmp_path.iterdir()}
        assert modes == {"lossd.sock": 0o666, ".lossd.sock.pulse": 0o600}


@pytest.mark.parametrize("has_follower", [False, True])
def test_a_server_whose_socket_is_gone_ends_and_leaves_that_of_the_next(
    tmp_path: Path, *, has_follower: bool
) -> None:
    path = tmp_path / "lossd.sock"
    with contextlib.ExitStack() as servers:
        first = servers.enter_context(serve("--backend", "numpy", address=f"unix:{path}"))
        path.unlink()
        if has_follower:
            servers.enter_context(serve("--backend", "numpy", address=f"unix:{path}"))
        assert first.process.wait(timeout=20) == 1
        said = "Error: address must keep its socket, got none of this server at unix:"
        assert first.log()[-1].startswith(said)
        assert path.exists() is has_follower
        if has_follower:
            assert answer(f"unix:{path}") == 4


def test_of_servers_that_start_at_once_one_gets_the_socket(tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/lossd.sock"

    def start() -> subprocess.Popen[str]:
        command = [
            sys.executable, "-m", "lossd", "serve", "--backend", "numpy", "--address", address,
            "--metrics-port", "0",
        ]  # fmt: skip
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    with ThreadPoolExecutor(4) as pool:
        started = [each.result() for each in [pool.submit(start) for _ in range(4)]]
    try:
        said = [process.stdout.readline() for process in started if process.stdout]
        assert sorted(line.startswith("ready") for line in said) == [False, False, False, True]
        assert answer(address) == 4
    finally:
        for process in started:
            process.kill()
            process.communicate()
