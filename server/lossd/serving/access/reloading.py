"""Values that are made from files, and made anew when the files change.

Contents are compared and not times: a secret that Kubernetes mounts changes by a link.  What cannot
be used is counted and logged once, and what was made before stays, so that a file that is half
written, or a key that does not fit its certificate yet, does no harm.
"""

import hashlib
import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from lossd.errors import ServiceError
from lossd.serving.access.tokens import AccessError

log = logging.getLogger(__name__)

T = TypeVar("T")

EVERY_SECONDS = 1.0


class Reloaded(Generic[T]):
    """The value that ``make`` returns for files; ``failed`` is told what cannot be used.

    Raises:
        AccessError: if they cannot be used to begin with.
    """

    def __init__(
        self,
        what: str,
        paths: Sequence[str],
        make: Callable[..., T],
        failed: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._what = what
        self._paths = paths
        self._make = make
        self._failed = failed
        contents = self._read()
        self._value = make(*contents)
        self._seen = _digest(contents)

    @property
    def value(self) -> T:
        """The newest that could be made."""
        return self._value

    def look(self) -> None:
        """Looks whether the files have changed."""
        try:
            contents = self._read()
            seen = _digest(contents)
            if seen == self._seen:
                return
            self._seen = seen
            self._value = self._make(*contents)
        except ServiceError as error:
            self._report(str(error))
        else:
            log.info("reloaded", extra={"file": self._what})

    def _read(self) -> list[bytes]:
        try:
            return [Path(path).read_bytes() for path in self._paths]
        except OSError as error:
            raise AccessError(
                f"{self._what} must be files that can be read, got {error.filename}: "
                f"{error.strerror}"
            ) from error

    def _report(self, because: str) -> None:
        self._failed(self._what)
        log.error(
            "not reloaded, the last one stays", extra={"file": self._what, "because": because}
        )


def _digest(contents: Sequence[bytes]) -> bytes:
    return hashlib.sha256(b"".join(hashlib.sha256(one).digest() for one in contents)).digest()


class Reloader:
    """Has each look at its files, again and again, on a thread of its own."""

    def __init__(self, reloaded: Iterable[Reloaded[Any]], every: float = EVERY_SECONDS) -> None:
        self._reloaded = tuple(reloaded)
        self._every = every
        self._closed = threading.Event()
        if self._reloaded:
            threading.Thread(target=self._run, name="lossd-reload", daemon=True).start()

    def close(self) -> None:
        """Looks no more."""
        self._closed.set()

    def _run(self) -> None:
        while not self._closed.wait(self._every):
            for one in self._reloaded:
                one.look()
