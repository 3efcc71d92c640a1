"""Ends calls that take too long, for example because the caller sends or reads slowly.

A call without a deadline would otherwise be in flight for as long as its connection lives.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from lossd.serving.rounds import Rounds

Owner = Callable[[], str]

# How often those are looked for, at least, who take too long.
_LOOKING_SECONDS = 5.0


class Watchdog:
    """Cancels calls that are not released within ``patience()`` seconds.

    It checks every ``every`` seconds, so it may be late by that much.
    """

    def __init__(self, patience: Callable[[], float], *, every: float) -> None:
        self._patience = patience
        self._watched: dict[object, tuple[float, Callable[[], object], Owner]] = {}
        self._lock = threading.Lock()
        self._told: tuple[Callable[[], object], ...] = ()
        self._rounds = Rounds("lossd-watchdog", self._end_due, every)

    def __len__(self) -> int:
        """Returns the number of calls that it watches."""
        return len(self._watched)

    def watch(self, cancel: Callable[[], object], owner: Owner = str) -> Callable[[], None]:
        """Watches a call; returns the function that releases it.

        ``owner`` tells whose call it is, and is asked only where somebody wants to know: gRPC lets
        go of the interpreter's lock to say it, which other threads then take.
        """
        key = object()
        with self._lock:
            self._watched[key] = (time.monotonic(), cancel, owner)
        for tell in self._told:
            tell()

        def release() -> None:
            with self._lock:
                self._watched.pop(key, None)

        return release

    def when_watching(self, tell: Callable[[], object]) -> None:
        """Has a function called, which must wait for nobody, each time it begins to watch."""
        self._told = (*self._told, tell)

    def end_late(self, count: int, patience: float) -> int:
        """Cancels those that took longer than ``patience`` seconds, the latest first.

        At most ``count`` of them; it returns how many.
        """
        latest = time.monotonic() - patience
        with self._lock:
            late = [key for key, (began, *_) in self._watched.items() if began <= latest]
            cancels = self._taken(late[: max(count, 0)])
        return _done(cancels)

    def end_newest(self, count: int, owner: str | None = None) -> int:
        """Cancels the ``count`` that began last, of all or one owner's; returns how many."""
        with self._lock:
            watched = [*reversed(self._watched.items())]
        # Without the lock, which gRPC's own thread waits for: others may run while one is asked.
        newest = [key for key, (*_, whose) in watched if owner is None or whose() == owner]
        with self._lock:
            still = [key for key in newest if key in self._watched]
            cancels = self._taken(still[: max(count, 0)])
        return _done(cancels)

    def owners(self) -> list[str]:
        """Returns the owner of each call that it watches."""
        with self._lock:
            owners = [owner for *_, owner in self._watched.values()]
        return [owner() for owner in owners]

    def _taken(self, keys: Iterable[object]) -> list[Callable[[], object]]:
        return [self._watched.pop(key)[1] for key in keys]

    def close(self) -> None:
        """Stops watching."""
        self._rounds.close()

    def _end_due(self) -> None:
        latest = time.monotonic() - self._patience()
        with self._lock:
            due = self._taken([k for k, (began, *_) in self._watched.items() if began <= latest])
        _done(due)


@dataclass(frozen=True, slots=True)
class Watchdogs:
    """The watchdogs of a server, which end calls that take, begin or are silent too long.

    Of those that wait for another message than the first, ``chunk`` watches those that have begun a
    batch and want its next chunk, ``between`` those that rest between two batches, and ``idle`` all
    others.
    """

    call: Watchdog
    first_message: Watchdog
    idle: Watchdog
    chunk: Watchdog
    between: Watchdog

    @classmethod
    def ending_after(cls, *, call: float, first_message: float, idle: float) -> Self:
        """Makes them from their patience, in seconds."""
        return cls(*map(_ending_after, (call, first_message, idle, idle, idle)))

    @property
    def of_silent(self) -> tuple[Watchdog, ...]:
        """Those of calls that wait for a message."""
        return self.first_message, self.idle, self.chunk, self.between

    def close(self) -> None:
        """Stops watching."""
        for each in (self.call, *self.of_silent):
            each.close()


def _ending_after(seconds: float) -> Watchdog:
    return Watchdog(lambda: seconds, every=min(seconds / 10, _LOOKING_SECONDS))


def _done(cancels: Sequence[Callable[[], object]]) -> int:
    with contextlib.ExitStack() as each:  # even if one fails
        for cancel in reversed(cancels):
            each.callback(cancel)
    return len(cancels)
