"""SIGTERM and SIGINT, heard whichever thread they reach."""

import os
import signal
import socket
import threading

_ENDINGS = (signal.SIGTERM, signal.SIGINT)


class EndingSignal:
    """Hears the first signal that asks the process to end; ``give`` stands for one.

    Make it in the main thread before the server starts: whoever reads that it is ready may end it
    at once.

    Why not a handler that sets an event: the kernel may give the signal to a thread of BLAS or
    gRPC.  Python then runs the handler when the main thread next runs Python, which is never while
    it waits for the event.  A byte in a pipe wakes it in any case.
    """

    def __init__(self) -> None:
        self._heard, self._told = socket.socketpair()
        self._told.setblocking(False)  # noqa: FBT003 - its only argument
        signal.set_wakeup_fd(self._told.fileno(), warn_on_full_buffer=False)
        for number in _ENDINGS:
            signal.signal(number, _ignore)

    def wait(self) -> None:
        """Waits for the signal; a second one ends the process at once.

        Not by the signal's default action: as the first process of a container, where there is no
        other to act on it, the kernel would leave it out.
        """
        self._next()
        threading.Thread(target=self._end_at_next, daemon=True).start()

    def give(self) -> None:
        """Ends the process as SIGTERM would; may be called from any thread."""
        self._told.send(bytes([signal.SIGTERM]))

    def _next(self) -> int:
        while (number := self._heard.recv(1)[0]) not in _ENDINGS:
            continue  # another signal that somebody has a handler for
        return number

    def _end_at_next(self) -> None:
        os._exit(128 + self._next())


def _ignore(number: int, frame: object) -> None:
    """Replaces the default, which would end the process; the byte is what matters."""
