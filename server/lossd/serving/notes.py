"""Notes of what is to be counted, which wait until there are many, or until somebody reads.

Many are counted at a time, which takes less than one by one: code and numbers are in the cache.
"""

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

_TOGETHER = 100  # notes that are counted at a time, some seven to a call


class Notes:
    """A line of notes, each of which is counted once; for any number of threads.

    Attributes:
        lock: Held by whoever counts, or reads what was counted.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._waiting: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()

    def __len__(self) -> int:
        """Returns how many wait."""
        return len(self._waiting)

    def add(self, count: Callable[..., None], *arguments: Any) -> None:
        """Has a function called with these arguments, under the lock, now or later."""
        self._waiting.append((count, arguments))
        # Who adds a note never waits: it may be gRPC's own thread.  A later one will count it.
        if len(self._waiting) >= _TOGETHER and self.lock.acquire(blocking=False):
            try:
                self._count()
            finally:
                self.lock.release()

    def settle(self) -> None:
        """Counts what waits for it."""
        with self.lock:
            self._count()

    def _count(self) -> None:
        while self._waiting:
            count, arguments = self._waiting.popleft()
            count(*arguments)
