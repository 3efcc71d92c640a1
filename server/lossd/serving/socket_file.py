"""The file of a Unix socket: put at its path as a whole, watched there, and removed at the end.

gRPC takes away what is at the path that it was given, whosever that is by then.  So it is given a
path beside it, which is nobody else's, and the socket is moved from there.
"""

import contextlib
import os
import secrets
import urllib.parse
from collections.abc import Callable
from pathlib import Path

from lossd.serving import addresses, free_addresses
from lossd.serving.rounds import Rounds

LOOKING_SECONDS = 1.0


class SocketFile:
    """The socket that ``bind`` makes at the address that it is given, at a path.

    ``mode`` says who may connect; None for what the umask leaves.

    Raises:
        OSError: if it cannot be put there, or what ``bind`` raises.
    """

    def __init__(self, path: str, bind: Callable[[str], object], mode: int | None = None) -> None:
        self.path = path
        self._watch: Rounds | None = None
        made = _beside(path)
        bind(address_of(made))
        try:
            if mode is not None:
                os.chmod(made, mode)  # noqa: PTH101 - a path of bytes that are no text is one too
            self._own = os.lstat(made)
            os.rename(made, path)  # noqa: PTH104 - the same
        except OSError:
            _remove(made)
            raise

    def is_in_place(self) -> bool:
        """Returns whether it is still what is found at the path."""
        try:
            return os.path.samestat(os.lstat(self.path), self._own)
        except (FileNotFoundError, NotADirectoryError):
            return False

    def watch(self, gone: Callable[[], object]) -> None:
        """Has a function called once it is in its place no more."""

        def look() -> None:
            if not self.is_in_place():
                gone()

        self._watch = Rounds("lossd-socket", look, LOOKING_SECONDS)

    def close(self) -> None:
        """Removes it, unless another's is in its place."""
        if self._watch is not None:
            self._watch.close()
        with contextlib.suppress(OSError), free_addresses.alone_in(Path(self.path).parent):
            if self.is_in_place():
                _remove(self.path)


def address_of(path: str) -> str:
    """Returns the address of a socket for gRPC, which takes what follows two slashes for a host."""
    if path.startswith("//"):
        path = f"/{path.lstrip('/')}"
    return f"unix:{urllib.parse.quote(os.fsencode(path))}"


def _beside(path: str) -> str:
    """Returns a path in the same directory that is nobody's; the same if none is short enough."""
    made = os.path.join(os.path.dirname(path), f".{secrets.token_hex(4)}")  # noqa: PTH118, PTH120
    return made if len(os.fsencode(made)) <= addresses.PATH_BYTES else path


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # noqa: PTH108 - as above
