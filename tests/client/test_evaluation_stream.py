"""Batches that an evaluation takes go out; those after its end are refused.  Nobody is called."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from lossd import v1
from lossd.client.call import REQUEST_ID_KEY, ClientCall
from lossd.client.connection import Connection
from lossd.client.errors import InvalidRequestError
from lossd.client.evaluation import Evaluation

BATCH: dict[str, Any] = {"predictions": [1.0], "targets": [1]}
ANSWER = v1.EvaluateStreamResponse(whole=v1.EvaluateResponse(results=[v1.MetricResult()]))


class Stream(Future[bytes]):
    """The call of an evaluation; ``asked`` tells that its answer is waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Event()

    def result(self, timeout: float | None = 20) -> bytes:
        self.asked.set()
        return super().result(timeout)

    def initial_metadata(self) -> tuple[tuple[str, str], ...]:
        return ((REQUEST_ID_KEY, "id"),)  # there is room for it

    def answer(self) -> None:
        self.set_result(ANSWER.SerializeToString())


class Channel:
    """Has an evaluation go where a test takes its messages from."""

    def __init__(self) -> None:
        self.stream = Stream()
        self.messages: Iterator[v1.EvaluateStreamRequest] = iter(())

    def stream_unary(self, *_: object) -> Any:
        return SimpleNamespace(future=self._begin)

    def _begin(self, messages: Iterator[v1.EvaluateStreamRequest], **_: object) -> Stream:
        self.messages = messages
        next(self.messages)  # which opens it
        return self.stream

    def sent(self) -> int:
        """Returns how many batches go out until the stream ends."""
        return len(list(self.messages))


@pytest.fixture
def channel() -> Channel:
    return Channel()


@pytest.fixture
def run(channel: Channel) -> Iterator[Evaluation[Any]]:
    call, first = ClientCall("id", time.monotonic() + 60), v1.EvaluateRequest()
    lent: Any = channel
    made_up: Evaluation[Any] = Evaluation(Connection("unused", lent), call, first, is_one=True)
    with made_up:
        yield made_up


def refused() -> Any:
    return pytest.raises(InvalidRequestError, match="evaluation must be open, got one that has end")


def test_what_was_taken_before_the_end_goes_out(channel: Channel, run: Any) -> None:
    for _ in range(2):
        run.update(**BATCH)
    with ThreadPoolExecutor(1) as threads:
        result = threads.submit(run.result)
        assert channel.stream.asked.wait(20)
        assert channel.sent() == 2
        channel.stream.answer()
        result.result(20)


def test_a_batch_that_comes_while_the_result_is_waited_for_is_refused(
    channel: Channel, run: Any
) -> None:
    with ThreadPoolExecutor(1) as threads:
        result = threads.submit(run.result)
        assert channel.stream.asked.wait(20)
        with refused():
            run.update(**BATCH)
        with refused():
            run.merge(b"state")
        assert channel.sent() == 0
        channel.stream.answer()
        result.result(20)


def test_a_batch_that_waits_for_room_until_the_end_is_refused(channel: Channel, run: Any) -> None:
    for _ in range(2):
        run.update(**BATCH)
    with ThreadPoolExecutor(2) as threads:
        waiting = threads.submit(run.update, **BATCH)
        result = threads.submit(run.result)
        with refused():
            waiting.result(20)
        assert channel.sent() == 2
        channel.stream.answer()
        result.result(20)


def test_a_batch_after_a_result_that_was_interrupted_is_refused(
    channel: Channel, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt() -> bytes:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(channel.stream, "result", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run.result()
    with refused():
        run.update(**BATCH)
    channel.stream.answer()
    run.result()
    assert channel.sent() == 0


def test_a_batch_that_a_call_which_has_ended_takes_no_more_is_refused(
    channel: Channel, run: Any
) -> None:
    channel.messages.close()  # type: ignore[attr-defined]  # as gRPC does
    channel.stream.answer()
    with refused():
        run.update(**BATCH)


def test_several_threads_may_ask_for_the_result(channel: Channel, run: Any) -> None:
    with ThreadPoolExecutor(2) as threads:
        results = [threads.submit(run.result) for _ in range(2)]
        assert channel.stream.asked.wait(20)
        channel.stream.answer()
        assert len({each.result(20).metric for each in results}) == 1
