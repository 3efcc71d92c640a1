"""Words for a server that no connection is found to, in place of gRPC's own."""

import re
import threading
from urllib.parse import unquote

from lossd.client.errors import HINT, LATE, LossdError, UnavailableError

# How gRPC begins where it finds nobody at a target; its versions differ.
_BEGINNINGS = (
    "connections to all backends failing",
    "failed to connect to all addresses",
    "errors resolving",
    "DNS resolution failed",
)
# How it ends where a server is there that calls itself unhealthy.
_UNHEALTHY = "backend unhealthy"
# What it says where somebody is there who ends the connection, as a server with TLS does to a
# client without it, or with a certificate that it does not take: why is not told.
_ENDED = ("Socket closed", "Connection reset", "Broken pipe")
_ENDED_HINT = "does it want TLS, or another certificate of its client?"
# What it says where TLS itself tells what is wrong.
_TOLD = "handshake failed"
_NOT_READY = "not ready: it starts or drains"
# What it puts before the address of its last attempt.
_BEFORE = re.compile(r".*?last error: (?:[A-Z_]+: )?(?:ipv[46]:)?", re.DOTALL)
# Many calls that wait for one server say so no more often.
_SELDOM = 60.0


def server_at(target: object) -> str:
    """Returns what a server is called; where a function or a channel tells, nobody knows where."""
    return f"server at {target}" if isinstance(target, str) else "server"


def is_unreached(error: LossdError | None) -> bool:
    """Returns whether gRPC found nobody to connect to."""
    return isinstance(error, UnavailableError) and error.message.startswith(_BEGINNINGS)


def explain(error: LossdError, server: str, seconds: float) -> None:
    """Has an error say which server did not answer for so long, if none was found or it is late.

    A host that stays silent is late too: gRPC does not tell whether anybody was there.
    """
    if _is_there(error):
        found = f"one that is {_NOT_READY}"
    elif is_unreached(error):
        found = f"no gRPC connection: {_hinted(error)}"
    elif error.message == LATE:
        found = "no answer in time"
    else:
        return
    error.message = f"{server} must answer within {round(seconds, 1) or seconds:g} s, got {found}"
    error.args = (error.message,)


def waiting(error: LossdError, server: str, seconds: float) -> str:
    """Returns what the log says while a call waits for so much longer."""
    left = f"{seconds:.0f} s left"
    if _is_there(error):
        return f"{server} is {_NOT_READY}, {left}"
    return f"{server} gives no gRPC connection, {left}: {_hinted(error)}"


def _is_there(error: LossdError) -> bool:
    """Returns whether nobody was found only because who is there is not ready."""
    return is_unreached(error) and _UNHEALTHY in error.message


def _hinted(error: LossdError) -> str:
    """Returns gRPC's reason, and what may help."""
    because = reason(error)
    if any(words in because for words in _ENDED):
        return f"{because}; {_ENDED_HINT}"
    return because if _TOLD in because else f"{because}; {HINT}"


def reason(error: LossdError) -> str:
    """Returns gRPC's reason as a reader has it: brackets of an address are escaped there."""
    return unquote(_BEFORE.sub("", error.message, count=1))


class Seldom:
    """Says yes once in a while; may be shared by threads and by tasks."""

    def __init__(self) -> None:
        self._last: float | None = None
        self._lock = threading.Lock()

    def is_due(self, now: float) -> bool:
        """Returns whether it is a while since it said yes, which it does then."""
        with self._lock:
            if self._last is not None and now - self._last < _SELDOM:
                return False
            self._last = now
            return True
