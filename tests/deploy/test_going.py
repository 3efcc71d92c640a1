"""Callers of both clients when a server is told to end, with another beside it and without."""

import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from lossd.client import DeadlineExceededError, UnavailableError
from lossd.v1 import SquaredError
from tests.deploy.fleet import Fleet, fleet

CALLERS = 200


def call(client: Any) -> float:
    ones = np.ones(320, np.float32)
    found: float = client.compute(SquaredError(), ones, np.zeros_like(ones)).loss
    return found


class Callers:
    """Many threads that call with one client, one call after the other, until they are told."""

    def __init__(self, client: Any) -> None:
        self.is_over = threading.Event()
        self.losses: list[float] = []
        self._client = client
        self._pool = ThreadPoolExecutor(CALLERS)
        self._ends = [self._pool.submit(self._go_on) for _ in range(CALLERS)]

    def _go_on(self) -> None:
        while not self.is_over.is_set():
            self.losses.append(call(self._client))

    def wait_for(self, more: int) -> None:
        """Waits until so many more calls were answered, or a caller ended."""
        enough = len(self.losses) + more
        while len(self.losses) < enough and not any(end.done() for end in self._ends):
            self.is_over.wait(0.01)

    def ends(self) -> list[Future[None]]:
        """How each ended."""
        self._pool.shutdown(wait=True)
        return self._ends


def under_load(
    connect: Any, size: int, act: Callable[[Fleet, Callers], None], timeout: float = 20
) -> Callers:
    """Does something to servers whose drain takes no delay, while all callers call."""
    with fleet(size) as servers, connect(servers.target, timeout=timeout) as client:
        callers = Callers(client)
        try:
            callers.wait_for(CALLERS)
            act(servers, callers)
        finally:
            callers.is_over.set()
            callers.ends()
    return callers


def test_no_caller_sees_that_one_of_two_servers_ends(connect: Any) -> None:
    def end_one(servers: Fleet, callers: Callers) -> None:
        assert servers.remove(next(iter(servers.running))) == 0
        callers.wait_for(2 * CALLERS)

    callers = under_load(connect, 2, end_one)
    assert [end.exception() for end in callers.ends()] == [None] * CALLERS
    assert set(callers.losses) == {1}


def test_callers_of_the_only_server_are_told_that_there_is_none(connect: Any) -> None:
    def end_all(servers: Fleet, callers: Callers) -> None:
        (process,) = servers.running.values()
        process.process.send_signal(signal.SIGTERM)
        assert process.process.wait(20) == 0
        callers.is_over.set()

    callers = under_load(connect, 1, end_all, timeout=5)
    failures = [error for end in callers.ends() if (error := end.exception())]
    # An attempt that a busy machine still connects when the time is over can say no more than that.
    assert {type(error) for error in failures} <= {UnavailableError, DeadlineExceededError}
    assert any(isinstance(error, UnavailableError) for error in failures)
    assert set(callers.losses) == {1}
