"""Receives the messages of calls, each of which may be waited for as long as a watchdog lets it."""

import functools
import time
from collections.abc import Iterator
from typing import Any

from lossd.errors import Draining
from lossd.serving.call import Call, Context
from lossd.serving.rpc.handlers import Requests
from lossd.serving.rpc.statuses import cancel_with
from lossd.serving.rpc.watchdog import Watchdog, Watchdogs
from lossd.serving.telemetry import Telemetry

# A caller who cancels a call ends its messages first, and its call less than so much later.
_MOMENT_SECONDS = 0.002
# How long a stream rests that is ended when the server ends, and by what.
_RESTING_SECONDS = 0.1
ENDING = "server must go on to take calls, got one that ends"


class Receiving:
    """Receives messages, for many threads."""

    def __init__(self, watchdogs: Watchdogs, telemetry: Telemetry) -> None:
        self._first_message = watchdogs.first_message
        self._chunk = watchdogs.chunk
        self._between = watchdogs.between
        self._telemetry = telemetry
        self._is_closed = False

    def one(self, method: str, requests: Requests, call: Call, watchdog: Watchdog) -> bytes | None:
        """Waits for the next message, as long as a watchdog lets it; None for the end."""
        cancel = call.give_way
        if watchdog is self._between:
            cancel = functools.partial(self._end_resting, call.context)
        release = watchdog.watch(cancel, call.context.peer)
        try:
            with call.phase("receive"):
                data = next(requests, None)
        finally:
            release()
        if data is not None:
            call.has_spoken = True
            self._telemetry.received(method, len(data))
        # Between two batches nothing is lost either way, and the caller waits for the end.
        elif watchdog is not self._between and _has_left(call.context):
            raise call.why_over("call must be waited for, got a cancelled one")
        return data

    def all(self, method: str, requests: Requests, call: Call, later: Watchdog) -> Iterator[bytes]:
        """Yields the messages of a call; those after the first have ``later`` to wait with."""
        watchdog = self._first_message
        while (data := self.one(method, requests, call, watchdog)) is not None:
            yield data
            watchdog = self._chunk if call.awaits_chunk else later

    def close(self) -> None:
        """Has streams that rest know from now on that they end since the server does."""
        self._is_closed = True

    def end_rest(self) -> None:
        """Ends streams that rest between two batches, unless they have just been answered."""
        self._between.end_late(len(self._between), _RESTING_SECONDS)

    def _end_resting(self, context: Any) -> None:
        if self._is_closed:
            cancel_with(context, Draining(ENDING))
        else:
            context.cancel()


def _has_left(context: Context) -> bool:
    """Returns whether the messages of a call ended since it did: gRPC tells that a moment later."""
    until = time.monotonic() + _MOMENT_SECONDS
    while context.is_active():
        if time.monotonic() > until:
            return False
        time.sleep(_MOMENT_SECONDS / 10)
    return True
