"""Both clients behind one face, so that what they do alike is tested once, for either."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, Self

import grpc

from lossd.client import AsyncEvaluation, AsyncLossClient, LossClient


class Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="event loop")
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Waits for what a coroutine returns."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(60)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Waiting:
    """An ``AsyncLossClient`` with methods that wait, as those of ``LossClient`` do."""

    def __init__(self, client: AsyncLossClient, loop: Loop) -> None:
        self._client = client
        self._loop = loop

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)
        return lambda *arguments, **named: self._loop.run(method(*arguments, **named))

    def evaluation(self, *metrics: Any, **named: Any) -> "WaitingEvaluation":
        """An evaluation of many batches."""
        return WaitingEvaluation(self._client.evaluation(*metrics, **named), self._loop)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class WaitingEvaluation:
    """An ``AsyncEvaluation`` with methods that wait, as those of ``Evaluation`` do."""

    def __init__(self, evaluation: AsyncEvaluation[Any], loop: Loop) -> None:
        self._evaluation = evaluation
        self._loop = loop

    def __enter__(self) -> Self:
        self._loop.run(self._evaluation.__aenter__())
        return self

    def __exit__(self, *_error: object) -> None:
        self._loop.run(self._evaluation.__aexit__(None, None, None))

    def update(self, **inputs: Any) -> None:
        """As ``Evaluation.update``."""
        self._loop.run(self._evaluation.update(**inputs))

    def merge(self, *states: bytes) -> None:
        """As ``Evaluation.merge``."""
        self._loop.run(self._evaluation.merge(*states))

    def result(self) -> Any:
        """As ``Evaluation.result``."""
        return self._loop.run(self._evaluation.result())

    @property
    def state(self) -> Any:
        """As ``Evaluation.state``."""
        return self._loop.run(self._evaluation.state())


@dataclass(frozen=True)
class Flavour:
    """One of the two clients: how to make it, and a channel for it."""

    connect: Callable[..., Any]
    channel: Callable[[str], contextlib.AbstractContextManager[Any]]


@contextlib.contextmanager
def flavour(name: str) -> Iterator[Flavour]:
    """Gives the client of a name, "threads" or "asyncio"."""
    if name == "threads":
        yield Flavour(LossClient, grpc.insecure_channel)
        return
    loop = Loop()

    def connect(*arguments: Any, **named: Any) -> Waiting:
        return Waiting(AsyncLossClient(*arguments, **named), loop)

    @contextlib.contextmanager
    def channel(address: str) -> Iterator[grpc.aio.Channel]:
        async def opened() -> grpc.aio.Channel:
            return grpc.aio.insecure_channel(address)

        made = loop.run(opened())
        yield made
        loop.run(made.close())

    try:
        yield Flavour(connect, channel)
    finally:
        loop.stop()
