"""A line for each call that was not let in; of a crowd of them, a few and how many more."""

import logging
import threading
import time
from collections.abc import Callable

log = logging.getLogger("lossd.audit")

_LINES_PER_SECOND = 20


class Audit:
    """Writes lines, at most so many a second; may be used from many threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._second = 0
        self._lines = 0
        self._left_out = 0
        self._lock = threading.Lock()

    def refused(self, **facts: object) -> None:
        """Writes that a call was refused."""
        with self._lock:
            second = int(self._clock())
            if second != self._second:
                self._second, self._lines = second, 0
            self._lines += 1
            if self._lines > _LINES_PER_SECOND:
                self._left_out += 1
                return
            left_out, self._left_out = self._left_out, 0
        if left_out:
            log.warning("refused more calls", extra={"count": left_out})
        log.warning("refused", extra=facts)
