"""The pages are served whoever else keeps connections."""

import logging
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from typing import Any
from urllib.request import Request, urlopen

import pytest
from prometheus_client import CollectorRegistry

from lossd.serving.process import http
from lossd.serving.process.http import PageServer
from lossd.serving.telemetry import Telemetry


def metrics(environment: Any, start: Any) -> list[bytes]:
    start("200 OK", [("Content-Type", "text/plain")])
    return [b"x" * (1 << 24) if environment["QUERY_STRING"] == "long" else b"series 1\n"]


@pytest.fixture
def server() -> Iterator[PageServer]:
    pages = http.application(metrics, lambda: "ready", lambda: True)
    server = http.serve("127.0.0.1", 0, pages)
    yield server
    server.shutdown()
    server.server_close()


def connected(server: PageServer, said: bytes = b"") -> socket.socket:
    caller = socket.create_connection(("127.0.0.1", server.server_address[1]), timeout=20)
    caller.sendall(said)
    return caller


def get(server: PageServer, path: str = "/readyz", method: str = "GET") -> tuple[int, bytes, str]:
    request = Request(server.url + path, method=method)  # noqa: S310 - ours
    with urlopen(request, timeout=20) as reply:  # noqa: S310
        return reply.status, reply.read(), reply.headers["Server"]


def test_a_page_says_nothing_of_what_serves_it(server: PageServer) -> None:
    assert get(server) == (200, b"ready\n", "lossd")
    assert get(server, "/metrics") == (200, b"series 1\n", "lossd")
    with closing(connected(server, b"NONSENSE\r\n\r\n")) as caller:
        assert b"Python" not in caller.recv(10_000)


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz", "/elsewhere"])
def test_head_answers_as_get_does_without_the_page(path: str) -> None:
    served = Telemetry(CollectorRegistry(), losses=["huber"]).application()
    server = http.serve("127.0.0.1", 0, http.application(served, lambda: "ready"))
    heads = {}
    for method in ("GET", "HEAD"):
        with closing(connected(server, f"{method} {path} HTTP/1.0\r\n\r\n".encode())) as caller:
            head, _, body = caller.makefile("rb").read().partition(b"\r\n\r\n")
        status, *headers = head.splitlines()
        # Not the values, for one is the time, and a scrape may be longer than the one before.
        heads[method] = (status, [header.partition(b":")[0] for header in headers])
        assert bool(body) == (method == "GET")
    server.shutdown()
    server.server_close()

    assert heads["HEAD"] == heads["GET"]
    assert heads["HEAD"][0].split()[1] == (b"404" if path == "/elsewhere" else b"200")


@pytest.mark.parametrize(
    ("state", "alive", "ready", "live"),
    [
        ("ready", True, "200 OK", "200 OK"),
        ("starting", True, "503 Service Unavailable", "200 OK"),
        ("draining", True, "503 Service Unavailable", "200 OK"),
        ("failed", False, "503 Service Unavailable", "503 Service Unavailable"),
    ],
)
def test_probes_tell_ready_from_alive(state: str, alive: bool, ready: str, live: str) -> None:  # noqa: FBT001 - a parameter of a test
    pages = http.application(metrics, lambda: state, lambda: alive)
    said: list[str] = []
    for path in ("/readyz", "/healthz"):
        pages({"PATH_INFO": path}, lambda status, _: said.append(status))  # type: ignore[arg-type]
    assert said == [ready, live]


@pytest.mark.parametrize(
    "said", [b"", b"GET /readyz HTTP/1.1\r\n", b"GET /metrics?long HTTP/1.0\r\n\r\n"]
)
def test_slow_connections_are_in_nobodys_way(server: PageServer, said: bytes) -> None:
    with ExitStack() as stack:
        slow = [stack.enter_context(closing(connected(server, said))) for _ in range(100)]
        started = time.monotonic()
        for _ in range(5):
            assert get(server)[0] == 200
        assert time.monotonic() - started < 10  # about 1 s where the machine is idle
        assert len(slow) == 100


def times_out(caller: socket.socket) -> bool:
    """Whether the server still says nothing; that it has gone is something."""
    try:
        caller.recv(1)
    except TimeoutError:
        return True
    except OSError:
        return False
    return False


def test_a_connection_has_its_time_and_no_more(caplog: pytest.LogCaptureFixture) -> None:
    pages = http.application(metrics, lambda: "ready")
    server = http.serve("127.0.0.1", 0, pages, seconds=0.2)
    began = time.monotonic()
    with caplog.at_level(logging.INFO), closing(connected(server)) as caller:
        caller.settimeout(0.02)
        with suppress(ConnectionError):  # it may be ended between a look and a byte
            while times_out(caller):  # a byte now and then does not help
                caller.sendall(b"G")
    assert time.monotonic() - began >= 0.2
    server.shutdown()
    server.server_close()
    (record,) = caplog.records
    assert record.getMessage() == "connection was too slow"


def test_a_reader_that_goes_leaves_no_traceback(
    server: PageServer, capfd: pytest.CaptureFixture[str]
) -> None:
    for said in (b"", b"GET /metrics?long HTTP/1.0\r\n\r\n", b"GET /readyz"):
        caller = connected(server, said)
        reset = struct.pack("ii", 1, 0)  # linger for no time: RST in place of FIN
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        caller.close()
    assert get(server)[0] == 200
    assert capfd.readouterr().err == ""


def test_a_burst_of_connections_is_taken_at_once(server: PageServer) -> None:
    with ExitStack() as stack:
        started = time.monotonic()
        for _ in range(200):
            stack.enter_context(closing(connected(server)))
        assert time.monotonic() - started < 10  # a full backlog takes seconds for each
