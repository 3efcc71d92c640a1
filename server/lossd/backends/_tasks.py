"""Shares tiles out among the workers, several of each batch under way at a time."""

import contextlib
import math
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence, Sized
from typing import Any

import numpy as np

from lossd.backends import Computed, Make, Piece, Take
from lossd.backends._exports import Exports, Resident
from lossd.backends._halves import halves, joined
from lossd.backends._worker import (
    BUSY_TILE_BYTES,
    RESIDENT_TILE_BYTES,
    TILE_BYTES,
    Begun,
    Work,
    Worker,
)
from lossd.batch import Batch
from lossd.errors import DeviceFull
from lossd.kernels import is_stored

# Tiles of one batch that are under way on each device: one is sent, one computed, one brought back.
AHEAD = 3


def tile_elements(
    batch: Batch, *, runs_body: bool, least_rows: int = 1, kept_bytes: int = 0
) -> int:
    """Returns how many elements of a batch make a tile, with all that goes with its rows.

    What stays on the device does not count, unless a body takes memory for its steps beside it.
    ``least_rows`` are those that keep all of a device busy, where a row takes longer to compute
    than to send: a tile has as many, up to some bytes.  ``kept_bytes`` are those that each row
    works in until the tile is done: they are on the device, wherever the inputs are.
    """
    sent = 2 * batch.dtype.itemsize + 2 + 8 * len(batch.outputs)  # scale and value, flags
    resident = 1 + kept_bytes
    for operand in batch.operands:
        row = math.prod(operand.slot.rows_shape[1:]) * _sent_bytes(operand.rows.dtype)
        if isinstance(operand.rows, Resident) and not runs_body:
            resident += row
        else:
            sent += row
    sendable = max(TILE_BYTES // sent, min(least_rows, BUSY_TILE_BYTES // sent))
    rows = min(sendable, RESIDENT_TILE_BYTES // resident)
    return max(1, rows * batch.length)


def _sent_bytes(dtype: np.dtype[Any]) -> int:
    """Returns the bytes of a number as it is sent: floats as they came, others as indices."""
    return dtype.itemsize if is_stored(dtype) else 8


class Tasks:
    """The work of all devices; for any number of threads."""

    def __init__(self, workers: Sequence[Worker], exports: Exports) -> None:
        self._busy = dict.fromkeys(workers, 0)
        self._exports = exports
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def one(self) -> Iterator[Worker]:
        """Takes the worker that has the least to do."""
        worker = self._enter()
        try:
            yield worker
        finally:
            self._leave(worker)

    def _enter(self, device: int | None = None) -> Worker:
        """Takes the worker of a device, or of the one that has the least to do."""
        with self._lock:
            able = [one for one in self._busy if device in (None, one.index)]
            worker = min(able, key=lambda one: self._busy[one])
            self._busy[worker] += 1
            return worker

    def _leave(self, worker: Worker) -> None:
        with self._lock:
            self._busy[worker] -= 1

    def each(self, work: Work, count: int, make: Make, take: Take) -> None:
        """See ``Compute.each``: begins tiles before it waits for the ones before them."""
        most = AHEAD * len(self._busy)
        waiting: deque[tuple[int, Begun]] = deque()

        def finish() -> None:
            index, begun = waiting.popleft()
            try:
                found = begun.finish()
            finally:
                self._leave(begun.worker)
            take(index, begun.piece, found)

        try:
            for index in range(count):
                piece = make(index)
                begun = self._tried(work, piece, waiting, finish)
                if begun is not None:
                    waiting.append((index, begun))
                    if len(waiting) >= most:
                        finish()
                    continue
                while waiting:  # which gives memory back
                    finish()
                take(index, piece, self.piece(work, piece))
            while waiting:
                finish()
        finally:
            for _, begun in waiting:
                begun.abandon()
                self._leave(begun.worker)

    def _tried(
        self, work: Work, piece: Piece, waiting: Sized, finish: Callable[[], None]
    ) -> Begun | None:
        """Begins a tile; returns None where the device is full.

        The error is gone then, which would hold what was on the device already.
        """
        try:
            return self._begin(work, piece, waiting, finish)
        except DeviceFull:
            return None

    def _begin(self, work: Work, piece: Piece, waiting: Sized, finish: Callable[[], None]) -> Begun:
        """Begins a tile; where no slot is free, what waits is finished first."""
        worker = self._enter(self._home(piece))
        try:
            slot = worker.slots.take(wait=not waiting)
            while slot is None:
                finish()
                slot = worker.slots.take(wait=not waiting)
            return worker.begin(work, piece, slot)
        except BaseException:
            self._leave(worker)
            raise

    def _home(self, piece: Piece) -> int | None:
        """Returns the device that a part of a piece is on; None if it is all on the host."""
        arrays = (*(array for array, _ in piece.inputs.values()), *piece.gradients.values())
        found = (self._exports.of(array) for array in arrays)
        return next((exported.device for exported in found if exported is not None), None)

    def piece(self, work: Work, piece: Piece) -> Computed:
        """Computes one piece, or its halves one after the other if it does not fit a device.

        Raises:
            DeviceFull: if not even a single row fits.
        """
        if piece.count == 1:
            begun = self._begin(work, piece, (), _nothing)
        else:
            tried = self._tried(work, piece, (), _nothing)
            if tried is None:
                return joined([self.piece(work, half) for half in halves(piece)])
            begun = tried
        try:
            return begun.finish()
        finally:
            self._leave(begun.worker)


def _nothing() -> None:
    """Does nothing."""
