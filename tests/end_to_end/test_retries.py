"""Calls that a busy server, one that ends, and one that is killed all answer in the end."""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lossd.client import (
    CancelledError,
    DeadlineExceededError,
    InvalidRequestError,
    LossClient,
    LossResult,
    OverloadedError,
    UnavailableError,
)
from lossd.v1 import Accuracy, SquaredError
from tests.end_to_end.conftest import Process, metric, serve
from tests.waiting import until

# Elements of float32 that go in the message, in shared memory where there is some, in chunks.
SIZES = {"message": 320, "memory": 1 << 15, "chunks": 1 << 19}


def compute(client: Any, size: int, **options: Any) -> LossResult:
    ones = np.ones(size, np.float32)
    found: LossResult = client.compute(SquaredError(), ones, np.zeros_like(ones), **options)
    return found


@pytest.mark.parametrize("way", SIZES)
def test_24_calls_at_once_are_all_answered_by_a_server_that_takes_2(
    connect: Any, tmp_path: Path, way: str
) -> None:
    limits = ("--max-calls", "2", "--shm-dir", str(tmp_path))
    with (
        serve("--backend", "numpy", *limits) as process,
        connect(process.address, timeout=30) as client,
        ThreadPoolExecutor(24) as pool,
    ):
        found = list(pool.map(lambda _: compute(client, SIZES[way]), range(24)))
        refused = metric(process, "lossd_rejected_total", reason="TOO_MANY_CALLS")
    assert {result.loss for result in found} == {1}
    assert refused <= 24 * 12  # it is not stormed


def test_200_callers_are_all_answered_by_a_server_as_it_comes(connect: Any) -> None:
    with (
        serve("--backend", "numpy") as process,
        connect(process.address, timeout=30) as client,
        ThreadPoolExecutor(200) as pool,
    ):
        found = list(pool.map(lambda _: compute(client, 320), range(1000)))
    assert {result.loss for result in found} == {1}


def test_evaluations_of_one_batch_are_repeated_too(connect: Any) -> None:
    given = {"predictions": [1.0, -1.0], "targets": [1, 1]}
    with (
        serve("--backend", "numpy", "--max-calls", "1") as process,
        connect(process.address, timeout=30) as client,
        ThreadPoolExecutor(8) as pool,
    ):
        found = list(pool.map(lambda _: client.evaluate(Accuracy(), **given), range(24)))
    assert {result.value for result in found} == {0.5}


@pytest.mark.parametrize("limit", ["--max-message-bytes", "--max-inflight-bytes"])
@pytest.mark.parametrize("size", [1 << 16, 1 << 19])
def test_a_batch_that_never_fits_is_refused_at_once(connect: Any, limit: str, size: int) -> None:
    with (
        serve("--backend", "numpy", limit, "100000") as process,
        connect(process.address, timeout=30) as client,
    ):
        begin = time.monotonic()
        with pytest.raises(OverloadedError) as caught:
            compute(client, size)
        assert time.monotonic() - begin < 10
        assert caught.value.retry_delay is None


@pytest.fixture
def address(tmp_path: Path) -> str:
    return f"unix:{tmp_path}/lossd.sock"


def ended_and_started_again(
    process: Process, stack: contextlib.ExitStack, how: signal.Signals, arguments: Any
) -> None:
    """Ends a server, and starts another in its place after a while."""
    process.process.send_signal(how)
    process.process.wait(30)
    time.sleep(1)  # what is tested is that nobody is there meanwhile
    stack.enter_context(serve(*arguments, address=process.address))


@contextlib.contextmanager
def restarting(address: str, how: signal.Signals, *arguments: str) -> Iterator[threading.Thread]:
    """Runs a server, and gives the thread that puts another in its place."""
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(serve(*arguments, address=address))
        swap = (first, stack, how, arguments)
        thread = threading.Thread(target=ended_and_started_again, args=swap)
        yield thread
        thread.join()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("way", SIZES)
def test_callers_of_a_server_that_is_replaced_notice_nothing(
    connect: Any, tmp_path: Path, address: str, way: str, how: signal.Signals
) -> None:
    arguments = ("--backend", "numpy", "--shm-dir", str(tmp_path))

    def call_until(client: Any, swap: threading.Thread) -> list[LossResult]:
        found = []
        while swap.is_alive():
            found.append(compute(client, SIZES[way]))
        return [*found, compute(client, SIZES[way])]

    with (
        restarting(address, how, *arguments) as swap,
        connect(address, timeout=30) as client,
        ThreadPoolExecutor(8) as pool,
    ):
        compute(client, SIZES[way])
        swap.start()
        callers = [pool.submit(call_until, client, swap) for _ in range(8)]
        found = [result for caller in callers for result in caller.result(60)]
    assert {result.loss for result in found} == {1}
    expected = "shared_memory" if way == "memory" else "grpc"
    assert expected in {result.transport for result in found}


def test_where_no_server_is_the_log_and_the_error_say_where(
    connect: Any, address: str, caplog: pytest.LogCaptureFixture
) -> None:
    named = f"server at {address} must answer within 2.5 s, got no gRPC connection: {address}: "
    with connect(address) as client, pytest.raises(UnavailableError) as caught:
        compute(client, 320, timeout=2.5)

    assert str(caught.value).startswith(named)
    warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warned) == 1
    assert warned[0].startswith(f"server at {address} gives no gRPC connection, 1 s left: ")
    assert all(
        text.endswith('is "lossd serve" running there?') for text in (*warned, str(caught.value))
    )


def test_a_server_that_drains_is_said_to_be_there(
    connect: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with serve("--backend", "numpy", "--drain-delay-seconds", "60") as process:
        process.process.send_signal(signal.SIGTERM)
        until(lambda: metric(process, "lossd_ready") == 0)
        with connect(process.address) as client, pytest.raises(UnavailableError) as caught:
            compute(client, 320, timeout=2.5)

    named = f"server at {process.address}"
    ending = "not ready: it starts or drains"
    assert str(caught.value) == f"{named} must answer within 2.5 s, got one that is {ending}"
    warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warned == [f"{named} is {ending}, 1 s left"]


def test_a_client_whose_calls_failed_for_long_finds_a_server_when_it_comes(
    connect: Any, address: str
) -> None:
    with connect(address) as client:
        for _ in range(15):  # a budget of retries would be empty by now
            with pytest.raises((UnavailableError, DeadlineExceededError)):
                compute(client, 320, timeout=0.1)
        with ThreadPoolExecutor(1) as pool:
            early = pool.submit(compute, client, 320, timeout=30)
            with serve("--backend", "numpy", address=address):
                started = time.monotonic()
                assert early.result(30).loss == 1
                assert time.monotonic() - started < 5


def evaluated(client: Any, **options: Any) -> float:
    """Returns the result of an evaluation over a stream."""
    with client.evaluation(Accuracy(), **options) as run:
        run.update(predictions=[1.0, -1.0], targets=[1, 1])
        found: float = run.result().value
    return found


def test_an_evaluation_begins_when_a_server_comes(connect: Any, address: str) -> None:
    with connect(address) as client, ThreadPoolExecutor(1) as pool:
        early = pool.submit(evaluated, client, timeout=30)
        time.sleep(1)  # what is tested is that nobody is there meanwhile
        assert not early.done()
        with serve("--backend", "numpy", address=address):
            assert early.result(30) == 0.5


def test_an_evaluation_begins_when_there_is_room_for_it(connect: Any) -> None:
    with (
        serve("--backend", "numpy", "--max-calls", "2") as process,
        connect(process.address) as client,
        LossClient(process.address) as other,
        ThreadPoolExecutor(1) as pool,
    ):
        with other.evaluation(Accuracy()) as run:
            run.update(predictions=[1.0], targets=[1])
            late = pool.submit(evaluated, client, timeout=30)
            until(lambda: metric(process, "lossd_rejected_total", reason="TOO_MANY_STREAMS") > 0)
            assert not late.done()
            assert run.result().value == 1.0
        assert late.result(30) == 0.5


def test_an_evaluation_that_waits_for_a_server_ends_with_its_client(
    connect: Any, address: str
) -> None:
    client = connect(address)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(evaluated, client, timeout=30)
        time.sleep(0.5)
        client.close()
        with pytest.raises((CancelledError, InvalidRequestError)):
            waiting.result(10)
