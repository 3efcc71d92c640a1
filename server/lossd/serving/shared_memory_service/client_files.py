"""Files that clients make to share them: which may be shared, and who holds their locks.

A client keeps a lock on its file for as long as it lives.
"""

import fcntl
import os
import re
import stat
import struct

from lossd.errors import InvalidRequest, SegmentNotFound, SegmentRefused, ServiceError, TooLarge
from lossd.serving.rounds import is_want
from lossd.serving.shared_memory_service.directory import BEACON_PREFIX, SharedDirectory

OPEN = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # never wait for a FIFO
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_FLOCK = "hhqqi4x"  # the kernel's, on 64-bit Linux: type, whence, start, length, process


def opened(name: str, place: SharedDirectory) -> int:
    """Opens the file of a name, and returns its descriptor.

    Raises:
        InvalidRequest: for an invalid name.
        SegmentNotFound: if there is no such file.
        SegmentRefused: if it may not be shared.
        TooLarge: if the server has no room for it.
    """
    if not _NAME.fullmatch(name):
        raise InvalidRequest(
            f"name must be 1 to 64 letters, digits, _ or -, got {len(name)} characters",
            field="name",
        )
    if name.startswith(BEACON_PREFIX):
        raise SegmentRefused("file must be the client's, got a beacon", field="name")
    try:
        return os.open(name, OPEN, dir_fd=place.descriptor)
    except FileNotFoundError as error:
        raise SegmentNotFound(
            "file must be in the directory, got none of that name", field="name"
        ) from error
    except OSError as error:  # a link, a directory, a socket, or somebody else's
        raise refusal("a plain one", error) from error


def check(descriptor: int, size: int) -> None:
    """Checks that a file may become a segment of a size.

    Raises:
        InvalidRequest: for an invalid size, or a file that nobody locks.
        SegmentRefused: if it may not be shared.
        OSError: if the system does not tell.
    """
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        raise SegmentRefused("file must be a plain one, got another kind", field="name")
    if found.st_nlink != 1:
        raise SegmentRefused(f"file must have a single name, got {found.st_nlink}", field="name")
    if found.st_uid != os.geteuid():
        raise SegmentRefused("file must belong to the server's user, got another's", field="name")
    if not 0 < size <= found.st_size:
        raise InvalidRequest(
            f"size must be in [1, {found.st_size}], the size of the file, got {size}",
            field="size",
        )
    if not is_locked(descriptor):
        raise InvalidRequest("file must be locked by its client, got one that is not", field="name")


def is_locked(descriptor: int) -> bool:
    """Returns whether another process holds the lock of a file."""
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    fcntl.lockf(descriptor, fcntl.LOCK_UN)
    return False


def holder(descriptor: int) -> int:
    """Returns the process that holds the lock of a file; 0 where it cannot be seen from here."""
    asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    answer = fcntl.fcntl(descriptor, fcntl.F_GETLK, asked)
    return int(struct.unpack(_FLOCK, answer)[-1])


def refusal(what: str, error: OSError | ValueError) -> ServiceError:
    """Returns the error for a file that cannot be taken, for its own fault or the server's."""
    got = getattr(error, "strerror", None) or str(error)
    if is_want(error):
        return TooLarge(f"server must have room for a file, got: {got}", reason="SEGMENTS_FULL")
    return SegmentRefused(f"file must be {what}, got {got}", field="name")
