"""A line for each call that was not let in; of a crowd of them, a few and how many more."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable

log = logging.getLogger("lossd.audit")

_LINES_PER_SECOND = 20
_TOLD_SECONDS = 1.0  # after the first that is left out


class Audit:
    """Writes lines, at most so many a second; may be used from many threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._second = 0
        self._lines = 0
        self._left_out = 0
        self._will_tell = False  # whether a timer runs
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
                self._tell_later()
                return
        self._tell()
        log.warning("refused", extra=facts)

    def _tell_later(self) -> None:
        """Has the number told though nobody be refused any more."""
        if self._will_tell:
            return
        timer = threading.Timer(_TOLD_SECONDS, self._tell_in_time)
        timer.name, timer.daemon = "lossd-audit", True
        with contextlib.suppress(RuntimeError):  # no thread is left: the next refusal tells it
            timer.start()
            self._will_tell = True

    def _tell_in_time(self) -> None:
        with self._lock:
            self._will_tell = False
        self._tell()

    def _tell(self) -> None:
        """Writes how many were left out, if some were."""
        with self._lock:
            left_out, self._left_out = self._left_out, 0
        if left_out:
            log.warning("refused more calls", extra={"count": left_out})
