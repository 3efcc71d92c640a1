"""Numbers that every call adds to.  It takes little time to add to them; only a scrape reads them.

Whoever adds to several, or reads them, takes one lock for all.
"""

import math
import time
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass


class Count:
    """A number that only grows."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def add(self, amount: float = 1) -> None:
        """Adds to it."""
        self.value += amount


@dataclass(frozen=True, slots=True)
class Instance:
    """A number that was added to a spread, when, and the labels that lead to its call."""

    labels: Mapping[str, str]
    value: float
    time: float


class Spread:
    """Many numbers: how many were at most each bound, and their sum."""

    __slots__ = ("_bounds", "_counts", "_instances", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = (*bounds, math.inf)
        self._counts = [0] * len(self._bounds)
        self._instances: dict[int, Instance] = {}
        self.total = 0.0

    def add(self, value: float, labels: Mapping[str, str] | None = None) -> None:
        """Adds a number; ``labels`` lead to the call that it is of."""
        index = bisect_left(self._bounds, value)
        self._counts[index] += 1
        self.total += value
        if labels:
            self._instances[index] = Instance(labels, value, time.time())

    def buckets(self) -> Iterator[tuple[float, int, Instance | None]]:
        """Yields each bound, how many were at most it, and the last one since the bound before."""
        count = 0
        for index, bound in enumerate(self._bounds):
            count += self._counts[index]
            yield bound, count, self._instances.get(index)
