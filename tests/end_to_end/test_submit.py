"""Calls in the background, each a future, and calls gathered by asyncio."""

import asyncio
import concurrent.futures
import contextvars
import functools
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from lossd import v1
from lossd.client import (
    AsyncLossClient,
    BatchWarning,
    CancelledError,
    DeadlineExceededError,
    InvalidRequestError,
    LossClient,
    cautions,
    submitting,
)
from lossd.client.submitting import CALLS
from lossd.v1 import F1, Accuracy, CrossEntropy, PairwiseAuc, SquaredError
from tests.end_to_end.conftest import Process, metric, serve
from tests.waiting import until

# Ten thousand million pairs take minutes; one of these goes in one message, the other in chunks.
PAIRS = PairwiseAuc(surrogate="LOGISTIC")
EXAMPLES = {"message": 200_000, "chunks": 800_000}


def pairs(count: int = EXAMPLES["message"]) -> dict[str, Any]:
    return {
        "predictions": np.zeros(count, np.float32),
        "targets": np.arange(count, dtype=np.int8) % 2,
    }


def draw(rows: int, seed: int) -> tuple[Any, Any]:
    random = np.random.default_rng(seed)
    return random.standard_normal((rows, 5), np.float32), random.integers(0, 5, rows)


def in_flight(server: Process) -> float:
    return metric(server, "lossd_inflight_requests")


def test_futures_have_what_the_calls_return(client: LossClient) -> None:
    batches = [draw(8, seed) for seed in range(3 * CALLS)]
    futures = [client.submit(CrossEntropy(), *batch) for batch in batches]
    done = concurrent.futures.wait(futures, 30).done

    assert done == set(futures)
    for future, batch in zip(futures, batches, strict=True):
        expected = client.compute(CrossEntropy(), *batch)
        assert future.result().loss == expected.loss
        np.testing.assert_array_equal(
            future.result().gradients["predictions"], expected.gradients["predictions"]
        )


def test_metrics_are_evaluated_and_losses_computed(client: LossClient) -> None:
    logits, labels = draw(16, 0)
    given: dict[str, Any] = {"predictions": logits, "targets": labels}
    metrics = [Accuracy(), F1(average="MACRO")]

    one = client.evaluate(Accuracy(), **given).value
    for metric_or_name in (Accuracy(), "accuracy", v1.MetricSpec(accuracy=Accuracy())):
        assert client.submit(metric_or_name, **given).result().value == one
    both = [result.value for result in client.evaluate(metrics, **given)]
    assert [result.value for result in client.submit(metrics, **given).result()] == both
    assert client.submit("cross_entropy", logits, labels, reduction="none").result().loss is None


def test_no_loss_has_the_name_of_a_metric() -> None:
    losses, metrics = (set(spec.DESCRIPTOR.fields_by_name) for spec in (v1.LossSpec, v1.MetricSpec))
    assert not losses & metrics


def test_a_mistake_is_raised_where_the_result_is_asked_for(client: LossClient) -> None:
    logits, labels = draw(4, 0)
    future = client.submit(CrossEntropy(), logits, labels + 9, request_id="epoch-3")
    with pytest.raises(InvalidRequestError, match="targets") as caught:
        future.result(30)
    assert caught.value.request_id == "epoch-3"
    assert future.exception() is caught.value
    with pytest.raises(InvalidRequestError, match="loss must be"):
        client.submit(7, logits, labels).result(30)  # type: ignore[call-overload]
    with pytest.raises(InvalidRequestError, match="timeout must be"):
        client.submit(CrossEntropy(), logits, labels, timeout=-1)


@pytest.mark.parametrize(
    ("name", "meant"), [("acuracy", "accuracy"), ("cross-entropy", "cross_entropy")]
)
def test_a_wrong_name_may_mean_a_loss_or_a_metric(
    client: LossClient, name: Any, meant: str
) -> None:
    logits, labels = draw(4, 0)
    future = client.submit(name, predictions=logits, targets=labels, request_id="epoch-3")
    with pytest.raises(InvalidRequestError, match=f"did you mean {meant}") as caught:
        future.result(30)
    assert caught.value.request_id == "epoch-3"


@pytest.mark.parametrize("way", EXAMPLES)
def test_a_future_that_is_cancelled_ends_its_call(way: str) -> None:
    with serve("--backend", "numpy") as process, LossClient(process.address) as client:
        future = client.submit(PAIRS, **pairs(EXAMPLES[way]), timeout=60)
        until(lambda: in_flight(process) == 1)
        assert not future.done()

        assert future.cancel()

        assert future.cancelled()
        until(lambda: in_flight(process) == 0)
        with pytest.raises(concurrent.futures.CancelledError):
            future.result(0)
        assert concurrent.futures.wait([future], 30).done == {future}
        assert client.submit(SquaredError(), [2.0], [0.0]).result(30).loss == 4
        assert metric(process, "lossd_examples_total", loss="pairwise_auc", backend="numpy") == 0


def test_a_future_that_is_done_is_not_cancelled(client: LossClient) -> None:
    future = client.submit(SquaredError(), [2.0], [0.0])
    assert future.result(30).loss == 4
    assert not future.cancel()
    assert future.result().loss == 4


def test_what_waits_for_a_turn_is_cancelled_before_it_is_sent() -> None:
    with serve("--backend", "numpy", "--threads", "1") as process:
        with LossClient(process.address, timeout=60) as client:
            busy = [client.submit(PAIRS, **pairs()) for _ in range(CALLS)]
            late = [client.submit(SquaredError(), [2.0], [0.0]) for _ in range(4)]
            assert all(future.cancel() for future in late)
            assert all(future.cancel() for future in busy)
            assert concurrent.futures.wait([*busy, *late], 30).not_done == set()
        until(lambda: in_flight(process) == 0)
        assert metric(process, "lossd_examples_total", loss="squared_error", backend="numpy") == 0


def test_the_timeout_counts_from_the_call(client: LossClient) -> None:
    held, begun = threading.Event(), threading.Barrier(CALLS + 1)

    def late_token() -> Any:
        begun.wait(30)
        held.wait(30)
        return [0.0]

    class Late:
        """An input that is there when the test says so."""

        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            return np.asarray(late_token(), dtype)

    client.input_names(SquaredError())
    busy = [client.submit(SquaredError(), Late(), [0.0]) for _ in range(CALLS)]
    begun.wait(30)
    late = [client.submit(SquaredError(), [2.0], [0.0], timeout=x) for x in (20, 0.05, 0.02)]
    for future in late[1:]:  # their time passes while they wait for a turn, which comes later
        with pytest.raises(DeadlineExceededError, match="got none of it left in the queue"):
            future.result(10)
    held.set()
    assert late[0].result(30).loss == 4
    assert [future.result(30).loss for future in busy] == [0.0] * CALLS


def test_what_waited_for_a_turn_has_the_rest_of_its_time(
    server: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submitting, "CALLS", 1)
    timeouts: list[float] = []

    class Slow(LossClient):
        def compute(self, *_: Any, timeout: float, **__: Any) -> None:  # type: ignore[override]
            timeouts.append(timeout)
            time.sleep(0.3)

    with Slow(server.address) as client:
        futures = [client.submit(SquaredError(), [2.0], [0.0], timeout=60) for _ in range(3)]
        concurrent.futures.wait(futures, 30)
    for waited, left in enumerate(timeouts):
        assert left <= 60 - 0.3 * waited + 0.01  # for the steps of clocks


def test_a_call_has_the_context_of_who_submits_it(server: Process) -> None:
    user = contextvars.ContextVar("user", default="nobody")
    told: list[str] = []

    def token() -> str:
        told.append(user.get())
        return "secret"

    def submitted(name: str) -> Any:
        user.set(name)
        return client.submit(Accuracy(), predictions=[1], targets=[1])

    names = [f"user {number}" for number in range(2 * CALLS)]
    with LossClient(server.address, token=token) as client:
        futures = [contextvars.copy_context().run(submitted, name) for name in names]
        concurrent.futures.wait(futures, 30)
    assert sorted(told) == sorted(names)


def test_what_is_made_ready_while_the_client_closes_is_given_up(server: Process) -> None:
    begun, may_go_on = threading.Event(), threading.Event()

    class Late:
        """An input that is there when the client is closed."""

        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            begun.set()
            may_go_on.wait(30)
            return np.zeros(1, dtype)

    client = LossClient(server.address)
    client.compute(SquaredError(), [2.0], [0.0])
    future = client.submit(SquaredError(), Late(), [0.0])
    assert begun.wait(30)
    client.close()
    may_go_on.set()
    assert isinstance(future.exception(30), CancelledError)


def test_closing_gives_up_what_is_not_done() -> None:
    with serve("--backend", "numpy") as process:
        client = LossClient(process.address, timeout=60)
        futures = [client.submit(PAIRS, **pairs()) for _ in range(CALLS + 4)]
        until(lambda: in_flight(process) > 0)
        client.close()
        for future in futures:
            error = future.exception(30)
            assert isinstance(error, CancelledError)
            assert str(error) == "call must be waited for, got a closed client"
        until(lambda: in_flight(process) == 0)
        with pytest.raises(InvalidRequestError, match="client must be open"):
            client.submit(SquaredError(), [2.0], [0.0])


def test_asyncio_gathers_calls_of_both_clients(server: Process, client: LossClient) -> None:
    batches = [draw(8, seed) for seed in range(40)]
    expected = [client.compute(CrossEntropy(), *batch).loss for batch in batches]

    async def main() -> None:
        async with AsyncLossClient(server.address) as other:
            found = await asyncio.gather(*(other.compute(CrossEntropy(), *b) for b in batches))
            assert [result.loss for result in found] == expected
            mixed = await asyncio.gather(
                other.compute(CrossEntropy(), *batches[0]),
                other.evaluate(Accuracy(), predictions=batches[0][0], targets=batches[0][1]),
                other.compute(CrossEntropy(), batches[0][0], [9] * 8),
                return_exceptions=True,
            )
            assert isinstance(mixed[2], InvalidRequestError)
            assert mixed[0].loss == expected[0]  # type: ignore[union-attr]
        futures = (client.submit(CrossEntropy(), *batch) for batch in batches)
        gathered = await asyncio.gather(*map(asyncio.wrap_future, futures))
        assert [result.loss for result in gathered] == expected

    asyncio.run(main())


def test_a_group_of_tasks_cancels_the_others_when_one_fails(server: Process) -> None:
    async def main() -> None:
        async with AsyncLossClient(server.address, timeout=60) as client:
            is_refused = False
            try:
                async with asyncio.TaskGroup() as group:
                    computing = group.create_task(client.compute(PAIRS, **pairs()))
                    group.create_task(client.compute(SquaredError(), [1.0], ["one"]))
            except* InvalidRequestError:
                is_refused = True
            assert is_refused
            assert computing.cancelled()

    asyncio.run(main())
    until(lambda: in_flight(server) == 0)


def test_a_warning_names_the_line_that_called(client: LossClient, server: Process) -> None:
    """Also where a thread prepares the batch, so that filters by module find it."""
    logits, labels = np.zeros((32, 32, 32), np.float32), np.zeros((32, 32), int)

    async def compute() -> None:
        async with AsyncLossClient(server.address) as asynchronous:
            await asynchronous.compute(CrossEntropy(), logits, labels)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        client.compute(CrossEntropy(), logits, labels)
        client.submit(CrossEntropy(), logits, labels).result(20)
        asyncio.run(compute())
    assert [record.category for record in caught] == [BatchWarning] * 3
    assert {record.filename for record in caught} == {__file__}


def test_a_warning_names_no_line_of_what_runs_a_call(client: LossClient, server: Process) -> None:
    """A task of the client's own coroutine, and a thread of its method, have none of the caller."""
    batch: dict[str, Any] = {
        "predictions": np.zeros((32, 32, 32), np.float32),
        "targets": np.zeros((32, 32), int),
    }
    call = functools.partial(client.compute, CrossEntropy(), **batch)

    async def compute() -> None:
        async with AsyncLossClient(server.address) as other:
            await asyncio.gather(*(other.compute(CrossEntropy(), **batch) for _ in range(2)))
            await asyncio.create_task(other.compute(CrossEntropy(), **batch))
        await asyncio.to_thread(call)

    with warnings.catch_warnings(record=True) as caught, ThreadPoolExecutor(1) as threads:
        warnings.simplefilter("always")
        asyncio.run(compute())
        threads.submit(call).result(20)
        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
        threads.submit(lambda: client.compute(CrossEntropy(), **batch)).result(20)
    assert [record.category for record in caught] == [BatchWarning] * 7
    assert {record.filename for record in caught[:6]} == {cautions.__file__}
    assert caught[6].filename == __file__
