"""Channels that are opened anew: where a target, or what they are secured with, is another now.

gRPC looks names up in DNS and nowhere else.  Where something else knows which servers there are, a
function is asked for the target every few seconds.  So are files of TLS, of which gRPC would keep
what they held at first.  And a name that is missing gRPC looks up less and less often, at last
every two minutes, whatever it is told: where calls of a name find nobody, a new channel asks.

What is new gets a channel of its own, and calls under way end on the one that they began on.
gRPC shares connections between channels, so servers that stay are not connected to again.
"""

import asyncio
import functools
import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import grpc

from lossd.client.beginning import begin_thread
from lossd.client.errors import (
    InvalidRequestError,
    UnavailableError,
    given_up_error,
)
from lossd.client.methods import Standing
from lossd.client.own_threads import OwnThreads
from lossd.client.target import Target, checked_target, is_looked_up

log = logging.getLogger("lossd.client")

LOOKING_SECONDS = 5.0
# How long a channel has to find somebody before it is opened anew.  That before it is closed only
# then too, so that connections of both are shared.
AGAIN_SECONDS = 2.0

Open = Callable[[str], Any]
# What a channel is opened with: another one when that has changed.
Secure = Callable[[], Any]


def _nothing() -> None:
    """Secures nothing."""


def channel(gate: Any, target: Target, open_one: Open, secure: Secure = _nothing) -> Any:
    """Returns a channel to a target, or wherever a function says.

    Args:
        gate: ``grpc`` or ``grpc.aio``.
        target: The target, or the function.
        open_one: Opens gRPC's channel to a target.
        secure: Returns what that is opened with, which may change.

    Raises:
        UnavailableError: if the function raises, or returns a text that is no target, or if no
            thread can begin that asks it.
        InvalidRequestError: if it returns something else.
    """
    return (Moving if gate is grpc else AsyncMoving)(target, open_one, secure)


class _Opened:
    """A channel to one target, when it was opened, and the number of calls under way on it."""

    def __init__(self, target: str, secured: Any, opened: Any) -> None:
        self.target = target
        self.secured = secured
        self.channel = opened
        self.since = time.monotonic()
        self.calls = 0


class _Following(Standing):
    """The channel to the target as it was last, and those before it whose calls have not ended."""

    def __init__(self, target: Target, open_one: Open, secure: Secure) -> None:
        self._find = target if callable(target) else functools.partial(str, target)
        self._open = open_one
        self._secure = secure
        self._is_watched = callable(target) or secure is not _nothing
        self._lock = threading.Lock()
        self._left: list[_Opened] = []
        self._current = self._opened(_first(self._find))
        self._looked = self._current.since

    def _opened(self, target: str) -> _Opened:
        return _Opened(target, self._secure(), self._open(target))

    def _is_new(self, target: str) -> bool:
        current = self._current
        return target != current.target or self._secure() is not current.secured

    def _must_open_again(self) -> bool:
        """Returns whether calls that find nobody might on a new channel; not twice in a while."""
        now = time.monotonic()
        with self._lock:
            if now - self._looked < AGAIN_SECONDS:
                return False
            self._looked = now
        target = self._current.target
        return is_looked_up(target) or self._is_new(target)

    def _move(self, target: str | None) -> bool:
        """Has calls from now on go to a target; returns False where it cannot be opened now.

        Whoever calls it has the turn, so that it is nowhere else meanwhile.
        """
        target = self._current.target if target is None else target
        try:
            opened = self._opened(target)
        except Exception as error:  # noqa: BLE001 - whatever it is, calls go on where they went
            _stay(error)
            return False
        with self._lock:
            before = self._current
            self._left.append(before)
            self._current = opened
            self._looked = opened.since
        if target != before.target:
            log.info("target changed", extra={"target": target})
        return True

    def _ended(self) -> list[Any]:
        """Returns the channels that were left and have no calls any more, for the last time."""
        if not self._left or time.monotonic() - self._current.since < AGAIN_SECONDS:
            return []
        with self._lock:
            ended = [each.channel for each in self._left if not each.calls]
            self._left = [each for each in self._left if each.calls]
        return ended

    def _every(self) -> list[Any]:
        with self._lock:
            return [each.channel for each in (*self._left, self._current)]

    def look_again(self) -> None:
        """Opens the channel anew, where that might help calls that found nobody."""
        if self._must_open_again():
            self._go(None)

    def _go(self, target: str | None) -> None:
        """Moves to a target, or with None anew to the one where it is, unless it was closed."""
        raise NotImplementedError

    def _close(self, channels: Iterable[Any]) -> None:
        """Closes channels that have no calls."""
        raise NotImplementedError

    def take(self) -> _Opened:
        """Counts a call on the channel to the target, and returns that."""
        if self._left:
            self._close(self._ended())
        with self._lock:
            self._current.calls += 1
            return self._current

    def leave(self, opened: _Opened) -> None:
        """Counts a call no more."""
        with self._lock:
            opened.calls -= 1

    def begun(self, begin: Callable[[Any], Any], seconds: float, *, is_awaited: bool) -> Any:
        """Begins a call where the target is, and counts it there until it ends."""
        del seconds, is_awaited
        opened = self.take()
        is_under_way = False
        try:
            answer = begin(opened.channel)
            if hasattr(answer, "add_done_callback"):
                answer.add_done_callback(lambda _: self.leave(opened))
                is_under_way = True
        finally:
            if not is_under_way:
                self.leave(opened)
        return answer


class Moving(_Following):
    """A channel for threads; one of its own asks where to, until it is closed or forgotten."""

    def __init__(self, target: Target, open_one: Open, secure: Secure = _nothing) -> None:
        super().__init__(target, open_one, secure)
        self._closed = threading.Event()
        self._turn = threading.RLock()  # one moves at a time, or closes it
        if self._is_watched:
            watching = (weakref.ref(self), self._closed)
            try:
                begin_thread(
                    threading.Thread(target=_watch, args=watching, name="lossd-target", daemon=True)
                )
            except UnavailableError:
                self.close()
                raise

    def look(self) -> None:
        """Asks where to, goes there, and closes what nobody uses any more."""
        self._close(self._ended())
        target = _known(self._find)
        if target is not None and self._is_new(target):
            self._go(target)

    def _go(self, target: str | None) -> None:
        with self._turn:
            if not self._closed.is_set():
                self._move(target)

    def lose_stuck(self) -> None:
        """Does what ``Renewing.lose_stuck`` does."""
        self._current.channel.lose_stuck()

    def close(self) -> None:
        """Closes it; calls under way end as cancelled."""
        with self._turn:
            self._closed.set()
            self._close(self._every())

    def _close(self, channels: Iterable[Any]) -> None:
        for each in channels:
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

    def __init__(self, target: Target, open_one: Open, secure: Secure = _nothing) -> None:
        super().__init__(target, open_one, secure)
        self._changed = asyncio.Event()
        self._is_closed = False
        self._closing: set[asyncio.Task[None]] = set()  # the event loop would forget them
        self._threads = OwnThreads("lossd-target", 1)
        self._watching: asyncio.Task[None] | None = None
        if self._is_watched:
            watching = _watch_async(weakref.ref(self))
            self._watching = asyncio.get_running_loop().create_task(watching)

    async def look(self) -> None:
        """Asks where to, goes there, and closes what nobody uses any more."""
        self._close(self._ended())
        target = await self._threads.run(functools.partial(_known, self._find))
        if target is not None and self._is_new(target):
            self._go(target)

    def _go(self, target: str | None) -> None:
        if not self._is_closed and self._move(target):
            self._changed.set()

    async def channel_ready(self) -> None:
        """Returns when a server is connected, wherever the target went meanwhile."""
        while not self._is_closed:
            self._changed.clear()
            opened = self.take()  # or it would be closed while it is waited for
            ready = asyncio.ensure_future(opened.channel.channel_ready())
            moved = asyncio.ensure_future(self._changed.wait())
            try:
                await asyncio.wait(
                    (ready, moved), timeout=AGAIN_SECONDS, return_when=asyncio.FIRST_COMPLETED
                )
                if ready.done():
                    await ready
                    return
                if opened.channel.get_state() is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
                    self.look_again()
            finally:
                ready.cancel()
                moved.cancel()
                self.leave(opened)
        raise given_up_error()

    async def close(self) -> None:
        """Closes it; calls under way end as cancelled."""
        self._is_closed = True
        if self._watching is not None:
            self._watching.cancel()
        self._threads.close()
        self._close(self._every())
        await asyncio.gather(*self._closing)

    def _close(self, channels: Iterable[Any]) -> None:
        for each in channels:
            task = asyncio.get_running_loop().create_task(each.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)


async def _watch_async(reference: "weakref.ref[AsyncMoving]") -> None:
    while True:
        await asyncio.sleep(LOOKING_SECONDS)
        moving = reference()
        if moving is None:
            return
        await moving.look()
        del moving


def _found(find: Callable[[], str]) -> str:
    try:
        return find()
    except Exception as error:
        raise UnavailableError(f"target must be found by its function, got {error!r}") from error


def _first(find: Callable[[], str]) -> str:
    """Returns the target to begin with; a text that is none may name servers that are to come.

    Raises:
        UnavailableError: for such a text, or if none is found.
        InvalidRequestError: for something else.
    """
    found = _found(find)
    try:
        return checked_target(found)
    except InvalidRequestError as error:
        if not isinstance(found, str):
            raise
        message = f"target must be found by its function, got none: {error.message}"
        raise UnavailableError(message, field=error.field) from error


def _known(find: Callable[[], str]) -> str | None:
    """Returns a target that can be used; None, with a word in the log, where none is found."""
    try:
        return checked_target(_found(find))
    except Exception as error:  # noqa: BLE001 - whatever it is, calls go on where they went
        _stay(error)
        return None


def _stay(error: Exception) -> None:
    log.warning("target stays what it was", extra={"because": str(error)})
