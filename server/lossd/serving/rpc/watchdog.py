"""Ends calls that take too long, for example because the caller sends or reads slowly.

A call without a deadline would otherwise keep its place for as long as its connection lives.
"""

import threading
import time
from collections.abc import Callable


class Watchdog:
    """Cancels calls that are not released within ``patience()`` seconds.

    It checks every ``every`` seconds, so it may be late by that much.
    """

    def __init__(self, patience: Callable[[], float], *, every: float) -> None:
        self._patience = patience
        self._every = every
        self._watched: dict[object, tuple[float, Callable[[], object]]] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()
        threading.Thread(target=self._run, name="lossd-watchdog", daemon=True).start()

    def __len__(self) -> int:
        """Returns the number of calls that it watches."""
        return len(self._watched)

    def watch(self, cancel: Callable[[], object]) -> Callable[[], None]:
        """Watches a call; returns the function that releases it."""
        key = object()
        with self._lock:
            self._watched[key] = (time.monotonic(), cancel)

        def release() -> None:
            with self._lock:
                self._watched.pop(key, None)

        return release

    def close(self) -> None:
        """Stops watching."""
        self._closed.set()

    def _run(self) -> None:
        while not self._closed.wait(self._every):
            for cancel in self._due():
                cancel()

    def _due(self) -> list[Callable[[], object]]:
        latest = time.monotonic() - self._patience()
        with self._lock:
            keys = [key for key, (began, _) in self._watched.items() if began <= latest]
            return [self._watched.pop(key)[1] for key in keys]
