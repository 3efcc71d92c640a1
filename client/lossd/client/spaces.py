"""Parts of a range of bytes that are taken and returned."""

from collections import deque


class Space:
    """A range of bytes, of which parts are taken; whoever calls it holds a lock, but to return.

    Parts are returned whenever they are collected, even in the middle of ``take``.
    """

    def __init__(self, size: int, alignment: int) -> None:
        self.size = size
        self._alignment = alignment
        self._free = [(0, size)]
        self._returned: deque[tuple[int, int]] = deque()

    def take(self, size: int) -> tuple[int, int] | None:
        """Returns where a part of so many bytes begins and ends; None where none is free."""
        size = -(-size // self._alignment) * self._alignment
        self._tidy()
        for position, (start, end) in enumerate(self._free):
            if end - start >= size:
                self._free[position] = (start + size, end)
                return start, start + size
        return None

    def give_back(self, part: tuple[int, int]) -> None:
        """Returns a part."""
        self._returned.append(part)

    def taken(self) -> list[tuple[int, int]]:
        """Returns the parts in use, as starts and ends."""
        self._tidy()
        edges = [0, *(edge for part in self._free for edge in part), self.size]
        pairs = zip(edges[::2], edges[1::2], strict=True)
        return [(begin, end) for begin, end in pairs if begin < end]

    def _tidy(self) -> None:
        """Merges returned parts with the free ones."""
        while self._returned:
            self._free.append(self._returned.popleft())
        merged: list[tuple[int, int]] = []
        for start, end in sorted(part for part in self._free if part[0] < part[1]):
            if merged and merged[-1][1] == start:
                merged[-1] = (merged[-1][0], end)
            else:
                merged.append((start, end))
        self._free = merged
