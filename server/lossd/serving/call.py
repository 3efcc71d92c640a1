"""Calls, as handlers see them."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from lossd.errors import Abandoned, DeadlinePassed, ServiceError
from lossd.serving.caller import HERE, Caller

REQUEST_ID = "x-request-id"
# How the tensors of a call travel.
GRPC, SHARED_MEMORY, DEVICE_MEMORY = "grpc", "shared_memory", "device_memory"
# With so little left, a call that ended did so for its deadline.
_DEADLINE_SECONDS = 0.05
# How long an answer may take to be read before it gives way to a call that finds no room.
READING_SECONDS, READING_BYTES = 0.05, 10_000_000  # the latter in a second


class Context(Protocol):
    """The part of gRPC's context that lossd uses."""

    def is_active(self) -> bool:
        """Returns whether the caller still waits."""

    def time_remaining(self) -> float | None:
        """Returns the seconds to the deadline; None without one."""

    def invocation_metadata(self) -> Iterable[tuple[str, str | bytes]]:
        """Returns the metadata that the caller sent with the request."""

    def cancel(self) -> object:
        """Ends the call."""

    def peer(self) -> str:
        """Returns gRPC's name of the connection that the call came on."""

    def send_initial_metadata(self, metadata: tuple[tuple[str, str], ...], /) -> None:
        """Sends the initial metadata, once and before any answer."""


class Trace(Protocol):
    """A record of a call whose course somebody wants to see.

    ``exemplar`` are the labels that lead from a measured time to the call.
    """

    exemplar: dict[str, str] | None

    def spent(self, phase: str, seconds: float) -> None:
        """Notes a phase that has ended."""

    def batch(self, labels: Mapping[str, str]) -> None:
        """Notes that a batch was answered: a conversation has several."""

    def end(self, code: str, number: int, labels: Mapping[str, str]) -> None:
        """Ends with gRPC's code, by name and number."""


class Received:
    """The message of a request.  Whoever takes it holds the only reference, and can free it."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def take(self) -> bytes:
        """Returns the encoded message, once."""
        data, self._data = self._data, b""
        return data


@contextmanager
def _counted_by_nobody() -> Iterator[Callable[[int], None]]:
    yield lambda _: None


@dataclass(slots=True)
class Call:
    """One call.

    ``seconds`` is the time spent by phase, and ``labels`` what the handler learns on the way and
    the metrics want to know; on a stream both are those of one batch.  ``hold`` counts bytes that
    it takes beside its message's; it raises Overloaded if they do not fit.  ``collecting`` counts
    some for as long as they are taken.  ``read_by`` is when the caller should have read what it was
    sent.  On a stream ``began`` is when the batch began that is answered now, and ``awaits_chunk``
    says that the next message should be a small part of it.  ``has_spoken`` says that a message has
    come, and ``gave_way`` that the server ended the call while it waited for one.
    """

    context: Context
    request_id: str
    hold: Callable[[int], None] = lambda _: None
    collecting: Callable[[], AbstractContextManager[Callable[[int], None]]] = _counted_by_nobody
    seconds: dict[str, float] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    caller: Caller = HERE
    trace: Trace | None = None
    began: float | None = None
    is_answered: bool = False
    has_spoken: bool = False
    gave_way: bool = False
    awaits_chunk: bool = False
    read_by: float = math.inf
    _wake: Callable[[], None] | None = None
    _is_let_in: bool = False
    _answered: dict[str, str] = field(default_factory=dict)

    @property
    def last_labels(self) -> dict[str, str]:
        """The labels of the batch that is answered, or else of the last one that was."""
        return self.labels or self._answered

    def who_does_not_read(self) -> str:
        """Returns the connection of a caller who takes long to read an answer; else nothing."""
        return self.context.peer() if time.monotonic() > self.read_by else ""

    def sent(self, size: int) -> None:
        """Notes an answer of so many bytes, which the caller has to read now."""
        self.read_by = time.monotonic() + READING_SECONDS + size / READING_BYTES

    def phase(self, name: str) -> "_Phase":
        """Times the work done within, even if it fails."""
        return _Phase(self, name)

    def spent(self, phase: str, seconds: float) -> None:
        """Adds to the time of a phase."""
        self.seconds[phase] = self.seconds.get(phase, 0.0) + seconds
        if self.trace is not None:
            self.trace.spent(phase, seconds)

    @property
    def exemplar(self) -> dict[str, str] | None:
        """The labels that lead from a measured time to the trace; None if there is none."""
        return None if self.trace is None else self.trace.exemplar

    def let_in(self) -> None:
        """Tells the caller that there is room for what it announced; on a stream only once."""
        if not self._is_let_in:
            self._is_let_in = True
            self.context.send_initial_metadata(((REQUEST_ID, self.request_id),))

    @contextmanager
    def waking(self, wake: Callable[[], None]) -> Iterator[None]:
        """Has ``wake`` called, by another thread, when the call ends while inside."""
        self._wake = wake
        try:
            if not self.context.is_active():
                wake()
            yield
        finally:
            self._wake = None

    def over(self) -> None:
        """Wakes whoever waits within the call: nobody waits for its answer any more."""
        wake = self._wake
        if wake is not None:
            wake()

    def give_way(self) -> None:
        """Ends, since others need what it takes while it says nothing."""
        self.gave_way = True
        self.context.cancel()

    def renew(self) -> None:
        """Forgets phases and labels: on a stream one call follows another."""
        if self.labels:
            if self.trace is not None:
                self.trace.batch(self.labels)
            self._answered, self.labels = self.labels, {}
        self.seconds.clear()
        self.began = time.perf_counter()

    def checkpoint(self) -> None:
        """Raises Abandoned, or DeadlinePassed, if nobody waits for the answer any more."""
        remaining = self.context.time_remaining()
        if (remaining is not None and remaining <= 0) or not self.context.is_active():
            raise self.why_over("call must be waited for, got a cancelled one")

    def why_over(self, otherwise: str) -> ServiceError:
        """Returns why nobody waits for the answer any more: the deadline, or else the caller.

        gRPC ends a call some milliseconds before its deadline as the context tells it.
        """
        remaining = self.context.time_remaining()
        if remaining is not None and remaining <= _DEADLINE_SECONDS:
            return DeadlinePassed("call must be done before its deadline, got one that has passed")
        return Abandoned(otherwise)


class _Phase:
    """A phase of a call; a generator would take several times as long."""

    __slots__ = ("_call", "_name", "_started")

    def __init__(self, call: Call, name: str) -> None:
        self._call, self._name = call, name

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._call.spent(self._name, time.perf_counter() - self._started)
