"""Tensors in memory that the client shares with a server on its host.

The first batch that is large enough finds out whether that is possible: the server names a
directory and a file in it, the beacon, and a client that finds the same file shares the directory.
Whatever goes wrong, the batch is sent in the message instead, unnoticed by the caller.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from google.protobuf.message import Message

from lossd import v1
from lossd.client.arrays import Array, is_several, likely_bytes
from lossd.client.beacon import is_for_lack, is_seen
from lossd.client.call import (
    ATTACH_SEGMENT,
    DETACH_SEGMENT,
    GET_SERVER_INFO,
    LIST_LOSSES,
    Method,
)
from lossd.client.copying import Copier
from lossd.client.device import DeviceSharing
from lossd.client.device_arrays import is_on_device
from lossd.client.empties import Empties, is_shareable
from lossd.client.errors import (
    CancelledError,
    LossdError,
    PermissionDeniedError,
    UnavailableError,
)
from lossd.client.rest import Rest
from lossd.client.retry import may_answer_later
from lossd.client.segments import Arena, Block, Segment
from lossd.client.waiting import NEVER, held, seconds, was_hurried

log = logging.getLogger("lossd.client")

Ask = Callable[[Method[Any], Message, float], Any]

# Below this size the message is about as fast.
WORTHWHILE_BYTES = 1 << 16
# How long to do without it after something went wrong, and after the server could not be reached:
# the call itself waits for a server that is about to start, and the next one finds it there.
REST_SECONDS, UNREACHED_SECONDS = 1.0, 0.05
# How long a segment is kept that no call takes a block of.
IDLE_SECONDS = 10.0
# How long a call besides that of the batch may take.
ASK_SECONDS = 2.0


class Sharing:
    """The memory that one process shares with its server; may be used from many threads.

    ``ask`` calls a method once, with a message and a timeout. Some methods may ask, or wait for
    another thread that does, and must not be called where waiting is forbidden: ``block`` and
    ``empty``, ``let_idle_go``, ``reset``, ``close``, and a lease's ``request`` and ``is_lost``.

    Attributes:
        copier: Copies arrays there.
        device: The memory of a GPU that they share, under a segment as its lease.
    """

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._arena = Arena()
        self._lock = threading.Lock()
        self._directory: Path | None = None
        self._rest = Rest()
        self._lacks = False  # and has said so
        self._differentiable: dict[str, set[str]] = {}
        self._looked = time.monotonic()  # for what is idle
        self._empties = Empties()
        self.copier = Copier()
        self.device = DeviceSharing(ask, self._own_segment)

    def is_worthwhile(self, inputs: Iterable[Any]) -> bool:
        """Returns whether an input is large enough to share, and memory may be available.

        One that is on a device always is, be it one of a list.
        """
        inputs = list(inputs)
        if any(map(_has_any_on_device, inputs)):
            return True
        if self._rest.is_on and self._arena.is_empty:
            return False
        return any(likely_bytes(given) >= WORTHWHILE_BYTES for given in inputs)

    def beside_server(self, make: Callable[..., Any], wanted: Array, until: float = NEVER) -> Any:
        """Returns what ``empty`` or ``device_empty`` makes of an array, beside a server.

        Raises:
            UnavailableError: if there is none that answers, or it is too busy to.
        """
        self._rest.end_unanswered()
        self.device.end_rest()
        made = make(wanted, until=until)
        if made is wanted and is_shareable(wanted) and not self._rest.is_answered:
            raise UnavailableError("server must answer to share memory, got none that had time")
        return made

    def lose_server(self) -> None:
        """Asks another one, since that which answered that it shares no memory is gone."""
        self._rest.end_answered()
        self.device.lose_server()

    def empty(self, wanted: Array, *, until: float = NEVER) -> Array:
        """Returns an array as wanted, not filled, in shared memory if there is some in time."""
        block = self.block(wanted.nbytes, until) if is_shareable(wanted) else None
        if block is None:
            return wanted
        self._empties.add(block)
        return block.array(wanted.shape, wanted.dtype)

    def device_empty(
        self, wanted: Array, device: int | None = None, *, until: float = NEVER
    ) -> Any:
        """Returns an array, not filled, in device memory if there is some, else as ``empty``."""
        found = self.device.empty(wanted.shape, wanted.dtype, device, until)
        return self.empty(wanted, until=until) if found is None else found

    def block(self, size: int, until: float = NEVER) -> Block | None:
        """Returns a block of shared memory; None where there is none, or not in time."""
        return self._arena.take(size) or self._block_of_new_segment(size, until)

    def locate(self, array: Array) -> tuple[Segment, int] | None:
        """Returns the segment that an array lies in, and its offset; None for ordinary memory."""
        return self._arena.locate(array)

    def gradients(self, loss: str) -> set[str]:
        """Returns the inputs whose gradients a loss returns by default."""
        return self._differentiable.get(loss, set())

    def retire(self, segment: Segment) -> None:
        """Uses a segment no more: a call that was given up may still write to it.

        It is detached when another one is made, so that giving up never waits, but not before the
        last block of it came back: other calls may have their inputs there.
        """
        self._arena.retire(segment)
        self._empties.warn_of_copies([segment], "a call was given up")

    def let_idle_go(self, until: float = NEVER) -> None:
        """Lets go, once in a while, what has not been used for long: others may want that memory.

        A call that takes some comes before, so that slow loops keep theirs.
        """
        now = time.monotonic()
        if now - self._looked < IDLE_SECONDS:
            return
        with held(self._lock, now) as is_held:
            if is_held:
                self._looked = now
                self._let_go(self._arena.remove_unused(now - IDLE_SECONDS), until)

    def is_left(self, token: bytes) -> bool:
        """Returns whether a segment was retired, or forgotten with its server."""
        return not self._arena.has(token)

    def reset(self, until: float = NEVER) -> None:
        """Starts over, after a rest, since the server has changed.

        Where another call sets up memory for too long, the next one finds the change too.
        """
        with held(self._lock, until) as is_held:
            if is_held:
                self._directory = None
                self._rest.begin(REST_SECONDS, is_answered=False)
                self._empties.warn_of_copies(self._arena.remove_all(), "the server was lost")
        self.device.reset(until)

    def close(self) -> None:
        """Detaches and closes everything."""
        self.device.close()
        with self._lock:
            self._rest.begin_for_good()
        self.copier.close()
        self._let_go(self._arena.remove_all())

    def _block_of_new_segment(self, size: int, until: float) -> Block | None:
        with held(self._lock, until) as is_held:
            if not is_held:
                return None
            block = self._arena.take(size)  # another thread may have made room meanwhile
            if block is not None or self._rest.is_on:
                return block
            begun = time.monotonic()
            self._let_go(self._arena.remove_unused(), until)
            try:
                segment = self._new_segment(size, until)
            except (LossdError, OSError) as error:  # no server, no room, no permission
                self._rest_after(error, begun, until)
                return None
            if segment is None:
                return None
            block = segment.take(size)
            self._arena.add(segment)
            self._lacks = False
            return block

    def _rest_after(self, error: Exception, begun: float, until: float) -> None:
        """Does without memory for a while; a call that left it no time shows no fault of it.

        Nor does one that was given up amid it.
        """
        if isinstance(error, PermissionDeniedError):  # nor will there be any a moment later
            self._rest.begin_refused()
        elif isinstance(error, CancelledError) or was_hurried(begun, until):
            return
        elif isinstance(error, UnavailableError):
            self._rest.begin(UNREACHED_SECONDS, is_answered=False)
        else:
            self._rest.begin(REST_SECONDS, is_answered=not may_answer_later(error))
        if is_for_lack(error) and not self._lacks:
            self._lacks = True
            log.warning("memory is not shared for as long as this lasts: %s", error)

    def _own_segment(self, until: float) -> Segment | None:
        """Returns a segment that nothing is put into; None where there is none."""
        with held(self._lock, until) as is_held:
            return self._new_segment(1, until) if is_held else None

    def _new_segment(self, size: int, until: float) -> Segment | None:
        """Returns a segment that the server has attached; None where it shares no memory."""
        directory = self._directory or self._discovered(until)
        if directory is None:
            return None
        try:
            segment = Segment(directory, size)
            self._attach(segment, until)
        except (LossdError, OSError):  # the server may be another by now, with another directory
            self._directory = None
            raise
        return segment

    def _discovered(self, until: float) -> Path | None:
        """Returns the directory that both can reach; None, and a long rest, where there is none."""
        patience = seconds(ASK_SECONDS, until)
        info = self._ask(GET_SERVER_INFO, v1.GetServerInfoRequest(), patience)
        if not info.HasField("shared_memory") or not is_seen(info.shared_memory):
            self._rest.begin_refused()
            return None
        listed = self._ask(LIST_LOSSES, v1.ListLossesRequest(), seconds(ASK_SECONDS, until))
        self._differentiable = {
            loss.name: {
                given.name
                for given in loss.inputs
                if given.differentiability == v1.DIFFERENTIABILITY_DEFAULT
            }
            for loss in listed.losses
        }
        self._directory = Path(info.shared_memory.directory)
        return self._directory

    def _attach(self, segment: Segment, until: float) -> None:
        try:
            request = v1.AttachSegmentRequest(name=segment.name, size=segment.size)
            patience = seconds(ASK_SECONDS, until)
            segment.token = self._ask(ATTACH_SEGMENT, request, patience).segment
        finally:
            segment.unlink()

    def _let_go(self, segments: list[Segment], until: float = NEVER) -> None:
        with contextlib.suppress(LossdError):  # it notices by itself, as it does for killed clients
            for segment in segments:
                request = v1.DetachSegmentRequest(segment=segment.token)
                self._ask(DETACH_SEGMENT, request, seconds(1.0, until))


def _has_any_on_device(given: Any) -> bool:
    """Returns whether an input, or one of its tensors, is on a device."""
    return is_on_device(given) or (is_several(given) and any(map(is_on_device, given)))
