"""The beacon: a file that a server has put into its directory; whoever finds it shares that."""

import errno
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

from lossd import v1

# What a process, or the system, may have too little of for a while.
_LACKING = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM))

_BEACON = re.compile(r"[A-Za-z0-9_-]{1,64}")


def is_seen(offer: v1.SharedMemoryOffer) -> bool:
    """Returns whether this process finds the same beacon as the server.

    Raises:
        OSError: if it cannot look now.
    """
    if not _BEACON.fullmatch(offer.beacon):
        return False
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        with open(Path(offer.directory) / offer.beacon, "rb", opener=_opener(flags)) as beacon:
            found = os.fstat(beacon.fileno())
            is_ours = stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid()
            return is_ours and beacon.read(1024) == offer.beacon_content
    except OSError as error:
        if is_for_lack(error):
            raise
        return False


def is_for_lack(error: Exception) -> bool:
    """Returns whether there was too little of something, such as files that may be open."""
    return isinstance(error, OSError) and error.errno in _LACKING


def _opener(flags: int) -> Callable[[str, int], int]:
    return lambda path, _: os.open(path, flags)
