"""The parts that only asyncio has: tasks that are cancelled, and event loops."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2

from lossd import client, v1
from lossd.client import AsyncLossClient, own_threads
from tests.flavours import Loop
from tests.sharing_server import SharingServer
from tests.waiting import until

INPUTS: dict[str, Any] = {"predictions": np.ones(2), "targets": np.zeros(2)}
BATCH: dict[str, Any] = {  # worth sharing
    "predictions": np.zeros((200, 300), np.float32),
    "targets": np.zeros(200, int),
}


@pytest.fixture(scope="module")
def run() -> Any:
    """Runs coroutines, all in one event loop."""
    loop = Loop()
    yield loop.run
    loop.stop()


class Hanging:
    """A handler that answers once it is released or its caller has gone."""

    def __init__(self) -> None:
        self.entered, self.left = threading.Event(), threading.Event()

    def __call__(self, _request: Any, context: Any) -> Any:
        context.add_callback(self.left.set)
        self.entered.set()
        self.left.wait(30)
        return v1.ComputeLossResponse()


async def happened(event: threading.Event) -> bool:
    return await asyncio.to_thread(event.wait, 20)


Give = Callable[[asyncio.Task[Any]], Coroutine[Any, Any, None]]


async def cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def timed_out(task: asyncio.Task[Any]) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(task, 0.01)


@pytest.mark.parametrize("give_up", [cancelled, timed_out])
def test_a_task_that_gives_up_cancels_its_call_on_the_server(
    serve: Any, run: Any, give_up: Give
) -> None:
    hanging = Hanging()
    server = serve(ComputeLoss=hanging)

    async def main() -> None:
        async with AsyncLossClient(server.address) as loss_client:
            task = asyncio.create_task(loss_client.compute(v1.Huber(), **INPUTS))
            assert await happened(hanging.entered)
            await give_up(task)
            assert await happened(hanging.left)
            assert (await loss_client.server_info()).version == "1.2.3"

    run(main())
    assert server.calls("ComputeLoss") == 1


def test_a_task_that_is_cancelled_while_it_waits_to_try_again_tries_no_more(
    serve: Any, refuse: Any, run: Any
) -> None:
    later = error_details_pb2.RetryInfo(retry_delay=Duration(seconds=1))
    server = serve(ComputeLoss=refuse("RESOURCE_EXHAUSTED", "busy", later))

    async def main() -> None:
        async with AsyncLossClient(server.address) as loss_client:
            task = asyncio.create_task(loss_client.compute(v1.Huber(), **INPUTS))
            await asyncio.to_thread(until, lambda: server.calls("ComputeLoss"))
            await asyncio.sleep(0.2)  # until it was told to come later
            await cancelled(task)
            seen = server.calls("ComputeLoss")
            await asyncio.sleep(1.2)
            assert server.calls("ComputeLoss") == seen

    run(main())


def test_waiting_to_try_again_leaves_the_loop_to_other_tasks(
    serve: Any, refuse: Any, run: Any
) -> None:
    later = error_details_pb2.RetryInfo(retry_delay=Duration(seconds=1))
    server = serve(ComputeLoss=refuse("RESOURCE_EXHAUSTED", "busy", later, times=1))

    async def main() -> int:
        async with AsyncLossClient(server.address) as loss_client:
            task = asyncio.create_task(loss_client.compute(v1.Huber(), **INPUTS))
            calls = 0
            while not task.done():
                await loss_client.server_info()
                calls += 1
            assert (await task).loss == 1.5
            return calls

    assert run(main()) > 3


def test_many_tasks_share_a_client_and_get_each_its_own_answer(serve: Any, run: Any) -> None:
    def echo(request: Any, _context: Any) -> Any:
        response = v1.ComputeLossResponse()
        response.per_example.CopyFrom(request.inputs[0].tensors[0])
        return response

    server = serve(ComputeLoss=echo)

    async def main() -> list[Any]:
        async with AsyncLossClient(server.address) as loss_client:
            batches = [np.full(3, number, np.float32) for number in range(200)]
            results = await asyncio.gather(
                *(loss_client.compute(v1.Huber(), batch, targets=batch) for batch in batches)
            )
            return [np.asarray(result.per_example)[0] for result in results]

    assert run(main()) == list(range(200))


def test_closing_a_client_does_not_cancel_the_tasks_that_wait_for_it(serve: Any, run: Any) -> None:
    hanging = Hanging()
    server = serve(ComputeLoss=hanging)

    async def main() -> None:
        loss_client = AsyncLossClient(server.address)
        task = asyncio.create_task(loss_client.compute(v1.Huber(), request_id="step-7", **INPUTS))
        assert await happened(hanging.entered)
        await loss_client.close()
        with pytest.raises(client.CancelledError) as caught:
            await task
        assert caught.value.request_id == "step-7"
        assert not task.cancelled()
        await loss_client.close()

    run(main())


@pytest.mark.parametrize("give_up", [cancelled, timed_out])
def test_a_call_that_is_given_up_leaves_its_reply_a_place_of_its_own(
    serve: Any, run: Any, tmp_path: Path, give_up: Give
) -> None:
    hanging, offering = Hanging(), SharingServer(tmp_path)
    server = serve(ComputeLoss=hanging, **offering.handlers())

    async def main() -> None:
        async with AsyncLossClient(server.address) as loss_client:
            task = asyncio.create_task(loss_client.compute(v1.CrossEntropy(), **BATCH))
            assert await happened(hanging.entered)
            await give_up(task)
            assert await happened(hanging.left)
            await loss_client.compute(v1.CrossEntropy(), **BATCH)

    run(main())
    first, second = (request.reply.start.segment for request in server.seen["ComputeLoss"])
    assert {first, second} <= set(offering.attached)
    assert first != second
    assert sorted(offering.detached) == sorted(offering.attached)


def test_a_task_may_be_cancelled_while_it_finds_out_what_is_shared(
    serve: Any, run: Any, tmp_path: Path
) -> None:
    hanging, offering = Hanging(), SharingServer(tmp_path)
    answer = offering.handlers()["GetServerInfo"]

    def answer_late(request: Any, context: Any) -> Any:
        hanging(request, context)
        return answer(request, context)

    server = serve(**offering.handlers() | {"GetServerInfo": answer_late})

    async def main() -> None:
        async with AsyncLossClient(server.address) as loss_client:
            task = asyncio.create_task(loss_client.compute(v1.CrossEntropy(), **BATCH))
            assert await happened(hanging.entered)
            await cancelled(task)
            assert not hanging.left.is_set()
            hanging.left.set()
            await loss_client.compute(v1.CrossEntropy(), **BATCH)

    run(main())
    (request,) = server.seen["ComputeLoss"]
    assert request.HasField("reply")
    assert server.calls("GetServerInfo") == 1
    assert sorted(offering.detached) == sorted(offering.attached)


def test_a_loop_may_end_while_a_thread_asks_through_it(serve: Any, tmp_path: Path) -> None:
    hanging, offering = Hanging(), SharingServer(tmp_path)
    server = serve(**offering.handlers() | {"GetServerInfo": hanging})
    loss_client = AsyncLossClient(server.address)

    async def main() -> None:
        task = asyncio.create_task(loss_client.compute(v1.CrossEntropy(), **BATCH))
        assert await happened(hanging.entered)
        assert not task.done()

    asyncio.run(main())
    assert hanging.left.wait(20)
    assert server.calls("ComputeLoss") == 0


def test_tasks_that_start_together_find_out_once_what_is_shared(
    serve: Any, run: Any, tmp_path: Path
) -> None:
    offering = SharingServer(tmp_path)
    server = serve(**offering.handlers())

    async def main() -> None:
        async with AsyncLossClient(server.address) as loss_client:
            calls = [loss_client.compute(v1.CrossEntropy(), **BATCH) for _ in range(8)]
            await asyncio.gather(loss_client.empty(100), *calls)

    run(main())
    assert server.calls("GetServerInfo") == 1
    assert all(request.HasField("reply") for request in server.seen["ComputeLoss"])
    assert sorted(offering.detached) == sorted(offering.attached)


def test_threads_of_the_loop_may_all_be_taken(serve: Any, tmp_path: Path) -> None:
    server = serve(**SharingServer(tmp_path).handlers())
    threads, done = ThreadPoolExecutor(1), threading.Event()

    async def main() -> None:
        asyncio.get_running_loop().set_default_executor(threads)
        taken = asyncio.get_running_loop().run_in_executor(None, done.wait, 30)
        try:
            async with asyncio.timeout(10), AsyncLossClient(server.address) as loss_client:
                await loss_client.empty(100)
                await loss_client.compute(v1.CrossEntropy(), **BATCH)
        finally:
            done.set()
            await taken

    asyncio.run(main())
    (request,) = server.seen["ComputeLoss"]
    assert request.HasField("reply")


def give_threads(monkeypatch: pytest.MonkeyPatch, threads: ThreadPoolExecutor) -> None:
    """Gives clients some threads for their own."""
    monkeypatch.setattr(own_threads, "ThreadPoolExecutor", lambda *_, **__: threads)


def test_a_call_that_lost_its_server_waits_for_a_thread_within_its_timeout(
    serve: Any, refuse: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads, done = ThreadPoolExecutor(1), threading.Event()
    unavailable = refuse("UNAVAILABLE")
    give_threads(monkeypatch, threads)

    def take_the_thread(request: Any, context: Any) -> Any:
        threads.submit(done.wait, 20)
        return unavailable(request, context)

    handlers = SharingServer(tmp_path).handlers()
    loss_client = AsyncLossClient(serve(ComputeLoss=take_the_thread, **handlers).address)

    async def main() -> None:
        try:
            with pytest.raises(client.DeadlineExceededError, match="within the call's timeout"):
                async with asyncio.timeout(10):
                    await loss_client.compute(v1.CrossEntropy(), **BATCH, timeout=1)
        finally:
            done.set()
            await loss_client.close()

    asyncio.run(main())


class Counting(ThreadPoolExecutor):
    """Threads that count what they are given."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def submit(self, *arguments: Any, **named: Any) -> Any:
        self.count += 1
        return super().submit(*arguments, **named)


def test_a_thread_is_taken_only_for_what_may_be_shared(
    serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    near, far = serve(**SharingServer(tmp_path).handlers()), serve()

    async def threads_of(server: Any, batch: dict[str, Any]) -> int:
        threads = Counting()
        give_threads(monkeypatch, threads)
        async with AsyncLossClient(server.address) as loss_client:
            await loss_client.compute(v1.CrossEntropy(), **BATCH)  # finds out
            before = threads.count
            await loss_client.compute(v1.CrossEntropy(), **batch)
            return threads.count - before

    async def main() -> list[int]:
        return [
            await threads_of(server, batch) for server in (near, far) for batch in (INPUTS, BATCH)
        ]

    assert asyncio.run(main()) == [0, 1, 0, 0]


def test_a_channel_that_was_passed_in_outlives_the_client(serve: Any, run: Any) -> None:
    server = serve()

    async def main() -> None:
        async with grpc.aio.insecure_channel(server.address) as channel:
            async with AsyncLossClient(channel=channel) as loss_client:
                assert (await loss_client.server_info()).version == "1.2.3"
            with pytest.raises(client.InvalidRequestError, match=r"^client must be open"):
                await loss_client.server_info()
            second = AsyncLossClient(channel=channel)
            assert (await second.server_info()).version == "1.2.3"
        with pytest.raises(client.InvalidRequestError, match=r"^client must be open"):
            await second.server_info()

    run(main())


def test_a_client_may_be_made_outside_of_a_loop_and_stays_in_its_first(
    serve: Any, run: Any
) -> None:
    loss_client = AsyncLossClient(serve().address)

    async def version() -> str:
        return (await loss_client.server_info()).version

    assert run(version()) == "1.2.3"
    with pytest.raises(client.InvalidRequestError, match=r"^client must stay in one event loop"):
        asyncio.run(version())
    run(loss_client.close())
