"""Limits the load: calls and bytes in flight, and turns to compute.

A gRPC server limits neither by itself: its queue is unbounded, and calls that wait in it hold
memory. A call is in flight until its last byte has left, so that replies that nobody reads count
too.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from lossd.errors import DeadlinePassed, Overloaded, ServiceError, TooLarge
from lossd.serving.call import Call


class Counted(Protocol):
    """Anything that a call takes up while it is in flight."""

    def take(self, amount: int) -> None:
        """Adds to it."""

    def give_back(self, amount: int) -> None:
        """Takes from it what was added."""


@dataclass(slots=True)
class Gauge:
    """A number that may not exceed its limit; may be used from many threads."""

    thing: str
    reason: str
    limit: int
    used: int = 0
    most: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, amount: int, own: int = 0) -> None:
        """Adds to it, for a call that has taken ``own`` of it before.

        Raises:
            Overloaded: if it would exceed its limit; TooLarge if the call would by itself.
        """
        with self.lock:
            wanted = self.used + amount
            if wanted <= self.limit:
                self.used = wanted
                self.most = max(self.most, wanted)
                return
        alone = own + amount
        if alone > self.limit:  # it would not even fit alone, and must not be tried again
            raise TooLarge(self._refusal(alone), details=self._details(alone))
        raise Overloaded(self._refusal(wanted), reason=self.reason, details=self._details(wanted))

    def _refusal(self, wanted: int) -> str:
        return f"{self.thing} must be at most {self.limit}, got {wanted}"

    def _details(self, wanted: int) -> dict[str, int]:
        return {"limit": self.limit, "wanted": wanted}

    def give_back(self, amount: int) -> None:
        """Takes from it what was added."""
        with self.lock:
            self.used -= amount


class Admission:
    """Counts calls and bytes in flight against their limits; may be used from many threads."""

    def __init__(self, *, calls: int, request_bytes: int, whose: str = "") -> None:
        self._calls = Gauge(f"calls in flight{whose}", "TOO_MANY_CALLS", calls)
        self._bytes = Gauge(f"bytes in flight{whose}", "TOO_MANY_BYTES", request_bytes)

    @property
    def calls(self) -> int:
        """The number of calls in flight."""
        return self._calls.used

    @property
    def max_calls(self) -> int:
        """The number of calls that may be in flight."""
        return self._calls.limit

    @property
    def request_bytes(self) -> int:
        """The bytes of the requests in flight."""
        return self._bytes.used

    def take_most(self) -> int:
        """Returns the most bytes that were in flight since the last call."""
        most, self._bytes.most = self._bytes.most, self._bytes.used
        return most

    def limit(self, *, calls: int, request_bytes: int) -> None:
        """Changes the limits; what was taken stays, though it be more."""
        self._calls.limit, self._bytes.limit = calls, request_bytes

    def enter(self) -> "AdmissionTicket":
        """Lets a call in.

        Raises:
            Overloaded: if the limit is reached.
        """
        self._calls.take(1)
        return AdmissionTicket((self._calls,), (self._bytes,))

    def narrow(self, ticket: "AdmissionTicket") -> None:
        """Counts what a ticket takes up here too.

        Raises:
            Overloaded: if there is no room for it.
        """
        ticket.count_in(self._calls, self._bytes)


Gauges = tuple[Gauge, ...]


def _take(gauges: Gauges, amount: int, own: int) -> None:
    """Adds to all gauges, each with a limit of its own, or to none; ``own`` was added before."""
    for position, gauge in enumerate(gauges):
        try:
            gauge.take(amount, own)
        except ServiceError:
            _give_back(gauges[:position], amount)
            raise


def _give_back(gauges: Iterable[Counted], amount: int) -> None:
    for gauge in gauges:
        gauge.give_back(amount)


@dataclass(slots=True)
class AdmissionTicket:
    """The room that one call takes, until its caller and its computation are done with it.

    A caller that goes is gone at once, while what computes lets go at its next checkpoint; until
    then it has its thread and its memory, and they count.
    """

    _calls: tuple[Counted, ...]
    _bytes: Gauges
    _held: int = 0
    _collected: int = 0
    _is_left: bool = False
    _is_finished: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def held(self) -> int:
        """The bytes that are held until all is over."""
        return self._held

    def count_in(self, calls: Counted, request_bytes: Gauge | None = None) -> None:
        """Counts it in other gauges too; before it holds anything.

        Raises:
            Overloaded: if they have no room for it.
        """
        with self._lock:
            if self._is_left:
                return
            calls.take(1)
            self._calls = (calls, *self._calls)
            if request_bytes is not None:
                self._bytes = (request_bytes, *self._bytes)

    def hold(self, amount: int) -> None:
        """Counts bytes of its request, until it gives them all back.

        Raises:
            Overloaded: if they do not fit beside those of the others.
        """
        with self._lock:
            _take(self._bytes, amount, self._held + self._collected)
            self._held += amount

    @contextmanager
    def collecting(self) -> Iterator[Callable[[int], None]]:
        """Counts bytes that come piece by piece, until all of them are done with.

        It yields a function that counts more, and raises Overloaded as ``hold`` does.
        """
        collected = 0

        def more(amount: int) -> None:
            nonlocal collected
            with self._lock:
                _take(self._bytes, amount, self._held + self._collected)
                self._collected += amount
            collected += amount

        try:
            yield more
        finally:
            with self._lock:
                self._collected -= collected
            _give_back(self._bytes, collected)

    def check(self, amount: int) -> None:
        """Checks that bytes that are still to come would fit.

        Raises:
            Overloaded: as ``hold``.
        """
        with self.collecting() as collect:
            collect(amount)

    def leave(self) -> None:
        """Says that the caller is done: it has its reply, or is gone."""
        with self._lock:
            self._is_left = True
            self._give_back()

    def finish(self) -> None:
        """Says that nothing is computed for it any more."""
        with self._lock:
            self._is_finished = True
            self._give_back()

    def _give_back(self) -> None:
        if self._is_left and self._is_finished:
            _give_back(self._bytes, self._held)
            _give_back(self._calls, 1)


class ComputeSlots:
    """Slots to compute: more calls at a time than cores would only slow each other down."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiting: deque[threading.Event] = deque()
        self._lock = threading.Lock()

    @contextmanager
    def slot(self, call: Call) -> Iterator[None]:
        """Waits for a slot, in the order of asking; abandoned calls get none.

        Raises:
            Abandoned: if the call was cancelled or its deadline has passed meanwhile.
        """
        with call.phase("queue"):
            given = self._asked()
            if given is not None:
                self._wait(given, call)
        try:
            call.checkpoint()
            yield
        finally:
            self._pass_on()

    def _asked(self) -> threading.Event | None:
        """Takes a slot; where none is free, returns what is set when one is given."""
        with self._lock:
            if self._free:
                self._free -= 1
                return None
            given = threading.Event()
            self._waiting.append(given)
            return given

    def _wait(self, given: threading.Event, call: Call) -> None:
        """Waits until a slot is given, or the call is over, which wakes it too."""
        remaining = call.context.time_remaining()
        with call.waking(given.set):
            given.wait(None if remaining is None else min(remaining, threading.TIMEOUT_MAX))
        with self._lock:
            if given in self._waiting:
                self._waiting.remove(given)
            else:
                return
        call.checkpoint()
        raise DeadlinePassed("call must get a turn before its deadline, got none")

    def _pass_on(self) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._free += 1
