"""What only asyncio has: tasks that are cancelled, and event loops."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2

from lossd import client, v1
from lossd.client import AsyncLossClient
from tests.flavours import Loop

INPUTS: dict[str, Any] = {"predictions": np.ones(2), "targets": np.zeros(2)}


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
    return await asyncio.to_thread(event.wait, 5)


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
            await loss_client.wait_until_ready()
            task = asyncio.create_task(loss_client.compute(v1.Huber(), **INPUTS))
            await asyncio.sleep(0.5)
            await cancelled(task)
            await asyncio.sleep(1)

    run(main())
    assert server.calls("ComputeLoss") == 1


def test_waiting_to_try_again_leaves_the_loop_to_other_tasks(
    serve: Any, refuse: Any, run: Any
) -> None:
    later = error_details_pb2.RetryInfo(retry_delay=Duration(nanos=300_000_000))
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
