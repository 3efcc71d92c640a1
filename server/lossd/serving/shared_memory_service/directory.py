"""The directory that a server and its clients share files in.

Clients know it by a file in it, the beacon: a client that finds that at the path that the server
names has the same directory there.
"""

import contextlib
import fcntl
import logging
import os
import re
import secrets
import weakref

log = logging.getLogger(__name__)

BEACON_PREFIX = "lossd-beacon-"
# The names of the files that the bundled client and the server make.  Any other file belongs to
# somebody who may want it.
OURS = re.compile(rf"lossd-[0-9a-f]{{32}}|{BEACON_PREFIX}[0-9a-f]{{16}}")
_BEACON_BYTES = 32


class SharedDirectory:
    """The directory that is at a path now, and a beacon of its own in it.

    Both stay open until nobody has this any more.  The beacon's lock shows that its server lives.

    Attributes:
        descriptor: The directory, whatever happens to its path.
        beacon: The name of the beacon.
        content: What the beacon holds.

    Raises:
        OSError: if it is none, or cannot be written to.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        opened = contextlib.ExitStack()
        self._let_go = weakref.finalize(self, opened.close)
        self.descriptor = os.open(path, os.O_DIRECTORY | os.O_CLOEXEC)
        opened.callback(os.close, self.descriptor)
        self.beacon = f"{BEACON_PREFIX}{secrets.token_hex(8)}"
        self.content = secrets.token_bytes(_BEACON_BYTES)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._lit = os.open(self.beacon, flags, 0o600, dir_fd=self.descriptor)
        opened.callback(os.close, self._lit)
        try:
            fcntl.lockf(self._lit, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.write(self._lit, self.content)
        except OSError:
            self.put_out()
            raise

    def is_in_place(self) -> bool:
        """Returns whether the beacon is still found by the path."""
        try:
            found = os.lstat(os.path.join(self._path, self.beacon))  # noqa: PTH118 - both are text
        except OSError:
            return False
        return os.path.samestat(found, os.fstat(self._lit))

    def put_out(self) -> None:
        """Removes the beacon, if the directory may still be written to."""
        try:
            os.unlink(self.beacon, dir_fd=self.descriptor)
        except FileNotFoundError:
            pass
        except OSError as error:
            log.warning("beacon could not be removed", extra={"because": error.strerror})

    def close(self) -> None:
        """Removes the beacon, and closes both."""
        self.put_out()
        self._let_go()
