"""Parts of a range of device memory, which belong to streams even when nobody has them.

What a stream has to do with memory may be queued when Python drops it; whoever gets it next has to
come after that.
"""

from collections import deque
from typing import NamedTuple

from lossd.client.device_streams import Streams


class UsedPart(NamedTuple):
    """A part, and the streams that may still use it."""

    start: int
    end: int
    streams: Streams


class DeviceSpace:
    """A range of bytes, of which parts are taken; whoever calls it holds a lock, but to return.

    Parts are returned whenever they are collected, even in the middle of ``take``.
    """

    def __init__(self, size: int, alignment: int) -> None:
        self._size = size
        self._alignment = alignment
        self._free = [UsedPart(0, size, frozenset())]
        self._returned: deque[UsedPart] = deque()

    def take(self, size: int, streams: Streams, *, may_wait: bool) -> UsedPart | None:
        """Returns a part for streams; None where none is free.

        Only where they may wait it is one that others use too, whom it names then.
        """
        size = -(-size // self._alignment) * self._alignment
        self._tidy()
        for position, first in enumerate(self._free):
            end = first.start + size
            parts = self._free_up_to(end, position)
            users: Streams = frozenset().union(*(part.streams for part in parts))
            if parts and (may_wait or users <= streams):
                rest = parts[-1]._replace(start=end)
                self._free[position : position + len(parts)] = [rest]
                return UsedPart(first.start, end, users)
        return None

    def give_back(self, part: UsedPart) -> None:
        """Returns a part."""
        self._returned.append(part)

    def is_free(self) -> bool:
        """Returns whether no part is in use."""
        self._tidy()
        return sum(part.end - part.start for part in self._free) == self._size

    def _free_up_to(self, end: int, position: int) -> list[UsedPart]:
        """Returns free parts without gaps, from one up to an end; none if it is not free."""
        parts: list[UsedPart] = []
        for part in self._free[position:]:
            if parts and part.start != parts[-1].end:
                break
            parts.append(part)
            if part.end >= end:
                return parts
        return []

    def _tidy(self) -> None:
        """Merges returned parts with the free ones of the same streams."""
        while self._returned:
            self._free.append(self._returned.popleft())
        merged: list[UsedPart] = []
        for part in sorted(part for part in self._free if part.start < part.end):
            last = merged[-1] if merged else None
            if last is not None and (last.end, last.streams) == (part.start, part.streams):
                merged[-1] = last._replace(end=part.end)
            else:
                merged.append(part)
        self._free = merged
