"""One peer that means ill beside ten that do not: these see no error within their deadlines."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest

from lossd.client import LossClient
from lossd.v1 import CrossEntropy
from tests.end_to_end.conftest import Process, serve
from tests.end_to_end.frames import Peer
from tests.end_to_end.large import STREAM
from tests.end_to_end.raw import METHOD

HONEST = 10
MIB = 1 << 20
# So that the test does not take as long as they have as shipped.
PATIENT = ("--first-message-seconds", "1", "--idle-seconds", "1")

Attack = Callable[[Process, threading.Event], None]


def resets(process: Process, is_over: threading.Event) -> None:
    """Begins calls and ends them at once, on one connection after the other."""
    while not is_over.is_set():
        with contextlib.closing(Peer(process.address)) as peer:
            for _ in range(500):
                peer.reset(peer.begin())


def headers(process: Process, is_over: threading.Event) -> None:
    """Begins as many calls as may be, and says nothing more."""
    _silent(process, is_over, METHOD)


def idle_streams(process: Process, is_over: threading.Event) -> None:
    """Opens as many streams as may be, and says nothing more."""
    _silent(process, is_over, STREAM)


def _silent(process: Process, is_over: threading.Event, path: str) -> None:
    with contextlib.closing(Peer(process.address)) as peer:
        while not is_over.wait(0.05):
            for _ in range(64):
                peer.begin(path)


def half_messages(process: Process, is_over: threading.Event) -> None:
    """Sends half of large messages, on connections of their own."""
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(8) as pool:
        while not is_over.is_set():
            peers = [
                stack.enter_context(contextlib.closing(Peer(process.address))) for _ in "12345678"
            ]
            list(pool.map(lambda peer: peer.send(peer.begin(), 64 * MIB, 32 * MIB), peers))


def slow_pages(process: Process, is_over: threading.Event) -> None:
    """Asks for pages a byte at a time, on many connections."""
    url = urlsplit(process.metrics_url)
    with contextlib.ExitStack() as stack:
        while not is_over.wait(0.05):
            for _ in range(20):
                asked = socket.create_connection((url.hostname, url.port))
                stack.enter_context(contextlib.closing(asked)).sendall(b"G")


ATTACKS: tuple[Attack, ...] = (resets, headers, idle_streams, half_messages, slow_pages)
QUICK = (half_messages, slow_pages)


@contextlib.contextmanager
def attacked(process: Process, attack: Attack) -> Iterator[None]:
    """Attacks a server meanwhile."""
    is_over = threading.Event()
    attacker = threading.Thread(target=attack, args=(process, is_over))
    attacker.start()
    try:
        yield
    finally:
        is_over.set()
        attacker.join()


def ask(process: Process, seconds: float) -> int:
    """Computes for some seconds, and returns how many calls were answered; any error is raised."""
    answered, deadline = 0, time.monotonic() + seconds
    with LossClient(process.address, timeout=30) as client:
        while time.monotonic() < deadline or not answered:
            answered += client.compute(CrossEntropy(), [[0.0, 1.0]], [1]).example_count
    return answered


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_the_honest_are_answered_beside_one_that_is_not(
    request: pytest.FixtureRequest, attack: Attack
) -> None:
    is_whole = request.config.getoption("--whole")
    if not is_whole and attack not in QUICK:
        pytest.skip("takes until clients come again: run with --whole")
    seconds = 10.0 if is_whole else 0.5
    limit = ("--max-inflight-bytes", str(256 * MIB))
    with (
        serve("--backend", "numpy", "--threads", "1", *limit, *PATIENT) as process,
        attacked(process, attack),
        ThreadPoolExecutor(HONEST) as pool,
    ):
        answered = list(pool.map(lambda _: ask(process, seconds), range(HONEST)))
    assert min(answered) > 0
