"""Segments of memory that clients share with the server: files in a directory that both can reach.

A client makes a file, keeps a lock on it for as long as it lives, and attaches it by name.  The
server checks it, maps it and removes the name, so that the memory is freed when both have closed
it. From then on a random token identifies it, which no other client knows or can guess.

A segment that was detached stays mapped for the calls that use it: their arrays hold the mapping.
"""

import contextlib
import logging
import os
import secrets
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from lossd.errors import SegmentNotFound, ServiceError, TooLarge
from lossd.serving.rounds import Rounds
from lossd.serving.shared_memory_service import client_files
from lossd.serving.shared_memory_service.directory import SharedDirectory
from lossd.serving.shared_memory_service.leftovers import Leftovers
from lossd.serving.shared_memory_service.sigbus import Bytes, Mapping, TruncationGuard

log = logging.getLogger(__name__)

TOKEN_BYTES = 16
REAP_SECONDS = 1.0

Pin = Callable[[Bytes], Callable[[], None]]


class DirectoryError(ServiceError):
    """The directory cannot be used."""

    reason = "SHM_DIR"


@dataclass(frozen=True, slots=True)
class AttachedSegment:
    """A file that is shared; ``descriptor`` tells whether its client, the owner, still lives."""

    descriptor: int
    mapping: Mapping
    owner: str

    @property
    def size(self) -> int:
        """Bytes."""
        return self.mapping.size


class SharedMemory:
    """The segments of one server, of which a client may have some; may be used from many threads.

    ``pin`` prepares the memory of a segment for fast copies, and returns what undoes that; it is
    undone when nothing uses the memory any more.

    Attributes:
        place: The directory that is at the path.
        is_offered: Whether there is one, in which memory can be shared.

    Raises:
        DirectoryError: if the directory cannot be written to.
    """

    def __init__(
        self,
        directory: str,
        *,
        segments: int,
        segment_bytes: int,
        owned_segments: int | None = None,
        pin: Pin = lambda _: lambda: None,
    ) -> None:
        self._pin = pin
        self.directory = os.path.abspath(directory)  # noqa: PTH100 - the path is sent as text
        self.max_segments = segments
        self.max_bytes = segment_bytes
        self._max_owned = owned_segments or segments
        self._segments: dict[bytes, AttachedSegment] = {}
        self._watchers: list[Callable[[bytes], None]] = []
        self._lock = threading.Lock()
        self._leftovers = Leftovers()
        try:
            self.place = SharedDirectory(self.directory)
        except OSError as error:
            raise DirectoryError(
                f"shm_dir must be a directory that can be written to, got {directory}: "
                f"{error.strerror}"
            ) from error
        self.is_offered = True
        self._guard = TruncationGuard()
        self._reaper = Rounds("lossd-reaper", self.reap, REAP_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes everything."""
        self._reaper.close()
        self._reaper.join()
        for token in list(self._segments):
            self._drop(token)
        self.place.close()
        self._guard.close()

    @property
    def segments(self) -> int:
        """The number of segments."""
        return len(self._segments)

    @property
    def segment_bytes(self) -> int:
        """The bytes of all segments."""
        return sum(segment.size for segment in list(self._segments.values()))

    def attach(
        self, name: str, size: int, owner: str = "", owned_segments: int | None = None
    ) -> bytes:
        """Takes a file as a segment, removes its name and returns the token.

        It counts among the segments of the owner, or of the process that has the file where nobody
        knows a name; ``owned_segments`` is how many these may be, if it is not as for all.

        Raises:
            InvalidRequest: for an invalid name or size.
            SegmentNotFound: if there is no such file.
            SegmentRefused: if it may not be shared.
            TooLarge: if there are too many segments or bytes.
        """
        place = self.place  # another thread may find that it is another
        descriptor = client_files.opened(name, place)
        with contextlib.ExitStack() as undo:
            undo.callback(os.close, descriptor)
            try:
                client_files.check(descriptor, size)
                owner = owner or f"process {client_files.holder(descriptor)}"
                with self._lock:
                    self._check_room(size)
                    self._check_share(owner, owned_segments or self._max_owned)
                    mapping = self._guard.map(descriptor, size)
                    os.unlink(name, dir_fd=place.descriptor)  # last: it can be tried again
                    token = secrets.token_bytes(TOKEN_BYTES)
                    self._segments[token] = AttachedSegment(descriptor, mapping, owner)
            except (OSError, ValueError) as error:  # its name went meanwhile, or it was shrunk
                raise client_files.refusal("mapped", error) from error
            undo.pop_all()
        # Without the lock: it touches every page.
        weakref.finalize(mapping, self._pin(mapping.bytes)).atexit = False
        return token

    def detach(self, token: bytes) -> None:
        """Detaches a segment; calls that use it go on.

        Raises:
            SegmentNotFound: if there is none.
        """
        if not self._drop(token):
            raise _unknown("segment")

    def find(self, token: bytes, field: str = "segment") -> AttachedSegment:
        """Returns the segment of a token; errors give the field that has it.

        Raises:
            SegmentNotFound: if there is none.
        """
        segment = self._segments.get(token)
        if segment is not None and segment.mapping.is_broken:
            self._drop(token)
            segment = None
        if segment is None:
            raise _unknown(field)
        return segment

    def watch(self, dropped: Callable[[bytes], None]) -> None:
        """Has a function called with the token of each segment that goes, whyever it does."""
        self._watchers.append(dropped)

    def _drop(self, token: bytes) -> bool:
        with self._lock:
            segment = self._segments.pop(token, None)
        if segment is None:
            return False
        os.close(segment.descriptor)
        for dropped in self._watchers:
            dropped(token)
        return True

    def _check_room(self, size: int) -> None:
        for thing, limit, wanted in (
            ("segments", self.max_segments, self.segments + 1),
            ("bytes of segments", self.max_bytes, self.segment_bytes + size),
        ):
            if wanted > limit:
                raise TooLarge(
                    f"{thing} must be at most {limit}, got {wanted}",
                    reason="SEGMENTS_FULL",
                    details={"limit": limit, "wanted": wanted},
                )

    def _check_share(self, owner: str, limit: int) -> None:
        wanted = 1 + sum(segment.owner == owner for segment in self._segments.values())
        if wanted > limit:
            raise TooLarge(
                f"segments of one client must be at most {limit}, got {wanted}",
                reason="SEGMENTS_FULL",
                details={"limit": limit, "wanted": wanted},
            )

    def reap(self) -> None:
        """Removes segments and files that belong to no client any more."""
        for token, segment in list(self._segments.items()):
            if not client_files.is_locked(segment.descriptor) and self._drop(token):
                log.info("segment was let go: nobody locks it", extra={"bytes": segment.size})
        self._look_for_directory()
        if self.is_offered:
            self._leftovers.sweep(self.place)

    def _look_for_directory(self) -> None:
        """Goes on in the directory that is at the path now, where it or the beacon is another."""
        if not self.place.is_in_place():
            try:
                place = SharedDirectory(self.directory)
            except OSError as error:
                if self.is_offered:  # one line, however long it lasts
                    log.warning("no more memory is shared", extra={"because": str(error)})
                self.is_offered = False
                return
            self.place.put_out()
            self.place = place
            log.warning("beacon was gone, and is there again", extra={"beacon": place.beacon})
        self.is_offered = True


def _unknown(field: str) -> SegmentNotFound:
    return SegmentNotFound("segment must be attached, got a token of none", field=field)
