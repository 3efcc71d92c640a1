"""Streams of requests to one server, which answers at their end: for threads and for asyncio.

An evaluation has one.  The answer is encoded.
"""

import asyncio
import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import grpc
from google.protobuf.message import Message

from lossd.client.aio_connection import AsyncConnection
from lossd.client.aio_status import ServerStatus
from lossd.client.call import Answer, ClientCall, Method, is_let_in, left_until, serialised
from lossd.client.connection import Connection
from lossd.client.errors import CancelledError, DeadlineExceededError, UnavailableError
from lossd.client.tracing import Metadata


class Requests(Protocol):
    """The requests of one stream."""

    def messages(self) -> Iterator[Message]:
        """Yields them, for gRPC's thread."""
        ...

    def end(self) -> None:
        """Has the thread end, as the stream has."""
        ...


class RequestStream:
    """A stream that a server has let in."""

    def __init__(self, connection: Connection, channel: Any, call: Any) -> None:
        self._connection = connection
        self._channel = channel
        self._call = call

    def answer(self, seconds: float) -> bytes:
        """Returns the answer, which may take some seconds.

        Raises:
            LossdError: the error of the stream.
        """
        with self._connection.translated():
            answer: bytes = self._connection.background.unsignalled(
                self._call.result, seconds, self._channel.lose_stuck
            )
        return answer

    def cancel(self) -> None:
        """Ends it."""

        def cancel() -> None:
            with self._connection.turns:
                self._call.cancel()

        # It ends where the connection was closed, or in its thread, when that can.
        with contextlib.suppress(CancelledError, DeadlineExceededError):
            try:
                self._connection.background.unsignalled(cancel, 0, self._channel.lose_stuck)
            except UnavailableError:  # for want of a thread
                cancel()


class AsyncRequestStream:
    """The same for asyncio, which sends its requests one by one."""

    def __init__(self, connection: AsyncConnection, call: Any, status: ServerStatus) -> None:
        self._connection = connection
        self._call = call
        self._status = status

    async def write(self, request: Message) -> bool:
        """Sends a request; returns False if the call has ended: ``answer`` tells why."""
        try:
            await self._call.write(request)
        except (grpc.RpcError, asyncio.InvalidStateError):
            await self._status.settle()
            return False
        return True

    async def finish(self) -> None:
        """Ends the requests."""
        await self._call.done_writing()

    async def answer(self) -> bytes:
        """Returns the answer.

        Raises:
            LossdError: the error of the stream.
            asyncio.CancelledError: if the task is cancelled.
        """
        with self._connection.translated():
            try:
                answer: bytes = await self._call
            except grpc.RpcError as error:
                raise await self._status.explain(error) from error
        return answer

    def cancel(self) -> None:
        """Ends it."""
        self._call.cancel()


def open_stream(
    connection: Connection,
    method: Method[Answer],
    begin: Callable[[], Requests],
    call: ClientCall,
    traced: Metadata,
) -> RequestStream:
    """Opens a stream of requests, again until there is room for it.

    Args:
        connection: Where it goes.
        method: The method that takes it.
        begin: Returns what to send, for each attempt.
        call: The call, which has to end in time with all that follows.
        traced: What the span tells the server.

    Raises:
        LossdError: the error of the last attempt.
    """

    def attempt(left: float) -> RequestStream:
        until = time.monotonic() + left
        channel = connection.channel()
        invoke: Any = channel.stream_unary(method.path, serialised)
        proven = connection.security.metadata(call.metadata + traced)
        let_in = functools.partial(_let_in, connection, invoke, begin(), until, proven)
        begun = connection.background.unsignalled(let_in, left, channel.lose_stuck)
        return RequestStream(connection, channel, begun)

    return connection.retrier.call(attempt, call.left(), name=call.request_id)


def _let_in(
    connection: Connection, invoke: Any, requests: Requests, until: float, proven: Any
) -> Any:
    """Begins a call, and returns it when the server says that there is room for it."""
    begun: Any = None
    with connection.translated(), connection.turns:
        try:
            begun = invoke.future(requests.messages(), timeout=left_until(until), metadata=proven)
            begun.add_done_callback(lambda _: requests.end())
            if connection.background.current is not None:
                connection.background.current.watch(begun)
            if not is_let_in(begun.initial_metadata()):
                begun.result()  # its error tells why
        except BaseException:
            requests.end()
            if begun is not None:
                begun.cancel()
            raise
    return begun


async def open_stream_async(
    connection: AsyncConnection, method: Method[Answer], call: ClientCall, traced: Metadata
) -> AsyncRequestStream:
    """Opens a stream of requests, as ``open_stream`` does.

    Raises:
        LossdError: the error of the last attempt.
        asyncio.CancelledError: if the task is cancelled; the server is told.
    """

    async def attempt(left: float) -> AsyncRequestStream:
        until = time.monotonic() + left
        invoke: Any = connection.channel().stream_unary(method.path, serialised)
        proven = connection.security.metadata(call.metadata + traced)
        with connection.translated():
            begun = invoke(timeout=left_until(until), metadata=proven)
            status = ServerStatus(begun)
            try:
                if not is_let_in(await begun.initial_metadata()):
                    await status.settle()
                    await begun  # its error tells why
            except grpc.RpcError as error:
                raise await status.explain(error) from error
            except BaseException:
                begun.cancel()
                raise
        return AsyncRequestStream(connection, begun, status)

    return await connection.retrier.call(attempt, call.left(), name=call.request_id)
