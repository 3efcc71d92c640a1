"""The parts of an evaluation on their way to gRPC's thread, a few ahead of it."""

import threading
from collections import deque
from collections.abc import Iterator

from lossd import v1
from lossd.client.errors import InvalidRequestError
from lossd.client.forks import turns

Part = v1.EvaluateStreamRequest

_AHEAD = 2  # batches that wait to be sent


class Sending:
    """Parts that go out on one stream; others before it may have been refused.

    Attributes:
        is_over: Whether nothing goes out any more.
    """

    def __init__(self, first: v1.EvaluateRequest) -> None:
        self.is_over = False
        self._first = first
        self._parts: deque[Part] = deque()
        self._is_whole = False  # and takes no more parts
        self._lock = threading.RLock()  # entered itself, as a signal comes amid Python's steps
        self._changed = threading.Condition(self._lock)

    def put(self, part: Part) -> bool:
        """Sends a part; returns whether there was room for it.

        Raises:
            InvalidRequestError: if the stream is to end: it would not go out.
        """
        with self._lock:
            self._changed.wait_for(lambda: self._is_whole or len(self._parts) < _AHEAD, 0.2)
            if self._is_whole:
                raise not_open("has ended")
            if len(self._parts) >= _AHEAD:
                return False
            self._parts.append(part)
            self._changed.notify_all()
            return True

    def finish(self) -> None:
        """Ends the stream after the parts that were put; may be repeated."""
        with self._lock:
            self._is_whole = True
            self._changed.notify_all()

    def end(self) -> None:
        """Has nothing go out any more."""
        self.is_over = True

    def messages(self) -> Iterator[Part]:
        """Yields the requests for gRPC's thread; ends with the call, or the thread never would.

        It comes again when one is sent, so until then forks wait.
        """
        try:
            with turns():
                yield Part(part=self._first)
            while not self.is_over:
                for part in self._taken():
                    with turns():
                        yield part
        finally:
            self.end()

    def _taken(self) -> list[Part]:
        """Returns the next part once there is one, none after a while; notes the end."""
        with self._lock:
            self._changed.wait_for(lambda: self._is_whole or self._parts, 0.2)
            if self._parts:
                self._changed.notify_all()
                return [self._parts.popleft()]
            if self._is_whole:
                self.end()
            return []


def not_open(got: str) -> InvalidRequestError:
    """Returns the exception for an evaluation that has not begun, or has ended."""
    return InvalidRequestError(f"evaluation must be open, got one that {got}")
