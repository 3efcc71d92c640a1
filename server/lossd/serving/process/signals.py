"""Receives the signals that end a process, whichever thread they reach, and ends it in any case."""

import logging
import os
import signal
import socket
import sys
import threading
import time
from typing import NoReturn

log = logging.getLogger(__name__)

_ENDINGS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class EndingSignal:
    """Waits for the first signal that asks the process to end; ``give`` has the same effect.

    Make it in the main thread before the server starts: a program that reads that it is ready may
    end it at once.  A signal that comes before ``begin`` ends the process there and then, with
    status 0.  After it the process ends at a second signal, and ``seconds`` after the first
    whatever it still waits for: a thread that computes, or gRPC, if that does not answer any more.
    ``status`` is its exit status then; None stands for that of the signal.

    Why not a handler that sets an event: the kernel may give the signal to a thread of BLAS or
    gRPC.  Python then runs the handler when the main thread next runs Python, which is never while
    it waits for the event.  A byte in a pipe wakes a thread in any case.
    """

    def __init__(self, seconds: float) -> None:
        self.status: int | None = None
        self._seconds = seconds
        self._came = threading.Event()
        self._beginning = threading.Lock()
        self._has_begun = False
        self._heard, self._told = socket.socketpair()
        self._told.setblocking(False)  # noqa: FBT003 - its only argument
        signal.set_wakeup_fd(self._told.fileno(), warn_on_full_buffer=False)
        for number in _ENDINGS:
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # by nohup
                signal.signal(number, _ignore)
        threading.Thread(target=self._run, name="lossd-ending", daemon=True).start()

    @property
    def has_come(self) -> bool:
        """Whether there was a signal."""
        return self._came.is_set()

    def begin(self) -> None:
        """Says that from now on there is something to end with care, such as files and calls."""
        with self._beginning:
            self._has_begun = True

    def wait(self) -> None:
        """Waits for the signal."""
        self._came.wait()

    def give(self) -> None:
        """Ends the process as a SIGTERM after ``begin`` would; may be called from any thread."""
        self.begin()
        self._told.send(bytes([signal.SIGTERM]))

    def leave(self, status: int) -> NoReturn:
        """Ends the process without what Python does at its end.

        There it takes gRPC's queues down, which wait for events that a server that has not stopped
        never gives.
        """
        logging.shutdown()
        sys.stdout.flush()
        os._exit(status)

    def _run(self) -> None:
        """Waits for the first signal, and ends the process at the second or when time is up.

        Not by the signal's default action, which the kernel ignores for the first process of a
        container.
        """
        first = self._next(None)
        self._leave_before_it_begins()
        self._came.set()
        second = self._next(time.monotonic() + self._seconds)
        if second is not None:
            os._exit(128 + second)
        if self.status is None:
            log.error("ended before all was done", extra={"seconds": self._seconds})
        os._exit(128 + (first or 0) if self.status is None else self.status)

    def _leave_before_it_begins(self) -> None:
        with self._beginning:
            if not self._has_begun:
                log.info("ended before it was ready")
                self.leave(0)

    def _next(self, deadline: float | None) -> int | None:
        """Returns the next signal, or None if there is none before the deadline."""
        while True:
            left = None if deadline is None else max(0.001, deadline - time.monotonic())
            self._heard.settimeout(left)
            try:
                number = self._heard.recv(1)[0]
            except TimeoutError:
                return None
            if number in _ENDINGS:  # otherwise there is a handler for it already
                return number


def _ignore(number: int, frame: object) -> None:
    """Replaces the default action, which would end the process; only the byte matters."""
