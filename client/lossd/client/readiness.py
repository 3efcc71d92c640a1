"""Waits for a server that is ready: for threads and for asyncio."""

import asyncio
import contextlib
import time
from typing import Any

import grpc

from lossd.client.aio_connection import AsyncConnection, given_up
from lossd.client.connection import Connection
from lossd.client.errors import (
    CancelledError,
    DeadlineExceededError,
    LossdError,
    UnavailableError,
    given_up_error,
    not_ready_error,
)
from lossd.client.moving import Moving

# Asks how the whole server is, without a name; the answer that it serves.
_CHECK, _SERVING = "/grpc.health.v1.Health/Check", b"\x08\x01"
# A fork, and another target, wait for no more than one look.
_LOOK_SECONDS = 1.0
# A call fails in far less than that where it does not wait for a server that is not there.
_GLANCE_SECONDS = 0.1


def wait(connection: Connection, seconds: float) -> None:
    """Returns as soon as a server that calls itself healthy is connected.

    Raises:
        DeadlineExceededError: if none is in time.
        UnavailableError: if the target is not found in time.
        CancelledError: if the connection is closed meanwhile.
    """

    def attempt(left: float) -> None:
        until = time.monotonic() + left
        check = connection.unary(_CHECK)
        while until > time.monotonic():  # of a call without time gRPC begins one now and then
            if _is_healthy(connection, check, until):
                return
        raise not_ready_error(connection.retrier.server, seconds)

    connection.retrier.call(attempt, seconds, name="wait_until_ready")


def _is_healthy(connection: Connection, check: Any, until: float) -> bool:
    """Returns whether a server is connected that calls itself healthy, after a look at most.

    gRPC's own future of a channel that is ready has a thread in gRPC for a while longer, and a
    fork amid that crashes.
    """
    look = max(min(_LOOK_SECONDS, until - time.monotonic()), 0.0)
    try:
        with connection.translated(), connection.turns:
            answer = check(b"", timeout=look, wait_for_ready=True)
    except DeadlineExceededError:
        _look_again(connection, check)
        return False
    except (UnavailableError, CancelledError):
        raise
    except LossdError as error:
        if connection.is_closed:
            raise given_up_error() from error
        return True  # it is there, and does not tell how it is
    if answer != _SERVING:
        connection.rest(look / 10)
    return bool(answer == _SERVING)


def _look_again(connection: Connection, check: Any) -> None:
    """Has a channel that finds nobody be opened anew: a call that does not wait fails then."""
    with contextlib.suppress(LossdError):
        if isinstance(connection.channel(), Moving):
            with connection.translated(), connection.turns:
                check(b"", timeout=_GLANCE_SECONDS)


async def wait_async(connection: AsyncConnection, seconds: float) -> None:
    """Returns as soon as a server that calls itself healthy is connected.

    Raises:
        DeadlineExceededError: if none is in time.
        UnavailableError: if the target is not found in time.
        CancelledError: if the connection is closed meanwhile.
    """

    async def attempt(left: float) -> None:
        until = asyncio.get_running_loop().time() + left
        channel = connection.channel()
        try:
            with given_up():
                async with asyncio.timeout_at(until):
                    await channel.channel_ready()
        except TimeoutError as error:
            raise not_ready_error(connection.retrier.server, seconds) from error
        except grpc.aio.UsageError as error:  # gRPC's word for a channel that was closed
            raise given_up_error() from error

    await connection.retrier.call(attempt, seconds, name="wait_until_ready")
