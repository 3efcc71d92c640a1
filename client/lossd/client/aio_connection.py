"""The channel of an ``AsyncLossClient``, opened at first use, and calls on it.

It belongs to one event loop, because a channel is bound to the loop that it was made in.
"""

import asyncio
import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError as FutureCancelledError
from typing import Any, TypeVar, cast

import grpc
from google.protobuf.message import Message

from lossd.client.answer_memory import AnswerMemory
from lossd.client.arrays import Array
from lossd.client.call import (
    Answer,
    ClientCall,
    Method,
    RequestIds,
    left_until,
)
from lossd.client.errors import (
    CancelledError,
    InvalidRequestError,
    LossdError,
    UnavailableError,
    closed_error,
    forked_error,
    given_up_error,
    lost_error,
)
from lossd.client.failures import noticed
from lossd.client.forks import turns
from lossd.client.freed_memory import keep_memory_of
from lossd.client.headers import Encoded
from lossd.client.own_threads import OwnThreads
from lossd.client.retry import AsyncRetrier
from lossd.client.security import PLAIN, Security
from lossd.client.sharing import Sharing
from lossd.client.target import Target
from lossd.client.tracing import Trace, untraced
from lossd.client.unreached import server_at
from lossd.framing import Framed

Result = TypeVar("Result")


class AsyncConnection:
    """A channel of asyncio, for the event loop that it is first used in.

    Shared memory takes long to set up and waits for the server, so it is used in threads, which
    make their calls through the loop.
    """

    def __init__(
        self,
        target: Target,
        channel: grpc.aio.Channel | None,
        security: Security = PLAIN,
        trace: Trace = untraced,
    ) -> None:
        self._target = target
        self.security = security
        self.trace = trace
        self._channel = channel
        self._owned = channel is None
        self._closed = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        server = server_at(target if self._owned else None)
        self.retrier = AsyncRetrier(sleep=self._rest, server=server)
        self._unary: dict[str, Any] = {}  # by path
        self.ids = RequestIds()
        self.sharing = Sharing(self._ask)
        self.threads = OwnThreads("lossd-asyncio")
        self.memory = AnswerMemory()

    @property
    def survives_fork(self) -> bool:
        """Whether there can be another in a fork of this process: not of gRPC's own threads."""
        return self._loop is None

    @property
    def is_closed(self) -> bool:
        """Whether it was closed."""
        return self._closed.is_set()

    def check_open(self) -> None:
        """Raises InvalidRequestError if the connection was closed."""
        if self._closed.is_set():
            raise closed_error()

    def begin_closed(self) -> None:
        """Stays closed from the beginning, as that of the parent was before a fork."""
        self._closed.set()

    def channel(self) -> grpc.aio.Channel:
        """Returns the channel.

        Raises:
            InvalidRequestError: if the connection was closed, is used in another event loop, or
                this is a fork of a process with a server in it, or with an open evaluation.
        """
        self.bind()
        if self._channel is None:
            if parted := turns().parted:
                raise forked_error(parted)
            self._channel = self.security.opened(grpc.aio, self._target)
        return self._channel

    def bind(self) -> None:
        """Belongs to the event loop that runs from now on, which threads ask through.

        Raises:
            InvalidRequestError: if the connection was closed, or is used in another event loop.
        """
        self.check_open()
        self.check_loop()
        self._loop = asyncio.get_running_loop()

    def check_loop(self) -> None:
        """Raises InvalidRequestError in another event loop than the one that it belongs to."""
        if self._loop not in (None, asyncio.get_running_loop()):
            raise InvalidRequestError("client must stay in one event loop, got a second one")

    async def close(self) -> None:
        """Closes the channel; calls under way end as cancelled."""
        try:
            if not self._closed.is_set():
                await self.threads.run(self.sharing.close)
        finally:
            self._closed.set()
            self.threads.close()
            self.memory.close()
            if self._owned and self._channel is not None:
                await self._channel.close()

    async def in_thread(self, work: Callable[[], Result]) -> Result:
        """Runs a function that may use ``sharing`` in a thread, and returns its result.

        Raises:
            InvalidRequestError: if the connection was closed, or is used in another event loop.
        """
        self.bind()
        return await self.threads.run(work)

    async def shared(self, wanted: Array, make: Callable[..., Any], seconds: float) -> Any:
        """Returns an array that ``sharing`` makes, as ``Connection.shared`` does.

        Raises:
            InvalidRequestError: if the connection was closed, or is used in another event loop.
            CancelledError: if the connection is closed meanwhile.
        """

        async def attempt(left: float) -> Any:
            until = time.monotonic() + left
            return await self.in_thread(lambda: self.sharing.beside_server(make, wanted, until))

        self.bind()
        with contextlib.suppress(UnavailableError):
            return await self.retrier.call(attempt, seconds, name="empty")
        return wanted

    async def call(
        self,
        method: Method[Answer],
        request: Framed[Any] | Encoded,
        call: ClientCall,
        *,
        is_shared: bool = False,
    ) -> Framed[Answer]:
        """Returns the answer of a method, after retries where they help, as ``Connection.call``.

        Raises:
            LossdError: the error of the last attempt.
            asyncio.CancelledError: if the task is cancelled; the server is told.
        """
        encoded = request.serialise()
        return await self.exchange(method.path, encoded, call, method.parsed, is_shared=is_shared)

    async def exchange(
        self,
        path: str,
        encoded: bytes,
        call: ClientCall,
        read: Callable[[bytes], Result],
        *,
        is_shared: bool = False,
    ) -> Result:
        """Returns what ``read`` makes of the answer of a method, as ``call`` does.

        Raises:
            LossdError: as ``call``.
            asyncio.CancelledError: as ``call``.
        """
        keep_memory_of(len(encoded))
        with self.trace(path, call.request_id) as traced:
            attempt = functools.partial(self._invoke, path, encoded, call.metadata + traced)
            final = (UnavailableError,) if is_shared else ()
            name = call.request_id
            return read(await self.retrier.call(attempt, call.left(), final=final, name=name))

    async def _rest(self, seconds: float) -> None:
        """Waits before the next attempt; closing ends it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closed.wait()
                raise given_up_error()

    def _ask(self, method: Method[Any], request: Message, timeout: float) -> Any:
        """Returns the message that a method answers with, in one attempt; for threads."""
        loop = cast("asyncio.AbstractEventLoop", self._loop)  # set before there is a thread
        invoked = self._invoke(method.path, request.SerializeToString(), (), timeout)
        try:
            asked = asyncio.run_coroutine_threadsafe(invoked, loop)
        except RuntimeError as error:
            invoked.close()
            raise _ended_error() from error
        try:
            return method.parsed(asked.result(timeout)).message
        except (TimeoutError, FutureCancelledError) as error:
            raise _ended_error() from error

    async def _invoke(self, path: str, encoded: bytes, metadata: Any, timeout: float) -> bytes:
        until = time.monotonic() + timeout
        channel = self.channel()
        invoke: Any = self._unary.get(path)
        if invoke is None:
            invoke = self._unary[path] = channel.unary_unary(path)
        proven = self.security.metadata(metadata)
        with self.translated():
            left = left_until(until)  # all before takes of it: a token, files
            answer: bytes = await invoke(encoded, timeout=left, metadata=proven)
        return answer

    @contextlib.contextmanager
    def translated(self) -> Iterator[None]:
        """Raises our errors for gRPC's.

        A call that this side gave up ends as asyncio's cancellation; the status is a server's.
        """
        try:
            with given_up():
                yield
        except grpc.RpcError as error:
            raise self._translated(error) from error
        except grpc.aio.UsageError as error:  # gRPC's word for a channel that was closed
            raise closed_error() from error

    def _translated(self, error: grpc.RpcError) -> LossdError:
        found = noticed(error, self.sharing, self._channel)
        return lost_error(found) if isinstance(found, CancelledError) else found


def _ended_error() -> UnavailableError:
    return UnavailableError("event loop must run until the server has answered, got none in time")


@contextlib.contextmanager
def given_up() -> Iterator[None]:
    """Raises our error where not the task was cancelled, but the channel that it waits for."""
    try:
        yield
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling() > 0:
            raise
        raise given_up_error() from error
