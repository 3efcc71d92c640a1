"""Channels on which no call begins any more, as where an interrupt left a lock of gRPC's taken."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest

from lossd.client import DeadlineExceededError, LossClient, renewing, submitting

# A batch that goes in chunks, and its loss.
BATCH, LOSS = np.ones((1 << 17, 8), np.float32), 1.5
SECONDS = 0.3
# What tells a call that ended in time from one that waited for gRPC too.
PATIENCE = 2.0


class Stuck:
    """A channel on which no stream begins until it is released."""

    def __init__(self, channel: Any, released: threading.Event) -> None:
        self._channel = channel
        self._released = released

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)

    def stream_stream(self, *arguments: Any) -> Any:
        method = self._channel.stream_stream(*arguments)

        def begin(*arguments: Any, **named: Any) -> Any:
            self._released.wait(30)
            return method(*arguments, **named)

        return begin


@pytest.fixture
def released(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Has calls wait for gRPC for a moment only; set, it has those that are stuck begin."""
    monkeypatch.setattr(submitting, "_PATIENCE", PATIENCE)
    monkeypatch.setattr(renewing, "_PATIENCE", PATIENCE)
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def address(
    serve: Any, released: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """A server, of which the first channel that is opened gets stuck."""
    opened: list[Any] = []
    open_one = grpc.insecure_channel

    def opening(*arguments: Any) -> Any:
        channel = open_one(*arguments)
        opened.append(channel)
        return Stuck(channel, released) if len(opened) == 1 else channel

    address: str = serve().address
    monkeypatch.setattr(grpc, "insecure_channel", opening)
    yield address
    released.set()


def late(client: LossClient) -> float:
    """Returns the seconds that a large call takes to be late."""
    begun = time.monotonic()
    with pytest.raises(DeadlineExceededError):
        client.compute("huber", BATCH, BATCH, timeout=SECONDS)
    return time.monotonic() - begun


def test_a_call_of_the_main_thread_ends_and_the_next_has_another_channel(address: str) -> None:
    with LossClient(address, timeout=10) as client:
        assert late(client) < SECONDS + PATIENCE + 2
        assert client.compute("huber", BATCH, BATCH).loss == LOSS


def test_so_it_is_where_a_function_is_the_target(address: str) -> None:
    with LossClient(lambda: address, timeout=10) as client:
        late(client)
        assert client.compute("huber", BATCH, BATCH).loss == LOSS


def test_calls_behind_it_end_within_their_timeouts(address: str, released: threading.Event) -> None:
    with LossClient(address, timeout=20) as client:
        first = threading.Thread(target=client.compute, args=("huber", BATCH, BATCH))
        first.start()
        time.sleep(0.2)
        assert late(client) < PATIENCE
        released.set()
        first.join()


def test_closing_waits_for_it_no_longer_than_a_moment(
    address: str, released: threading.Event
) -> None:
    client = LossClient(address, timeout=20)
    first = threading.Thread(target=client.compute, args=("huber", BATCH, BATCH))
    first.start()
    time.sleep(0.2)
    begun = time.monotonic()
    client.close()
    assert time.monotonic() - begun < PATIENCE + 2
    released.set()
    first.join()


def test_that_of_a_caller_goes_on_when_it_is_no_longer_stuck(
    serve: Any, released: threading.Event
) -> None:
    with grpc.insecure_channel(serve().address) as real:
        channel: Any = Stuck(real, released)
        with LossClient(channel=channel, timeout=10) as client:
            late(client)
            assert late(client) < PATIENCE
            released.set()
            assert client.compute("huber", BATCH, BATCH).loss == LOSS
