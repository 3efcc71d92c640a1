"""Calls, as handlers see them."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from lossd.errors import Abandoned, DeadlinePassed

REQUEST_ID = "x-request-id"


class Context(Protocol):
    """The part of gRPC's context that lossd uses."""

    def is_active(self) -> bool:
        """Returns whether the caller still waits."""

    def time_remaining(self) -> float | None:
        """Returns the seconds to the deadline; None without one."""

    def send_initial_metadata(self, metadata: tuple[tuple[str, str], ...], /) -> None:
        """Sends the initial metadata, once and before any answer."""


class Received:
    """The message of a request.  Whoever takes it holds the only reference, and can free it."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __len__(self) -> int:
        return len(self._data)

    def take(self) -> bytes:
        """Returns the encoded message, once."""
        data, self._data = self._data, b""
        return data


@dataclass(slots=True)
class Call:
    """One call.

    ``seconds`` is the time spent in each phase, and ``labels`` are facts for the metrics that the
    handler learns on the way.  ``hold`` counts bytes that the call takes besides its message; it
    raises Overloaded if they do not fit.
    """

    context: Context
    request_id: str
    hold: Callable[[int], None] = lambda _: None
    labels: dict[str, str] = field(default_factory=dict)
    _seconds: dict[str, float] = field(default_factory=dict)
    _is_let_in: bool = False

    @property
    def seconds(self) -> Mapping[str, float]:
        """The time spent so far, by phase."""
        return self._seconds

    def phase(self, name: str) -> "_Phase":
        """Times the work done within, even if it fails."""
        return _Phase(self, name)

    def spent(self, phase: str, seconds: float) -> None:
        """Adds to the time of a phase."""
        self._seconds[phase] = self._seconds.get(phase, 0.0) + seconds

    def let_in(self) -> None:
        """Tells the caller that there is room for what it announced; on a stream only once."""
        if not self._is_let_in:
            self._is_let_in = True
            self.context.send_initial_metadata(((REQUEST_ID, self.request_id),))

    def renew(self) -> None:
        """Forgets phases and labels: on a stream one call follows another."""
        self._seconds.clear()
        self.labels.clear()

    def checkpoint(self) -> None:
        """Raises Abandoned if nobody waits for the answer any more."""
        remaining = self.context.time_remaining()
        if remaining is not None and remaining <= 0:
            raise DeadlinePassed("call must be done before its deadline, got one that has passed")
        if not self.context.is_active():
            raise Abandoned("call must be waited for, got a cancelled one")


class _Phase:
    """A phase of a call; a generator would take several times as long."""

    __slots__ = ("_call", "_name", "_started")

    def __init__(self, call: Call, name: str) -> None:
        self._call, self._name = call, name

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._call.spent(self._name, time.perf_counter() - self._started)
