"""The status that a server ends a call of asyncio's gRPC with.

A message that is written to a call when its status is on the way fails, and gRPC puts an error of
its own in the status's place: before the status comes, or over it.  Which rule a caller broke would
be lost.
"""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any

import grpc

# gRPC's own error, which tells nothing.
UNEXPLAINED = "Internal error from Core"
# Seconds for a status to come that is on the way.
_PATIENCE = 1.0


class ServerStatus:
    """Keeps the status of a call that its server gave, whatever comes before or after it."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self._error: grpc.aio.AioRpcError | None = None
        self._came = asyncio.Event()
        call.add_done_callback(self._keep)

    async def explain(self, error: grpc.RpcError) -> grpc.RpcError:
        """Returns the error that the server ended the call with, in place of gRPC's own."""
        if not is_unexplained(error):
            return error
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                await self._came.wait()
        return self._error or error

    async def settle(self) -> None:
        """Returns once a call has ended to which no message could be written.

        Its status is on the way, unless gRPC failed by itself; then nothing else would end it.
        """
        await asyncio.wait([asyncio.ensure_future(self._call.code())], timeout=_PATIENCE)
        if not self._call.done():
            self._call.cancel()

    def _keep(self, call: Any) -> None:
        code, details, trailing = (
            _known(told) for told in (call.code(), call.details(), call.trailing_metadata())
        )
        if code is not grpc.StatusCode.OK and details != UNEXPLAINED:
            self._error = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, details)
            self._came.set()


def is_unexplained(error: Any) -> bool:
    """Returns whether an error is gRPC's own of a message that could not be written."""
    return bool(error.details() == UNEXPLAINED)


def _known(told: Coroutine[Any, Any, Any]) -> Any:
    """Returns what a coroutine returns that has nothing to wait for."""
    try:
        told.send(None)
    except StopIteration as done:
        return done.value
    told.close()
    return None
