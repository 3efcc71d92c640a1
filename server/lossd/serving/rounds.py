"""Does something again and again, on a thread of its own.

What the system does not have for a moment, such as a file descriptor or memory, it has again later.
A round that fails for want of it is logged, and the next one comes.  Any other failure is a fault
of ours: it ends the thread, and that the server.
"""

import errno
import logging
import threading
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

RESTING_SECONDS = 1.0
PASSING = (OSError, MemoryError)  # failures of a moment
LACKING = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})  # what a process lacks for one


def is_want(error: BaseException) -> bool:
    """Returns whether an error says that the process lacks something, whatever it was about."""
    return isinstance(error, MemoryError) or getattr(error, "errno", None) in LACKING


class Rounds:
    """Calls ``work`` every ``seconds`` until it is closed; ``name`` is that of the thread.

    When there was nothing to do for ``resting`` seconds, as ``is_idle`` says, it rests: the next
    round comes after as many, or at once when it is woken.  So a server that nobody calls takes
    next to no time of a processor, and calls that come one by one do not wait for threads to wake.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[], object],
        seconds: float,
        *,
        is_idle: Callable[[], bool] = lambda: False,
        resting: float = RESTING_SECONDS,
    ) -> None:
        self._work = work
        self._seconds = seconds
        self._is_idle = is_idle
        self._resting = resting
        self._busy_at = time.monotonic()
        self._is_stirred = self._rests = False
        self._woken = threading.Event()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Begins no other round."""
        self._closed.set()
        self._woken.set()

    def wake(self) -> None:
        """Ends a rest, or keeps it from one; it waits for nobody."""
        self._is_stirred = True
        if self._rests:
            self._woken.set()

    def join(self) -> None:
        """Waits for the last round, once closed."""
        self._thread.join()

    def _run(self) -> None:
        is_failing = False
        while not self._is_over():
            try:
                self._work()
            except PASSING as error:
                if not is_failing:  # one line, however long it lasts
                    facts = {"which": self._thread.name, "because": str(error) or repr(error)}
                    log.warning("could not do it now, and will try again", extra=facts)
                is_failing = True
            else:
                is_failing = False

    def _is_over(self) -> bool:
        """Waits for the next round; returns whether there is none."""
        self._woken.clear()
        self._rests = True  # before it looks: whoever has something to do since then wakes it
        has_rest = self._was_idle() and not self._closed.is_set()
        if has_rest:
            self._woken.wait(self._resting)
        self._rests = False
        return self._closed.wait(0 if has_rest else self._seconds)

    def _was_idle(self) -> bool:
        """Returns whether there has been nothing to do for long."""
        now = time.monotonic()
        if self._is_stirred or not self._is_idle():
            self._is_stirred, self._busy_at = False, now
        return now - self._busy_at >= self._resting
