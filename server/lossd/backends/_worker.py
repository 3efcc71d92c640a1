"""A worker: one GPU with its streams, and the way of a tile to it and back.

A tile is brought into pinned memory, copied to the device on one stream, computed on another and
copied back on a third, so that copies both ways and computing go on at the same time, each for a
tile of its own.  Whoever begins a tile waits for it later.

Memory belongs to the stream that it was taken on, and is free again when Python drops it.  So
inputs are taken on the stream that copies them, and all of a tile is held until it has come back.

Nothing here imports CuPy; the caller passes it in.
"""

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lossd.backends import Array, Body, Computed, Piece
from lossd.backends._compiled import DeviceKernels
from lossd.backends._exports import Exports
from lossd.backends._faults import faults
from lossd.backends._pinned import PinnedMemory
from lossd.backends._slots import Ring, TileSlot
from lossd.backends._tiles import Found, Staged, Tile, download, run_body, send, stage, upload
from lossd.batch import Batch
from lossd.kernels import NONFINITE, OUTSIDE, gradients_of
from lossd.losses import CudaText
from lossd.networks import Device, DeviceNetworks

# A tile is large enough that a copy of it is at its fastest, and takes longer than the host needs
# to queue the next one: 0.3 ms.
TILE_BYTES = 32 << 20
# The most of a tile that is larger only so that all of the device has something to do.  It is too
# large for the pinned memory of its slot, so that the driver copies it first unless it is pinned.
BUSY_TILE_BYTES = 256 << 20
# What is on the device already is cut for the sake of other callers and of deadlines alone.
RESIDENT_TILE_BYTES = 1 << 30
# So much more than a tile is pinned, for flags and the gaps between arrays.
SPARE_BYTES = 64 << 10
SLOTS = 4
# Elements of the windows that go into one product of a convolution: 64 MiB of float32.
PRODUCT_ELEMENTS = 1 << 24


@dataclass(frozen=True, slots=True)
class Work:
    """The work of each tile of a batch: a text of a kernel, or the body, or one beside the other.

    What a kernel can give comes from the kernel whatever else is asked for, so that its bits do
    not depend on that.  Texts give some gradients, the body gives everything.

    ``vectors`` are the parameters that all tiles share, and ``sent`` those on the devices where
    they were sent, None for one that was not given.
    """

    batch: Batch
    body: Body
    text: CudaText | None
    vectors: Mapping[str, Array]
    sent: dict[int, Mapping[str, Any]]

    @property
    def gradients_of_body(self) -> list[str]:
        """The gradients that the body gives."""
        of_kernel = () if self.text is None else gradients_of(self.batch.loss)
        return [name for name in self.batch.gradients if name not in of_kernel]

    @property
    def runs_body(self) -> bool:
        """Whether the body runs, in the place of a kernel or beside it."""
        return self.text is None or bool(self.gradients_of_body or self.batch.outputs)


@dataclass(frozen=True, slots=True)
class Begun:
    """A tile under way; everything in it is in use until it has come back."""

    worker: "Worker"
    slot: TileSlot
    piece: Piece
    arrivals: Sequence[tuple[Array, Array]]  # where each array arrives, and where it is to be
    computed: Computed
    held: tuple[Tile, Found, Staged]

    def finish(self) -> Computed:
        """Waits for the results, and writes them to their places.

        Raises:
            DeviceLost: if the device does not answer any more.
        """
        try:
            with self.worker.faults():
                self.slot.received.synchronize()
            for host, out in self.arrivals:
                if host is not out:
                    out[...] = host
        finally:
            self.worker.slots.give_back(self.slot)
        return _told(self.computed)

    def abandon(self) -> None:
        """Waits until nothing is in use any more, whatever comes of it, and forgets the results."""
        with contextlib.suppress(Exception):  # what it is abandoned for is told, and not this
            self.slot.received.synchronize()
        self.worker.slots.give_back(self.slot)


class Worker:
    """One GPU; may be used from many threads, which begin tiles one at a time."""

    def __init__(self, cupy: Any, index: int, pinned: PinnedMemory, exports: Exports) -> None:
        self._cupy = cupy
        self._pinned = pinned
        self._exports = exports
        self._lock = threading.Lock()
        self.index = index
        self.device = cupy.cuda.Device(index)
        with self.device:
            self._up, self._stream, self._down = (
                cupy.cuda.Stream(non_blocking=True) for _ in range(3)
            )
            size = TILE_BYTES + SPARE_BYTES
            self.slots = Ring([TileSlot(cupy, size) for _ in range(SLOTS)])
            self.kernels = DeviceKernels(cupy, self._stream)
            exports.add(index)
        self.networks = DeviceNetworks(Device(cupy, PRODUCT_ELEMENTS), cupy.asarray)

    @contextlib.contextmanager
    def session(self) -> Iterator[None]:
        """See ``Backend.session``; one thread at a time, on the stream that computes."""
        # A stream asks a lost device when a thread first enters it.
        with self._lock, self.faults(), self.device, self._stream:
            yield

    def faults(self) -> contextlib.AbstractContextManager[None]:
        """See ``faults``; of its device."""
        return faults(self._cupy, self.index)

    def begin(self, work: Work, piece: Piece, slot: TileSlot) -> Begun:
        """Queues all that is to be done with a piece, and returns without waiting for it.

        Raises:
            DeviceFull: if the device does not have enough memory; the slot is then free again.
            DeviceLost: if the device does not answer any more.
        """
        try:
            staged = stage(work.batch, piece, slot.up, self._pinned)
            with self.session():
                return self._queued(work, piece, slot, staged)
        except BaseException:
            self.slots.give_back(slot)
            raise

    def _queued(self, work: Work, piece: Piece, slot: TileSlot, staged: Staged) -> Begun:
        cupy, batch = self._cupy, work.batch
        try:
            with self._up:
                if self.index not in work.sent:
                    work.sent[self.index] = self._sent(work.vectors)
                vectors = work.sent[self.index]
                tile = upload(cupy, self._up, piece, staged, vectors, self._exports)
            slot.sent.record(self._up)
            self._stream.wait_event(slot.sent)
            found = _placed(self._found(work, tile), tile)
            slot.computed.record(self._stream)
            self._down.wait_event(slot.computed)
            computed, arrivals = self._received(batch, piece, found, slot)
            slot.received.record(self._down)
        except BaseException:
            self._settle()  # what was queued reads and writes memory that is about to be free
            raise
        return Begun(self, slot, piece, arrivals, computed, (tile, found, staged))

    def _sent(self, vectors: Mapping[str, Array]) -> dict[str, Any]:
        """Starts to send what all tiles share."""
        return {
            name: send(self._cupy, self._up, vector) if len(vector) else None
            for name, vector in vectors.items()
        }

    def _found(self, work: Work, tile: Tile) -> Found:
        """Computes values, scaled gradients and outputs on the device."""
        batch = work.batch
        if work.text is None:
            return run_body(self._cupy, batch, work.body, tile, work.gradients_of_body)
        found = self.kernels.run(batch, work.text, tile)
        if not work.runs_body:
            return found
        more = run_body(self._cupy, batch, work.body, tile, work.gradients_of_body)
        return replace(
            found,
            gradients={**found.gradients, **more.gradients},
            outputs=more.outputs,
            flags=found.flags | more.flags,
        )

    def _received(
        self, batch: Batch, piece: Piece, found: Found, slot: TileSlot
    ) -> tuple[Computed, list[tuple[Array, Array]]]:
        """Starts to copy results back; returns where they will be."""
        statuses = None if found.statuses is None else np.empty(piece.count, np.uint8)
        values, flags = np.empty(piece.count, batch.dtype), np.empty(piece.count, np.uint8)
        pairs = [(found.values, values), (found.flags, flags)]
        pairs += [(gradient, piece.gradients[name]) for name, gradient in found.gradients.items()]
        pairs += [(found.outputs[name], out) for name, out in piece.outputs.items()]
        if statuses is not None:
            pairs.append((found.statuses, statuses))
        arrivals = [
            (download(self._down, source, out, slot.down, self._pinned), out)
            for source, out in pairs
        ]
        return Computed(values, statuses, flags.view(np.bool_)), arrivals

    def _settle(self) -> None:
        """Waits for all streams, whatever comes of it."""
        for stream in (self._up, self._stream, self._down):
            with contextlib.suppress(self._cupy.cuda.runtime.CUDARuntimeError):
                stream.synchronize()

    def close(self) -> None:
        """Waits for the device and forgets what is on it."""
        with self.session():
            for stream in (self._up, self._stream, self._down):
                stream.synchronize()
            self.kernels.clear()
            self.networks.clear()
            self._cupy.get_default_memory_pool().free_all_blocks()


def shared_vectors(batch: Batch) -> dict[str, Array]:
    """Returns the parameters that all tiles of a batch share, as they are sent."""
    given = {name: batch.parameters[name] for name in batch.loss.vectors}
    return {
        name: np.ascontiguousarray(value, batch.dtype)
        for name, value in given.items()
        if np.ndim(value) < 2
    }


def _told(computed: Computed) -> Computed:
    """Returns the results of a tile with what the flags of its rows say."""
    if computed.nonfinite is None:
        return computed
    flags = computed.nonfinite.view(np.uint8)
    if not flags.any():
        return computed
    is_outside = bool((flags & OUTSIDE).any())
    return replace(computed, nonfinite=(flags & NONFINITE) != 0, is_outside=is_outside)


def _placed(found: Found, tile: Tile) -> Found:
    """Returns what has to be brought back: not the gradients that stay on the device."""
    if not tile.places:
        return found
    for name, place in tile.places.items():
        if found.gradients[name] is not place:
            place[...] = found.gradients[name]
    others = {name: g for name, g in found.gradients.items() if name not in tile.places}
    return replace(found, gradients=others)
