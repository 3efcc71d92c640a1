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
PATIENCE = 3.0
# Seconds that a busy machine may add, less than what is stuck stays so.
LATE = 20


class Stuck:
    """A channel on which no stream begins until it is released; ``asked`` tells of the first."""

    def __init__(self, channel: Any, released: threading.Event, asked: threading.Event) -> None:
        self._channel = channel
        self._released = released
        self._asked = asked

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)

    def stream_stream(self, *arguments: Any) -> Any:
        method = self._channel.stream_stream(*arguments)

        def begin(*arguments: Any, **named: Any) -> Any:
            self._asked.set()
            self._released.wait(60)
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
def asked() -> threading.Event:
    """Tells that a stream should have begun on the channel that is stuck."""
    return threading.Event()


@pytest.fixture
def address(
    serve: Any, released: threading.Event, asked: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """A server, of which the first channel that is opened gets stuck."""
    opened: list[Any] = []
    open_one = grpc.insecure_channel

    def opening(*arguments: Any) -> Any:
        channel = open_one(*arguments)
        opened.append(channel)
        return Stuck(channel, released, asked) if len(opened) == 1 else channel

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


def stuck(client: LossClient, asked: threading.Event) -> float:
    """Returns the seconds that a large call takes to be late which was stuck.

    On a busy machine the time of a call may be over before it asks gRPC for anything.
    """
    took = late(client)
    while not asked.is_set():
        took = late(client)
    return took


def test_a_call_of_the_main_thread_ends_and_the_next_has_another_channel(
    address: str, asked: threading.Event
) -> None:
    with LossClient(address, timeout=30) as client:
        assert stuck(client, asked) < SECONDS + PATIENCE + LATE
        assert client.compute("huber", BATCH, BATCH).loss == LOSS


def test_so_it_is_where_a_function_is_the_target(address: str, asked: threading.Event) -> None:
    with LossClient(lambda: address, timeout=30) as client:
        stuck(client, asked)
        assert client.compute("huber", BATCH, BATCH).loss == LOSS


def test_calls_behind_it_end_within_their_timeouts(
    address: str, released: threading.Event, asked: threading.Event
) -> None:
    with LossClient(address, timeout=30) as client:
        first = threading.Thread(target=client.compute, args=("huber", BATCH, BATCH))
        first.start()
        assert asked.wait(20)
        assert late(client) < PATIENCE
        released.set()
        first.join()


def test_closing_waits_for_it_no_longer_than_a_moment(
    address: str, released: threading.Event, asked: threading.Event
) -> None:
    client = LossClient(address, timeout=30)
    first = threading.Thread(target=client.compute, args=("huber", BATCH, BATCH))
    first.start()
    assert asked.wait(20)
    begun = time.monotonic()
    client.close()
    assert time.monotonic() - begun < PATIENCE + LATE
    released.set()
    first.join()


def test_that_of_a_caller_goes_on_when_it_is_no_longer_stuck(
    serve: Any, released: threading.Event, asked: threading.Event
) -> None:
    with grpc.insecure_channel(serve().address) as real:
        channel: Any = Stuck(real, released, asked)
        with LossClient(channel=channel, timeout=30) as client:
            stuck(client, asked)
            assert late(client) < PATIENCE
            released.set()
            assert client.compute("huber", BATCH, BATCH).loss == LOSS
