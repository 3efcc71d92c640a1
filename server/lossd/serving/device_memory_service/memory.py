"""Device memory that clients share with the server: allocated here, each part for one client.

It lives as long as a segment of shared memory that the client attached before, its lease: that goes
when the client detaches it or is killed, and the device memory goes with it.  A random token
identifies it, which no other client knows or can guess.

Memory that was released stays for the calls that use it: their arrays hold it.
"""

import contextlib
import logging
import secrets
import threading
from dataclasses import dataclass

from lossd.backends import Exported, Exports, whole_pages
from lossd.errors import InvalidRequest, SegmentNotFound, TooLarge
from lossd.serving.shared_memory_service.segments import TOKEN_BYTES, SharedMemory

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DeviceSegment:
    """Memory of a device that one client has, as long as its lease.

    ``owner`` is who it counts for, ``caller`` the name of who may use it.
    """

    exported: Exported
    lease: bytes
    owner: str
    caller: str


class DeviceMemory:
    """The device memory of all clients; may be used from many threads.

    ``owned_bytes`` are those that one client may have, unless it has a quota of its own.

    Attributes:
        max_bytes: Bytes that all clients may have together.
    """

    def __init__(
        self, exports: Exports, shared: SharedMemory, *, max_bytes: int, owned_bytes: int
    ) -> None:
        self.exports = exports
        self.max_bytes = max_bytes
        self._shared = shared
        self._max_owned = owned_bytes
        self._segments: dict[bytes, DeviceSegment] = {}
        self._lock = threading.Lock()
        shared.watch(self._free_all_of)

    @property
    def size(self) -> int:
        """The bytes of all clients."""
        return sum(segment.exported.size for segment in list(self._segments.values()))

    def allocate(
        self,
        size: int,
        device_uuid: bytes,
        lease: bytes,
        caller: str = "",
        *,
        owned_bytes: int | None = None,
    ) -> tuple[bytes, Exported]:
        """Returns the token of new memory, and the memory.

        ``owned_bytes`` is the caller's own quota, None for that of everybody.

        Raises:
            InvalidRequest: for an invalid size or device.
            SegmentNotFound: if the lease is none of the caller's segments.
            TooLarge: if there would be too many bytes.
            DeviceFull: if the device does not have enough.
            DeviceLost: if it does not answer any more.
        """
        if not 0 < size <= self.max_bytes:
            raise InvalidRequest(f"size must be in [1, {self.max_bytes}], got {size}", field="size")
        if device_uuid not in self.exports.uuids:
            raise InvalidRequest(
                f"device_uuid must be of a device of the server, got {device_uuid[:16].hex()!r}",
                field="device_uuid",
            )
        owner = self._shared.find(lease, "lease").owner
        if caller and owner != caller:
            raise _unknown("lease")
        with self._lock:
            self._check_room(whole_pages(size), owner, owned_bytes or self._max_owned)
            made = self.exports.allocate(size, device_uuid)
            token = secrets.token_bytes(TOKEN_BYTES)
            self._segments[token] = DeviceSegment(made, lease, owner, caller)
        try:
            self._shared.find(lease, "lease")
        except SegmentNotFound:  # it went meanwhile
            self._free_all_of(lease)
            raise
        return token, made

    def release(self, token: bytes, caller: str = "") -> None:
        """Frees memory; calls that use it go on.

        Raises:
            SegmentNotFound: if the caller has none of that token.
        """
        self.find(token, caller)
        self._segments.pop(token, None)

    def find(self, token: bytes, caller: str = "", field: str = "segment") -> DeviceSegment:
        """Returns the memory of a token; errors give the field that has it.

        Raises:
            SegmentNotFound: if the caller has none of that token.
        """
        segment = self._segments.get(token)
        if segment is None or segment.caller != caller:
            raise _unknown(field)
        return segment

    def close(self) -> None:
        """Frees everything."""
        self._segments.clear()

    def _free_all_of(self, lease: bytes) -> None:
        """Frees the memory of a lease that has ended."""
        for token, segment in list(self._segments.items()):
            if segment.lease == lease:
                with contextlib.suppress(KeyError):
                    del self._segments[token]
                    log.info("lease is over", extra={"device_bytes": segment.exported.size})

    def _check_room(self, size: int, owner: str, max_owned: int) -> None:
        owned = [s.exported.size for s in self._segments.values() if s.owner == owner]
        for thing, limit, wanted in (
            ("bytes of device memory", self.max_bytes, self.size + size),
            ("bytes of device memory of one client", max_owned, sum(owned) + size),
        ):
            if wanted > limit:
                raise TooLarge(
                    f"{thing} must be at most {limit}, got {wanted}",
                    reason="DEVICE_MEMORY_FULL",
                    details={"limit": limit, "wanted": wanted},
                )


def _unknown(field: str) -> SegmentNotFound:
    return SegmentNotFound("device memory must be the caller's, got a token of none", field=field)
