"""Checks as a caller would that gRPC still answers.

The process may look healthy while the thread that takes gRPC's events is gone or waits forever.  So
the server calls itself, through its own address, with a method that does not exist: the answer
comes from that very thread, however busy all others are.  Where so many call that gRPC refuses
this one too, the thread is known to live from the calls that it looks at.
"""

import functools
import logging
import threading
import time
from collections.abc import Callable

import grpc

from lossd.serving import addresses

log = logging.getLogger(__name__)

_NO_METHOD = "/lossd.Pulse/Beat"
_OPTIONS = [
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
]
# Statuses that say nothing about the thread: gRPC gives these by itself.
_SILENCE = {
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.UNAVAILABLE,
}
# Missed answers until probes fail, and until the server is given up.
_ALARMING, _DEADLY = 3, 6


class Pulse:
    """Asks every ``seconds``, and waits as long for an answer.

    ``stopped`` is called once, when so many went unanswered that no call will be answered again.
    """

    def __init__(self, stopped: Callable[[], object], *, seconds: float = 5) -> None:
        self._stopped = stopped
        self._seconds = seconds
        self._missed = 0
        self._closed = threading.Event()
        self._ask: Callable[[], bool] = lambda: True
        self._looked_at: Callable[[], int] = lambda: 0

    def start(self, address: str, looked_at: Callable[[], int] = lambda: 0) -> None:
        """Starts to ask the server that listens on an address.

        ``looked_at`` counts the calls that gRPC's thread has looked at.
        """
        self._looked_at = looked_at
        channel = grpc.insecure_channel(addresses.reachable(address), options=_OPTIONS)
        self._ask = functools.partial(_is_answered, channel.unary_unary(_NO_METHOD), self._seconds)
        threading.Thread(target=self._run, name="lossd-pulse", daemon=True).start()

    @property
    def is_felt(self) -> bool:
        """Whether gRPC answered recently."""
        return self._missed < _ALARMING

    def check(self) -> bool:
        """Returns whether it answers now."""
        return self._ask()

    def close(self) -> None:
        """Stops asking."""
        self._closed.set()

    def _run(self) -> None:
        spent = self._seconds  # the first time at once: later there may be no connection
        looked_at = self._looked_at()
        while not self._closed.wait(self._seconds - spent):
            started, before = time.monotonic(), looked_at
            is_answered, looked_at = self._ask(), self._looked_at()
            self._missed = 0 if is_answered or looked_at > before else self._missed + 1
            spent = min(time.monotonic() - started, self._seconds)
            if self._missed:
                log.warning("gRPC must answer itself, got nothing", extra={"times": self._missed})
            if self._missed == _DEADLY and not self._closed.is_set():
                self._stopped()


def _is_answered(method: "grpc.UnaryUnaryMultiCallable[bytes, bytes]", seconds: float) -> bool:
    try:
        method(b"", timeout=seconds)
    except grpc.RpcError as error:
        return error.code() not in _SILENCE
    return True
