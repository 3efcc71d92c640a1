"""Channels whose target may change: a function is asked for it every few seconds.

gRPC looks names up in DNS and nowhere else.  Where something else knows which servers there are, a
new target gets a channel of its own, and calls under way end on the one that they began on.
gRPC shares connections between channels, so servers that stay are not connected to again.
"""

import asyncio
import logging
import threading
import weakref
from collections.abc import Callable
from typing import Any

import grpc

from lossd.client.errors import UnavailableError, given_up_error
from lossd.client.target import checked_target

log = logging.getLogger("lossd.client")

LOOKING_SECONDS = 5.0

Find = Callable[[], str]
Open = Callable[[str], Any]


def channel(gate: Any, find: Find, open_one: Open) -> Any:
    """Returns a channel to wherever a function says; ``gate`` is ``grpc`` or ``grpc.aio``.

    Raises:
        UnavailableError: if the function raises.
        InvalidRequestError: if it returns no target.
    """
    return (Moving if gate is grpc else AsyncMoving)(find, open_one)


class _Opened:
    """A channel to one target, and the number of calls under way on it."""

    def __init__(self, target: str, opened: Any) -> None:
        self.target = target
        self.channel = opened
        self.calls = 0


class _Following:
    """The channel to the target as it was last, and those before it whose calls have not ended."""

    def __init__(self, find: Find, open_one: Open) -> None:
        self._find = find
        self._open = open_one
        self._lock = threading.Lock()
        self._left: list[_Opened] = []
        target = checked_target(_found(find))
        self._current = _Opened(target, open_one(target))

    def _is_new(self, target: str | None) -> bool:
        return target is not None and target != self._current.target

    def _move(self, target: str) -> bool:
        """Has calls from now on go to a target; returns False where it cannot be opened now."""
        try:
            opened = _Opened(target, self._open(target))
        except Exception as error:  # noqa: BLE001 - files of TLS may be missing while they change
            _stay(error)
            return False
        with self._lock:
            self._left.append(self._current)
            self._current = opened
        log.info("target changed", extra={"target": target})
        return True

    def _ended(self) -> list[Any]:
        """Returns the channels that were left and have no calls any more, for the last time."""
        with self._lock:
            ended = [each.channel for each in self._left if not each.calls]
            self._left = [each for each in self._left if each.calls]
        return ended

    def _every(self) -> list[Any]:
        with self._lock:
            return [each.channel for each in (*self._left, self._current)]

    def take(self) -> _Opened:
        """Counts a call on the channel to the target, and returns that."""
        with self._lock:
            self._current.calls += 1
            return self._current

    def leave(self, opened: _Opened) -> None:
        """Counts a call no more."""
        with self._lock:
            opened.calls -= 1

    def unary_unary(self, path: str, *arguments: Any, **named: Any) -> "_Method":
        """Returns a method, as gRPC's channels do; so do the others."""
        return _Method(self, "unary_unary", path, *arguments, **named)

    def stream_unary(self, path: str, *arguments: Any, **named: Any) -> "_Method":
        """Returns a method that takes a stream."""
        return _Method(self, "stream_unary", path, *arguments, **named)

    def stream_stream(self, path: str, *arguments: Any, **named: Any) -> "_Method":
        """Returns a method that takes a stream and answers with one."""
        return _Method(self, "stream_stream", path, *arguments, **named)


class _Method:
    """A method, called where the target is at that moment."""

    def __init__(
        self, following: _Following, kind: str, path: str, *arguments: Any, **named: Any
    ) -> None:
        self._following = following
        self._made: Callable[[Any], Any] = lambda given: getattr(given, kind)(
            path, *arguments, **named
        )
        self._last: tuple[Any, Any] = (None, None)  # gRPC takes 40 us to make one

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Calls it; what it returns is an answer, or a call under way."""
        return self._counted(lambda invoke: invoke(*arguments, **named))

    def future(self, *arguments: Any, **named: Any) -> Any:
        """Begins a call and returns it."""
        return self._counted(lambda invoke: invoke.future(*arguments, **named))

    def _counted(self, call: Callable[[Any], Any]) -> Any:
        opened = self._following.take()
        is_under_way = False
        try:
            answer = call(self._on(opened.channel))
            if hasattr(answer, "add_done_callback"):
                answer.add_done_callback(lambda _: self._following.leave(opened))
                is_under_way = True
        finally:
            if not is_under_way:
                self._following.leave(opened)
        return answer

    def _on(self, given: Any) -> Any:
        of, invoke = self._last
        if of is not given:
            invoke = self._made(given)
            self._last = given, invoke
        return invoke


class Moving(_Following):
    """A channel for threads; one of its own asks where to, until it is closed or forgotten."""

    def __init__(self, find: Find, open_one: Open) -> None:
        super().__init__(find, open_one)
        self._closed = threading.Event()
        self._subscribed: dict[Callable[[Any], None], bool | None] = {}
        watching = (weakref.ref(self), self._closed)
        threading.Thread(target=_watch, args=watching, name="lossd-target", daemon=True).start()

    def look(self) -> None:
        """Asks where to, goes there, and closes what nobody uses any more."""
        target = _known(self._find)
        if target is not None and self._is_new(target) and not self._closed.is_set():
            before = self._current.channel
            if self._move(target):
                for callback, connect in list(self._subscribed.items()):
                    before.unsubscribe(callback)
                    self._current.channel.subscribe(callback, connect)
        for each in self._ended():
            each.close()

    def subscribe(
        self,
        callback: Callable[[grpc.ChannelConnectivity], None],
        try_to_connect: bool | None = None,  # noqa: FBT001 - gRPC's
    ) -> None:
        """Tells a function how the connection is, wherever it goes."""
        self._subscribed[callback] = try_to_connect
        self._current.channel.subscribe(callback, try_to_connect)

    def unsubscribe(self, callback: Callable[[grpc.ChannelConnectivity], None]) -> None:
        """Tells it no more."""
        self._subscribed.pop(callback, None)
        self._current.channel.unsubscribe(callback)

    def close(self) -> None:
        """Closes it; calls under way end as cancelled."""
        self._closed.set()
        for each in self._every():
            each.close()


def _watch(reference: "weakref.ref[Moving]", closed: threading.Event) -> None:
    while not closed.wait(LOOKING_SECONDS):
        moving = reference()
        if moving is None:
            return
        moving.look()
        del moving


class AsyncMoving(_Following):
    """A channel for the event loop that it is made in, a task of which asks where to."""

    def __init__(self, find: Find, open_one: Open) -> None:
        super().__init__(find, open_one)
        self._changed = asyncio.Event()
        self._is_closed = False
        watching = _watch_async(weakref.ref(self))
        self._watching = asyncio.get_running_loop().create_task(watching)

    async def look(self) -> None:
        """Asks where to, goes there, and closes what nobody uses any more."""
        target = await asyncio.to_thread(_known, self._find)
        is_new = target is not None and self._is_new(target) and not self._is_closed
        if target is not None and is_new and self._move(target):
            self._changed.set()
        for each in self._ended():
            await each.close()

    async def channel_ready(self) -> None:
        """Returns when a server is connected, wherever the target went meanwhile."""
        while not self._is_closed:
            self._changed.clear()
            ready = asyncio.ensure_future(self._current.channel.channel_ready())
            moved = asyncio.ensure_future(self._changed.wait())
            try:
                await asyncio.wait((ready, moved), return_when=asyncio.FIRST_COMPLETED)
                if ready.done():
                    await ready
                    return
            finally:
                ready.cancel()
                moved.cancel()
        raise given_up_error()

    async def close(self) -> None:
        """Closes it; calls under way end as cancelled."""
        self._is_closed = True
        self._watching.cancel()
        for each in self._every():
            await each.close()


async def _watch_async(reference: "weakref.ref[AsyncMoving]") -> None:
    while True:
        await asyncio.sleep(LOOKING_SECONDS)
        moving = reference()
        if moving is None:
            return
        await moving.look()
        del moving


def _found(find: Find) -> str:
    try:
        return find()
    except Exception as error:
        raise UnavailableError(f"target must be found by its function, got {error!r}") from error


def _known(find: Find) -> str | None:
    """Returns a target that can be used; None, with a word in the log, where none is found."""
    try:
        return checked_target(_found(find))
    except Exception as error:  # noqa: BLE001 - whatever it is, calls go on where they went
        _stay(error)
        return None


def _stay(error: Exception) -> None:
    log.warning("target stays what it was", extra={"because": str(error)})
