"""Large batches in conversation with a server: they go and come in chunks.

``chunked`` cuts them and puts them together; here is what waits, for threads and for asyncio.
"""

import asyncio
import contextlib
import functools
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import CancelledError as FutureCancelledError
from concurrent.futures import Future
from typing import Any

import grpc

from lossd import v1
from lossd.client import chunked
from lossd.client.aio_connection import AsyncConnection
from lossd.client.aio_status import UNEXPLAINED, ServerStatus
from lossd.client.call import STREAM_LOSS, ClientCall, is_let_in, left_until
from lossd.client.connection import Connection
from lossd.client.errors import LossdError, ServerError, UnavailableError, late_error
from lossd.framing import Framed


def converse(
    connection: Connection, request: Framed[v1.ComputeLossRequest], call: ClientCall
) -> Framed[v1.ComputeLossResponse]:
    """Returns the answer to a large batch, which goes and comes in chunks.

    Raises:
        LossdError: the error of the last attempt.
    """
    question = chunked.Question(request)
    with connection.trace(STREAM_LOSS.path, call.request_id) as traced:
        attempt = functools.partial(_answered, connection, question, call.metadata + traced)
        return connection.retrier.call(attempt, call.left(), name=call.request_id)


def _answered(
    connection: Connection, question: chunked.Question, metadata: Any, left: float
) -> Framed[v1.ComputeLossResponse]:
    """Returns the answer to a large batch, in one attempt."""
    until = time.monotonic() + left
    channel = connection.channel()
    invoke: Any = channel.stream_stream(STREAM_LOSS.path)
    proven = connection.security.metadata(metadata)
    started: Future[Any] = Future()

    def messages() -> Iterator[bytes]:
        yield question.first
        with contextlib.suppress(FutureCancelledError):
            started.result().initial_metadata()
            yield from question.chunks()

    def exchanged() -> Framed[v1.ComputeLossResponse]:
        answer = chunked.Answer(connection.memory)
        with connection.translated(), connection.turns:
            try:
                replies = invoke(messages(), timeout=left_until(until), metadata=proven)
                if connection.background.current is not None:
                    connection.background.current.watch(replies)
                started.set_result(replies)
                for encoded in replies:
                    answer.take(encoded)
            finally:  # without effect on a call that has ended
                if not started.cancel():
                    started.result().cancel()
        return answer.framed()

    return connection.background.unsignalled(exchanged, left, channel.lose_stuck)


async def converse_async(
    connection: AsyncConnection, request: Framed[v1.ComputeLossRequest], call: ClientCall
) -> Framed[v1.ComputeLossResponse]:
    """Returns the answer to a large batch, as ``converse`` does.

    Raises:
        LossdError: the error of the last attempt.
        asyncio.CancelledError: if the task is cancelled; the server is told.
    """
    question = chunked.Question(request)
    with connection.trace(STREAM_LOSS.path, call.request_id) as traced:
        metadata = call.metadata + traced

        async def attempt(left: float) -> Framed[v1.ComputeLossResponse]:
            try:
                return await _answered_async(connection, question, metadata, left)
            except ServerError as error:
                raise _why_cut(error, call) from error

        return await connection.retrier.call(attempt, call.left(), name=call.request_id)


async def _answered_async(
    connection: AsyncConnection, question: chunked.Question, metadata: Any, left: float
) -> Framed[v1.ComputeLossResponse]:
    """Returns the answer to a large batch, in one attempt."""
    until = time.monotonic() + left
    invoke: Any = connection.channel().stream_stream(STREAM_LOSS.path)
    proven = connection.security.metadata(metadata)
    answer = chunked.Answer(connection.memory)

    async def messages() -> AsyncIterator[bytes]:
        yield question.first
        if not is_let_in(await replies.initial_metadata()):
            # To write to a refused call would hide why it was; its status is on the way.
            await asyncio.wait([asyncio.create_task(replies.code())], timeout=1)
        for chunk in question.chunks():
            if replies.done():
                return
            yield chunk

    with connection.translated():
        replies = invoke(messages(), timeout=left_until(until), metadata=proven)
        status = ServerStatus(replies)
        try:
            async for encoded in replies:
                answer.take(encoded)
        except grpc.RpcError as error:
            raise await status.explain(error) from error
        finally:
            replies.cancel()
    return answer.framed()


def _why_cut(error: ServerError, call: ClientCall) -> LossdError:
    """Returns the likely reason why a stream was cut; asyncio's gRPC gives none."""
    if error.message != UNEXPLAINED:
        return error
    if not call.left():
        return late_error()
    return UnavailableError("server must stay until it has answered, got a cut stream")
