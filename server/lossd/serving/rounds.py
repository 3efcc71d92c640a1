"""Does something again and again, on a thread of its own.

What the system does not have for a moment, such as a file descriptor or memory, it has again later.
A round that fails for want of it is logged, and the next one comes.  Any other failure is a fault
of ours: it ends the thread, and that the server.
"""

import logging
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)

PASSING = (OSError, MemoryError)  # failures of a moment


class Rounds:
    """Calls ``work`` every ``seconds`` until it is closed; ``name`` is that of the thread."""

    def __init__(self, name: str, work: Callable[[], object], seconds: float) -> None:
        self._work = work
        self._seconds = seconds
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Begins no other round."""
        self._closed.set()

    def join(self) -> None:
        """Waits for the last round, once closed."""
        self._thread.join()

    def _run(self) -> None:
        is_failing = False
        while not self._closed.wait(self._seconds):
            try:
                self._work()
            except PASSING as error:
                if not is_failing:  # one line, however long it lasts
                    facts = {"which": self._thread.name, "because": str(error) or repr(error)}
                    log.warning("could not do it now, and will try again", extra=facts)
                is_failing = True
            else:
                is_failing = False
