"""Channels that outlive a moment in which the system begins no thread, or a lock that is taken.

A call that is not waited for, or has a stream, gRPC counts as under way on its channel, and then
begins the thread that takes what comes.  If none begins it is counted for ever, and no thread is
begun for the calls after it: they wait beyond their timeouts, and so does whoever closes the
channel, or frees it.  A signal that raises amid gRPC's lines may leave a lock taken that they
need, to the same effect.  Such a channel is neither closed nor freed, and the next call has
another.
"""

import contextlib
import ctypes
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc

from lossd.client.beginning import begin_thread
from lossd.client.errors import (
    UnavailableError,
    closed_error,
    is_no_thread,
    late_error,
    no_thread_error,
)
from lossd.client.methods import Standing
from lossd.client.waiting import held

Open = Callable[[], Any]
# Seconds that a call may take to begin while its channel is closed.
_PATIENCE = 5.0


class _PresentChannel:
    """A channel, with the turn of whoever begins a call on it."""

    def __init__(self, channel: Any) -> None:
        self.channel = channel
        self.turn = threading.RLock()  # none may begin a call while that of another fails
        self.is_lost = False

    def lose(self) -> None:
        """Keeps the channel as it is for ever, with no more calls."""
        if not self.is_lost:
            self.is_lost = True
            _keep_for_ever(self.channel)


class Renewing(Standing):
    """A channel for threads that is opened anew once gRPC could not begin a call on it.

    ``lent`` is that of a caller, who alone can open another.
    """

    def __init__(self, open_one: Open, lent: grpc.Channel | None = None) -> None:
        self._open = open_one
        self._is_lent = lent is not None
        self._renewal = threading.RLock()  # never held while a call begins, which may take for ever
        self._is_closed = False
        self._opened = _PresentChannel(open_one() if lent is None else lent)

    @classmethod
    def of(cls, lent: grpc.Channel) -> "Renewing":
        """Returns one over the channel of a caller."""
        return cls(_no_other, lent)

    @property
    def current(self) -> Any:
        """The channel as it is; one that is lost still has calls that are waited for."""
        return self._opened.channel

    def begun(self, begin: Callable[[Any], Any], seconds: float, *, is_awaited: bool) -> Any:
        """Begins a call on the channel as it is.

        Raises:
            LossdError: as ``beginning``.
        """
        if is_awaited:  # gRPC waits in this thread, and needs no other
            return begin(self.current)
        with self.beginning(seconds) as channel:
            return begin(channel)

    @contextlib.contextmanager
    def beginning(self, seconds: float) -> Iterator[Any]:
        """Yields the channel that a call begins on, as a context.

        Raises:
            DeadlineExceededError: if another call is beginning for so many seconds.
            UnavailableError: if there is no thread for it.
            InvalidRequestError: if a channel that was lost is closed.
        """
        until = time.monotonic() + seconds
        while True:
            opened = self._whole()
            with held(opened.turn, until) as is_held:
                if not is_held:
                    raise late_error()
                if opened.is_lost:  # by the call that had the turn before
                    continue
                try:
                    yield opened.channel
                except RuntimeError as error:
                    if not is_no_thread(error):  # an interceptor's, or the depth of the stack
                        raise
                    opened.lose()
                    raise no_thread_error(error) from error
                return

    def _whole(self) -> _PresentChannel:
        """Returns a channel that is not lost."""
        with self._renewal:
            if self._opened.is_lost:
                if self._is_closed:
                    raise closed_error()
                begin_thread(threading.Thread(target=_nothing))  # or another one would be lost too
                self._opened = _PresentChannel(self._open())
            return self._opened

    def lose_stuck(self) -> None:
        """Has calls from now on begin on another channel, as one never ended on this.

        That of a caller stays: its calls wait for their turn no longer than they may, and only he
        can tell a lock that is taken from an interceptor that takes long.
        """
        if not self._is_lent:
            self._opened.lose()

    def close(self) -> None:
        """Closes it; calls under way end as cancelled."""
        with self._renewal:
            self._is_closed = True
            opened = self._opened
        if opened.is_lost:
            return
        with held(opened.turn, time.monotonic() + _PATIENCE) as is_held:
            if not is_held:
                opened.lose()
            if not opened.is_lost:
                opened.channel.close()


def _nothing() -> None:
    """Does nothing: the thread only had to begin."""


def _keep_for_ever(thing: Any) -> None:
    """Keeps a thing from being freed, also when the interpreter ends."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def _no_other() -> Any:
    raise UnavailableError(
        "channel must have a thread for its calls, got one for which none began: open another"
    )
