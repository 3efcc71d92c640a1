"""Channels that outlive a moment in which the system begins no thread.

A call that is not waited for, or has a stream, gRPC counts as under way on its channel, and then
begins the thread that takes what comes.  If none begins it is counted for ever, and no thread is
begun for the calls after it: they wait beyond their timeouts, and so does who closes the channel,
or frees it. Such a channel is neither closed nor freed, and the next call has another.
"""

import contextlib
import ctypes
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc

from lossd.client.errors import UnavailableError, is_no_thread, no_thread_error

Open = Callable[[], Any]


class Renewing:
    """A channel for threads that is opened anew once gRPC could not begin a thread for it.

    ``lent`` is that of a caller, who alone can open another.
    """

    def __init__(self, open_one: Open, lent: grpc.Channel | None = None) -> None:
        self._open = open_one
        self._turn = threading.RLock()  # none may begin a call while that of another fails
        self._is_lost = False
        self.current: Any = open_one() if lent is None else lent

    @classmethod
    def of(cls, lent: grpc.Channel) -> "Renewing":
        """Returns one over the channel of a caller."""
        return cls(_no_other, lent)

    @contextlib.contextmanager
    def beginning(self) -> Iterator[Any]:
        """Yields the channel that a call begins on, as a context.

        Raises:
            UnavailableError: if there is no thread for it.
        """
        with self._turn:
            try:
                if self._is_lost:
                    threading.Thread(target=_nothing).start()  # or another would be lost too
                    self.current, self._is_lost = self._open(), False
                yield self.current
            except RuntimeError as error:
                if not is_no_thread(error):  # an interceptor's, or the depth of the stack
                    raise
                if not self._is_lost:
                    self._is_lost = True
                    _keep_for_ever(self.current)
                raise no_thread_error(error) from error

    def close(self) -> None:
        """Closes it; calls under way end as cancelled."""
        with self._turn:
            if not self._is_lost:
                self.current.close()

    def unary_unary(self, path: str, *arguments: Any) -> "_RenewedMethod":
        """Returns a method, as gRPC's channels do; so do the others."""
        return _RenewedMethod(self, "unary_unary", path, *arguments)

    def stream_unary(self, path: str, *arguments: Any) -> "_RenewedMethod":
        """Returns a method that takes a stream."""
        return _RenewedMethod(self, "stream_unary", path, *arguments)

    def stream_stream(self, path: str, *arguments: Any) -> "_RenewedMethod":
        """Returns a method that takes a stream and answers with one."""
        return _RenewedMethod(self, "stream_stream", path, *arguments)


class _RenewedMethod:
    """A method, called on the channel as it is at that moment."""

    def __init__(self, renewing: Renewing, kind: str, path: str, *arguments: Any) -> None:
        self._renewing = renewing
        self._made: Callable[[Any], Any] = lambda given: getattr(given, kind)(path, *arguments)
        self._is_stream = kind == "stream_stream"
        self._last: tuple[Any, Any] = (None, None)  # gRPC takes 40 us to make one

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Calls it; what it returns is an answer, or a call under way."""
        if not self._is_stream:  # gRPC waits in this thread, and needs no other
            return self._on(self._renewing.current)(*arguments, **named)
        with self._renewing.beginning() as channel:
            return self._on(channel)(*arguments, **named)

    def future(self, *arguments: Any, **named: Any) -> Any:
        """Begins a call and returns it."""
        with self._renewing.beginning() as channel:
            return self._on(channel).future(*arguments, **named)

    def _on(self, given: Any) -> Any:
        of, invoke = self._last
        if of is not given:
            invoke = self._made(given)
            self._last = given, invoke
        return invoke


def _nothing() -> None:
    """Is done by a thread that only had to begin."""


def _keep_for_ever(thing: Any) -> None:
    """Keeps a thing from being freed, also when the interpreter ends."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def _no_other() -> Any:
    raise UnavailableError(
        "channel must have a thread for its calls, got one for which none began: open another"
    )
