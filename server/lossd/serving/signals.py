"""SIGTERM and SIGINT, heard whichever thread they reach."""

import signal
import socket

_ENDINGS = (signal.SIGTERM, signal.SIGINT)


class EndingSignal:
    """Hears the first signal that asks the process to end.

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
        """Waits for the signal; a second one ends the process as it ordinarily would."""
        while self._heard.recv(1)[0] not in _ENDINGS:
            continue  # another signal that somebody has a handler for
        for number in _ENDINGS:
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)


def _ignore(number: int, frame: object) -> None:
    """Replaces the default, which would end the process; the byte is what matters."""
