"""Limits the load: calls and bytes in flight, and turns to compute.

A gRPC server limits neither by itself: its queue is unbounded, and calls that wait in it hold
memory. A call is in flight until its last byte has left, so that replies that nobody reads count
too.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from lossd.errors import DeadlinePassed, Overloaded, TooLarge
from lossd.serving.call import Call


@dataclass(slots=True)
class _Gauge:
    """A number that may not exceed its limit."""

    thing: str
    reason: str
    limit: int
    used: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, amount: int) -> None:
        with self.lock:
            wanted = self.used + amount
            if wanted <= self.limit:
                self.used = wanted
                return
        # An amount that would not even fit alone must not be tried again.
        kind = Overloaded if amount <= self.limit else TooLarge
        raise kind(
            f"{self.thing} must be at most {self.limit}, got {wanted}",
            reason=self.reason,
            details={"limit": self.limit, "wanted": wanted},
        )

    def give_back(self, amount: int) -> None:
        with self.lock:
            self.used -= amount


class Admission:
    """Counts calls and bytes in flight against their limits; may be used from many threads."""

    def __init__(self, *, calls: int, request_bytes: int) -> None:
        self._calls = _Gauge("calls in flight", "TOO_MANY_CALLS", calls)
        self._bytes = _Gauge("bytes in flight", "TOO_MANY_BYTES", request_bytes)

    @property
    def calls(self) -> int:
        """The number of calls in flight."""
        return self._calls.used

    @property
    def request_bytes(self) -> int:
        """The bytes of the requests in flight."""
        return self._bytes.used

    def enter(self) -> "Place":
        """Lets a call in.

        Raises:
            Overloaded: if the limit is reached.
        """
        self._calls.take(1)
        return Place(self._calls, self._bytes)


@dataclass(slots=True)
class Place:
    """The room that one call takes up; it may be given back while the call still computes."""

    _calls: _Gauge
    _bytes: _Gauge
    _held: int = 0
    _is_left: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def hold(self, amount: int) -> None:
        """Counts bytes of its request, until it gives them all back.

        Raises:
            Overloaded: if they do not fit beside those of the others.
        """
        with self._lock:
            if self._is_left:
                return
            self._bytes.take(amount)
            self._held += amount

    @contextmanager
    def holding(self, amount: int) -> Iterator[None]:
        """Counts the bytes of one message of several while it is handled.

        Raises:
            Overloaded: as ``hold``.
        """
        with self.collecting() as collect:
            collect(amount)
            yield

    @contextmanager
    def collecting(self) -> Iterator[Callable[[int], None]]:
        """Counts bytes that come piece by piece, until all of them are done with.

        It yields a function that counts more, and raises Overloaded as ``hold`` does.
        """
        collected = 0

        def more(amount: int) -> None:
            nonlocal collected
            self._bytes.take(amount)
            collected += amount

        try:
            yield more
        finally:
            self._bytes.give_back(collected)

    def check(self, amount: int) -> None:
        """Checks that bytes that are still to come would fit.

        Raises:
            Overloaded: as ``hold``.
        """
        with self.holding(amount):
            pass

    def leave(self) -> None:
        """Gives everything back."""
        with self._lock:
            self._is_left = True
            self._bytes.give_back(self._held)
            self._calls.give_back(1)


class Turns:
    """Turns to compute: more calls at a time than cores would only slow each other down."""

    def __init__(self, count: int) -> None:
        self._free = threading.Semaphore(count)

    @contextmanager
    def turn(self, call: Call) -> Iterator[None]:
        """Waits for a turn, in the order of asking; abandoned calls get none.

        Raises:
            Abandoned: if the call was cancelled or its deadline has passed meanwhile.
        """
        with call.phase("queue"):
            remaining = call.context.time_remaining()
            patience = None if remaining is None else min(remaining, threading.TIMEOUT_MAX)
            if not self._free.acquire(timeout=patience):
                raise DeadlinePassed("call must get a turn before its deadline, got none")
        try:
            call.checkpoint()
            yield
        finally:
            self._free.release()
