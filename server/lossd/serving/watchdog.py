"""Ends calls that take too long, whoever is to blame: a caller that sends or reads slowly.

A call without a deadline would otherwise keep its place for as long as its connection lives.
"""

import threading
import time
from collections.abc import Callable


class Watchdog:
    """Cancels what is not released within ``seconds``, a tenth of them later at most."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._watched: dict[object, tuple[float, Callable[[], object]]] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()
        threading.Thread(target=self._run, name="lossd-watchdog", daemon=True).start()

    def watch(self, cancel: Callable[[], object]) -> Callable[[], None]:
        """Looks after a call; returns what releases it."""
        key = object()
        with self._lock:
            self._watched[key] = (time.monotonic() + self._seconds, cancel)

        def release() -> None:
            with self._lock:
                self._watched.pop(key, None)

        return release

    def close(self) -> None:
        """Looks after nothing any more."""
        self._closed.set()

    def _run(self) -> None:
        while not self._closed.wait(self._seconds / 10):
            for cancel in self._due():
                cancel()

    def _due(self) -> list[Callable[[], object]]:
        now = time.monotonic()
        with self._lock:
            keys = [key for key, (due, _) in self._watched.items() if due <= now]
            return [self._watched.pop(key)[1] for key in keys]
