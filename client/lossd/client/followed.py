"""Files that are followed for as long as they are used: read again whenever they have changed.

Files are rotated while a client calls.  One may be missing for a moment, be half written, or be
newer than another that it belongs to; then what was read last stays, as it does in a server.
"""

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from lossd.client.errors import InvalidRequestError, UnavailableError

log = logging.getLogger("lossd.client")

Content = TypeVar("Content")
# The inode of a file, when it was written, and its size; None where there is none.
_Stamp = tuple[int, int, int] | None


class Followed(Generic[Content]):
    """Files that belong together, and what they hold; may be shared by threads.

    Args:
        what: What the log calls it.
        paths: The files.
        read: Reads them all; raises ``InvalidRequestError`` where that cannot be used.
    """

    def __init__(self, what: str, paths: Sequence[str | Path], read: Callable[[], Content]) -> None:
        self._what = what
        self._paths = paths
        self._read = read
        self._last: tuple[tuple[_Stamp, ...], Content] | None = None
        self._is_told = False

    def first(self) -> Content:
        """Returns what the files hold, or held when they could last be used.

        Raises:
            InvalidRequestError: if they never could.
        """
        seen = self._seen()
        last = self._last
        if last is not None and last[0] == seen:
            return last[1]
        try:
            content = self._whole(seen)
        except InvalidRequestError as error:
            if last is None:
                raise
            self._tell(error)
            return last[1]
        self._last = seen, content
        self._is_told = False
        return content

    def current(self) -> Content:
        """Returns what ``first`` does, for a call, which is repeated where nothing can be used.

        Raises:
            UnavailableError: if nothing ever could.
        """
        try:
            return self.first()
        except InvalidRequestError as error:
            raise UnavailableError(error.message, field=error.field) from error

    def _whole(self, seen: tuple[_Stamp, ...]) -> Content:
        content = self._read()
        if self._seen() != seen:  # it may be half of one and half of another
            raise InvalidRequestError(f"{self._what} must stay while it is read, got a change")
        return content

    def _seen(self) -> tuple[_Stamp, ...]:
        return tuple(map(_stamp, self._paths))

    def _tell(self, error: InvalidRequestError) -> None:
        """Warns of files that cannot be used, once until they can."""
        if not self._is_told:
            self._is_told = True
            log.warning("%s stays what it was: %s", self._what, error.message)


def _stamp(path: str | Path) -> _Stamp:
    try:
        status = os.stat(path)  # noqa: PTH116 - for each call, and pathlib takes thrice as long
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
