"""Slots: what a tile needs while it is on its way to a device and back.

Nothing here imports CuPy; the caller passes it in.
"""

import queue
from typing import Any

from lossd.backends._pinned import Staging


class TileSlot:
    """Pinned memory for one tile each way, and events on its way; made once and used again."""

    def __init__(self, cupy: Any, size: int) -> None:
        self.up = Staging(cupy, size)
        self.down = Staging(cupy, size)
        self.sent, self.computed, self.received = (
            cupy.cuda.Event(disable_timing=True) for _ in range(3)
        )


class Ring:
    """A fixed number of slots, for any number of threads."""

    def __init__(self, slots: list[TileSlot]) -> None:
        self._free: queue.SimpleQueue[TileSlot] = queue.SimpleQueue()
        for slot in slots:
            self._free.put(slot)

    def take(self, *, wait: bool) -> TileSlot | None:
        """Returns a free slot; without waiting for one, None where there is none.

        Nobody who has a slot may wait for one: all might.
        """
        try:
            slot = self._free.get(wait)
        except queue.Empty:
            return None
        slot.up.clear()
        slot.down.clear()
        return slot

    def give_back(self, slot: TileSlot) -> None:
        """Makes a slot free."""
        self._free.put(slot)
