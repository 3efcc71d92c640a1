"""Values that are made from files, and made anew when the files change.

Contents are compared and not times: a secret that Kubernetes mounts changes by a link.  What cannot
be used, for whatever reason, is counted and logged once, and what was made before stays, so that a
file that is half written, or a key that does not fit its certificate yet, does no harm.
"""

import hashlib
import logging
import os
import stat
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from lossd.serving.access.tokens import AccessError
from lossd.serving.rounds import Rounds, is_want

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
        # What a command writes into a pipe can be read once, and never changes.
        self._is_written_once = not all(map(_is_regular, paths))
        contents = self._read(_first_contents)
        self._value = make(*contents)
        self._seen = _digest(contents)
        self._refused: bytes | None = None  # what cannot be used and was reported

    @property
    def value(self) -> T:
        """The newest that could be made."""
        return self._value

    def is_unusable(self) -> bool:
        """Returns whether what the files hold now cannot be used."""
        return self._refused is not None

    def look(self) -> None:
        """Looks whether the files have changed.

        Raises:
            OSError: if the process lacks a descriptor or memory, which says nothing of them.
            MemoryError: for the same.
        """
        if self._is_written_once and not all(map(_is_regular, self._paths)):
            return
        found = b""  # of files that cannot be read
        try:
            contents = self._read(_contents)
            found = _digest(contents)
            if found != self._seen:
                _check_written(contents)
                self._value = self._make(*contents)
                self._seen = found
                log.info("reloaded", extra={"file": self._what})
        except Exception as error:  # noqa: BLE001 - whatever it is, the last one stays
            _let_pass_want(error)
            if found != self._refused:
                self._report(str(error) or repr(error))
            self._refused = found
        else:
            self._refused = None

    def _read(self, contents: Callable[[str], bytes]) -> list[bytes]:
        try:
            return [contents(path) for path in self._paths]
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


def _let_pass_want(error: Exception) -> None:
    """Raises what the process lacks, if that is what an error is about."""
    for each in (error, error.__cause__):
        if each is not None and is_want(each):
            raise each from None


def _first_contents(path: str) -> bytes:
    """Returns what a file holds, or what a pipe gives: a shell may make one of a command."""
    return Path(path).read_bytes()


def _is_regular(path: str) -> bool:
    """Returns whether a path is that of a file that can be read again."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)  # noqa: PTH116 - as cheap as can be
    except OSError:
        return False


def _contents(path: str) -> bytes:
    """Returns what a file holds; waits for nobody, as for the writer of a pipe.

    Raises:
        AccessError: if it is anything else, which may have no end.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise AccessError(f"files must be regular ones to be read again, got {path}")
        return file.read()


def _check_written(contents: Iterable[bytes]) -> None:
    """Raises AccessError for a file with nothing in it: whoever writes it has only begun."""
    if not all(content.strip() for content in contents):
        raise AccessError("files must hold something to be read again, got an empty one")


def _digest(contents: Sequence[bytes]) -> bytes:
    return hashlib.sha256(b"".join(hashlib.sha256(one).digest() for one in contents)).digest()


class Reloader:
    """Has each look at its files, again and again, on a thread of its own."""

    def __init__(self, reloaded: Iterable[Reloaded[Any]]) -> None:
        self._reloaded = tuple(reloaded)
        self._rounds = Rounds("lossd-reload", self._look, EVERY_SECONDS) if self._reloaded else None

    def close(self) -> None:
        """Looks no more."""
        if self._rounds is not None:
            self._rounds.close()

    def _look(self) -> None:
        for one in self._reloaded:
            one.look()
