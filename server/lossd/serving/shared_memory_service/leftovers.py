"""Files that were left behind in the directory, by clients and servers that were killed."""

import logging
import os
import stat
import time

from lossd.serving.shared_memory_service import client_files
from lossd.serving.shared_memory_service.directory import OURS, SharedDirectory

log = logging.getLogger(__name__)

# A file without a lock by then belongs to a client that was killed before it attached it.
STALE_SECONDS = 30.0


class Leftovers:
    """Removes them, and tells once of each that cannot be removed."""

    def __init__(self) -> None:
        self._kept: set[str] = set()  # that should be removed, and cannot be

    def sweep(self, place: SharedDirectory) -> None:
        """Removes what was left behind in a directory before it was attached."""
        names = os.listdir(place.descriptor)  # noqa: PTH208 - pathlib takes no descriptor
        self._kept &= set(names)
        for name in names:
            if OURS.fullmatch(name) and name != place.beacon:
                self._remove(name, place)

    def _remove(self, name: str, place: SharedDirectory) -> None:
        """Removes a file if it was left behind."""
        try:
            descriptor = os.open(name, client_files.OPEN, dir_fd=place.descriptor)
        except OSError:
            return
        try:
            found = os.fstat(descriptor)
            is_ours = stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid()
            is_old = time.time() - found.st_mtime > STALE_SECONDS
            if is_ours and is_old and not client_files.is_locked(descriptor):
                os.unlink(name, dir_fd=place.descriptor)
        except OSError as error:
            if name not in self._kept:  # one line, however long it lasts
                facts = {"file": name, "because": error.strerror}
                log.warning("file left behind could not be removed", extra=facts)
            self._kept.add(name)
        finally:
            os.close(descriptor)
