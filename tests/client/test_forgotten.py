"""Of a call that is over, no batch is kept until a collector comes: it may be off in training."""

import asyncio
import gc
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from lossd.client import AsyncLossClient, LossClient, LossdError
from lossd.v1 import Huber


class Batch(np.ndarray[Any, Any]):
    """An array that can be watched."""


@pytest.fixture
def uncollected() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def computed(address: str, batch: Any) -> None:
    with LossClient(address) as client:
        client.compute(Huber(), predictions=batch, targets=batch)


def submitted(address: str, batch: Any) -> None:
    with LossClient(address) as client:
        client.submit(Huber(), predictions=batch, targets=batch).result(20)


def awaited(address: str, batch: Any) -> None:
    async def main() -> LossdError | None:
        async with AsyncLossClient(address) as client:
            try:
                await client.compute(Huber(), predictions=batch, targets=batch)
            except LossdError as error:  # or asyncio would keep it
                return error
            return None

    error = asyncio.run(main())
    try:
        if error is not None:
            raise error
    finally:
        del error


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("size", [10, 1 << 20], ids=["message", "chunks"])
@pytest.mark.parametrize("call", [computed, submitted, awaited])
@pytest.mark.parametrize("code", ["INVALID_ARGUMENT", "UNAVAILABLE"])
def test_a_call_that_failed_or_was_repeated_keeps_no_batch(
    serve: Any, refuse: Any, code: str, call: Callable[[str, Any], None], size: int
) -> None:
    always = code == "INVALID_ARGUMENT"
    answer = refuse(code) if always else refuse(code, times=2)
    server = serve(ComputeLoss=answer, StreamLoss=answer)
    batch = np.zeros(size).view(Batch)
    kept = weakref.ref(batch)
    if always:
        with pytest.raises(LossdError):
            call(server.address, batch)
    else:
        call(server.address, batch)
    del batch
    until = time.monotonic() + 5
    while kept() is not None and time.monotonic() < until:  # a thread may be about to end
        time.sleep(0.01)
    assert kept() is None
