"""Takes a batch to the server and back on the shortest way: shared memory, chunks or one message.

It connects ``responses``, ``chunked``, the connections and what they share, by a function for each
client.
"""

import asyncio
import functools
from collections.abc import Awaitable, Iterable
from typing import Any, TypeVar

from lossd.client import cautions, chunked
from lossd.client.aio_connection import AsyncConnection
from lossd.client.call import COMPUTE_LOSS, ClientCall
from lossd.client.connection import Connection
from lossd.client.conversing import converse, converse_async
from lossd.client.errors import DeadlineExceededError, LossdError
from lossd.client.headers import Encoded
from lossd.client.layouts import Replies
from lossd.client.lease import Build, ClientLease
from lossd.client.requests import Request
from lossd.client.responses import read_cut, read_response
from lossd.client.result import LossResult

Done = TypeVar("Done")


def computed(connection: Connection, build: Build, call: ClientCall) -> LossResult[Any]:
    """Returns the result, through shared memory where possible.

    Raises:
        LossdError: as ``LossClient.compute``.
    """
    with ClientLease(connection.sharing, call.deadline) as lease:
        request = lease.request(build)
        if not lease.in_use:
            return _sent(connection, request, call)
        try:
            framed = connection.call(COMPUTE_LOSS, request, call, is_shared=True)
            return read_response(framed, lease.view, lease.on_device)
        except LossdError as error:
            if not lease.is_lost(error):
                raise
    return _sent(connection, build(bring=connection.sharing.device.on_host), call)


def _sent(connection: Connection, request: Request, call: ClientCall) -> LossResult[Any]:
    """Returns the result of a request that goes over the network, in one message or in chunks."""
    if isinstance(request, Encoded):
        return recalled(connection, request, call)
    if chunked.is_worthwhile(request):
        return read_response(converse(connection, request, call))
    return connection.exchange(COMPUTE_LOSS.path, request.serialise(), call, _read)


def recalled(connection: Connection, request: Encoded, call: ClientCall) -> LossResult[Any]:
    """Returns the result of a request whose kind is known.

    Raises:
        LossdError: as ``LossClient.compute``.
    """
    read = functools.partial(_read_like_others, request.replies)
    return connection.exchange(COMPUTE_LOSS.path, request.encoded, call, read)


def _read(encoded: bytes) -> LossResult[Any]:
    return read_response(COMPUTE_LOSS.parsed(encoded))


def _read_like_others(replies: Replies, encoded: bytes) -> LossResult[Any]:
    """Returns the result of a reply, which is likely to be laid out as others of its kind."""
    cut = replies.cut(encoded)
    if cut is not None:
        return read_cut(cut)
    result = _read(encoded)
    replies.learn(encoded)
    return result


async def computed_async(
    connection: AsyncConnection, build: Build, inputs: Iterable[Any], call: ClientCall
) -> LossResult[Any]:
    """Returns the result, as ``computed`` does; a small batch takes no thread.

    Raises:
        LossdError: as ``LossClient.compute``.
        asyncio.CancelledError: if the task is cancelled meanwhile.
    """
    if not connection.sharing.is_worthwhile(inputs):
        return await _sent_async(connection, build(), call)
    with ClientLease(connection.sharing, call.deadline) as lease:
        prepare = cautions.for_caller(functools.partial(lease.request, build))
        request = await _in_time(call, connection.in_thread(prepare))
        if not lease.in_use:
            return await _sent_async(connection, request, call)
        try:
            framed = await connection.call(COMPUTE_LOSS, request, call, is_shared=True)
            return read_response(framed, lease.view, lease.on_device)
        except LossdError as error:
            if not lease.tells_of_loss(error):
                raise
            await _in_time(call, connection.threads.run(functools.partial(lease.is_lost, error)))
    again = cautions.for_caller(functools.partial(build, bring=connection.sharing.device.on_host))
    request = await _in_time(call, connection.threads.run(again))
    return await _sent_async(connection, request, call)


async def _in_time(call: ClientCall, done: Awaitable[Done]) -> Done:
    """Returns what a thread does for a call; all threads may be taken for long.

    Raises:
        DeadlineExceededError: if it takes longer than the call may.
    """
    try:
        async with asyncio.timeout(call.left()) as limit:
            return await done
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise DeadlineExceededError(
            "batch must be prepared within the call's timeout, got one that was not"
        ) from error


async def _sent_async(
    connection: AsyncConnection, request: Request, call: ClientCall
) -> LossResult[Any]:
    """Returns what ``_sent`` does."""
    if isinstance(request, Encoded):
        return await recalled_async(connection, request, call)
    if chunked.is_worthwhile(request):
        return read_response(await converse_async(connection, request, call))
    return await connection.exchange(COMPUTE_LOSS.path, request.serialise(), call, _read)


async def recalled_async(
    connection: AsyncConnection, request: Encoded, call: ClientCall
) -> LossResult[Any]:
    """Returns what ``recalled`` does.

    Raises:
        LossdError: as ``LossClient.compute``.
        asyncio.CancelledError: if the task is cancelled meanwhile.
    """
    read = functools.partial(_read_like_others, request.replies)
    return await connection.exchange(COMPUTE_LOSS.path, request.encoded, call, read)
