"""Batches that an evaluation takes go out; those after its end are refused.  Nobody is called."""

import contextlib
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from lossd import v1
from lossd.client.call import ClientCall
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

    def answer(self) -> None:
        self.set_result(ANSWER.SerializeToString())


class Connection:
    """Has an evaluation go where a test takes its messages from."""

    def __init__(self) -> None:
        self.stream = Stream()
        self.messages: Iterator[v1.EvaluateStreamRequest] = iter(())

    def trace(self, *_: object) -> contextlib.AbstractContextManager[tuple[()]]:
        return contextlib.nullcontext(())

    def follow(self, _: object, begin: Any, *__: object) -> Stream:
        self.messages = begin().messages()
        next(self.messages)  # which opens it
        return self.stream

    def answer(self, stream: Stream, _: float) -> bytes:
        return stream.result()

    def cancel(self, stream: Stream) -> None:
        stream.cancel()

    def sent(self) -> int:
        """Returns how many batches go out until the stream ends."""
        return len(list(self.messages))


@pytest.fixture
def connection() -> Connection:
    return Connection()


@pytest.fixture
def run(connection: Connection) -> Iterator[Evaluation[Any]]:
    call, first = ClientCall("id", time.monotonic() + 60), v1.EvaluateRequest()
    made: Any = connection
    made_up: Evaluation[Any] = Evaluation(made, call, first, is_one=True)
    with made_up:
        yield made_up


def refused() -> Any:
    return pytest.raises(InvalidRequestError, match="evaluation must be open, got one that has end")


def test_what_was_taken_before_the_end_goes_out(connection: Connection, run: Any) -> None:
    for _ in range(2):
        run.update(**BATCH)
    with ThreadPoolExecutor(1) as threads:
        result = threads.submit(run.result)
        assert connection.stream.asked.wait(20)
        assert connection.sent() == 2
        connection.stream.answer()
        result.result(20)


def test_a_batch_that_comes_while_the_result_is_waited_for_is_refused(
    connection: Connection, run: Any
) -> None:
    with ThreadPoolExecutor(1) as threads:
        result = threads.submit(run.result)
        assert connection.stream.asked.wait(20)
        with refused():
            run.update(**BATCH)
        with refused():
            run.merge(b"state")
        assert connection.sent() == 0
        connection.stream.answer()
        result.result(20)


def test_a_batch_that_waits_for_room_until_the_end_is_refused(
    connection: Connection, run: Any
) -> None:
    for _ in range(2):
        run.update(**BATCH)
    with ThreadPoolExecutor(2) as threads:
        waiting = threads.submit(run.update, **BATCH)
        result = threads.submit(run.result)
        with refused():
            waiting.result(20)
        assert connection.sent() == 2
        connection.stream.answer()
        result.result(20)


def test_a_batch_after_a_result_that_was_interrupted_is_refused(
    connection: Connection, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt() -> bytes:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(connection.stream, "result", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run.result()
    with refused():
        run.update(**BATCH)
    connection.stream.answer()
    run.result()
    assert connection.sent() == 0


def test_a_batch_that_a_call_which_has_ended_takes_no_more_is_refused(
    connection: Connection, run: Any
) -> None:
    connection.messages.close()  # type: ignore[attr-defined]  # as gRPC does
    connection.stream.answer()
    with refused():
        run.update(**BATCH)


def test_several_threads_may_ask_for_the_result(connection: Connection, run: Any) -> None:
    with ThreadPoolExecutor(2) as threads:
        results = [threads.submit(run.result) for _ in range(2)]
        assert connection.stream.asked.wait(20)
        connection.stream.answer()
        assert len({each.result(20).metric for each in results}) == 1
