"""Work of the main thread that is done in another one, as its caller would have done it there."""

import contextvars
import gc
import signal
import threading
import time
import traceback
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from lossd.client import DeadlineExceededError, submitting
from lossd.client.submitting import Background


class TooSlowError(TimeoutError):
    """Raised by a caller's own alarm."""


class Batch:
    """Stands for the arrays that work is done with."""


@pytest.fixture
def alarm() -> Iterator[None]:
    """Raises in the main thread soon."""

    def ring(*_: object) -> None:
        raise TooSlowError("step must take 10 ms")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def fail() -> None:
    raise KeyError("VAULT_ADDR")


@pytest.mark.usefixtures("alarm")
def test_what_a_handler_raises_is_raised_though_it_is_a_timeout() -> None:
    released = threading.Event()
    with pytest.raises(TooSlowError, match="10 ms") as caught:
        Background().unsignalled(lambda: released.wait(20), 20)
    released.set()
    assert "ring" in [frame.name for frame in traceback.extract_tb(caught.tb)]


def test_it_is_done_in_the_context_of_the_caller() -> None:
    trace = contextvars.ContextVar("trace", default="none")
    token = trace.set("the caller's")
    found = Background().unsignalled(trace.get, 5)
    trace.reset(token)
    assert found == "the caller's"


def test_an_error_tells_where_it_was_raised() -> None:
    with pytest.raises(KeyError) as caught:
        Background().unsignalled(fail, 5)
    assert "fail" in [frame.name for frame in traceback.extract_tb(caught.tb)]


def test_an_error_that_is_forgotten_keeps_no_batch() -> None:
    batch = Batch()
    kept = weakref.ref(batch)

    def work(batch: Any = batch) -> None:
        del batch
        fail()

    gc.collect()
    gc.disable()  # which would free a circle too, late
    try:
        with pytest.raises(KeyError):
            Background().unsignalled(work, 5)
        del work, batch
        until = time.monotonic() + 5
        while kept() is not None and time.monotonic() < until:  # its thread is about to end
            time.sleep(0.01)
        assert kept() is None
    finally:
        gc.enable()


def test_work_that_does_not_end_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submitting, "_PATIENCE", 0.1)
    released = threading.Event()
    with pytest.raises(DeadlineExceededError, match="no answer in time"):
        Background().unsignalled(lambda: released.wait(20), 0.1)
    released.set()
