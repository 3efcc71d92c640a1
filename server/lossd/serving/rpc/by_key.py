"""Something for each of those who call, of whom there may be any number."""

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Kept = TypeVar("Kept")

MOST = 1024  # that are kept; more only while they are in use


class ByKey(Generic[Key, Kept]):
    """Keeps what is made for a key, and forgets what is idle when there is much.

    Whoever shares it among threads holds a lock.
    """

    def __init__(self, make: Callable[[Key], Kept], is_idle: Callable[[Kept], bool]) -> None:
        self._make = make
        self._is_idle = is_idle
        self._kept: dict[Key, Kept] = {}

    def __len__(self) -> int:
        """Returns how many are kept."""
        return len(self._kept)

    def of(self, key: Key) -> Kept:
        """Returns what is kept for a key, which is made if there is nothing."""
        found = self._kept.get(key)
        return self._new(key) if found is None else found

    def _new(self, key: Key) -> Kept:
        if len(self._kept) >= MOST:
            self._kept = {k: each for k, each in self._kept.items() if not self._is_idle(each)}
        made = self._kept[key] = self._make(key)
        return made
