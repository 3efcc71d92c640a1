"""Copies of large arrays, which several threads make in parts."""

import numpy as np

from lossd.client.arrays import Array
from lossd.crew import Crew, usable_cores

# Larger arrays are copied in parts of this size, by several threads: one core does not use all that
# memory can do, and more cores than these do not use more.  Smaller parts lose time between them.
PART_BYTES, COPYING_THREADS = 1 << 20, 4


class Copier:
    """Copies arrays, for many threads."""

    def __init__(self) -> None:
        self._crew = Crew(min(usable_cores(), COPYING_THREADS), "lossd-client-copy")

    def copy(self, array: Array, place: Array) -> None:
        """Copies a contiguous array, a large one in parts at the same time."""
        if array.nbytes <= PART_BYTES:
            np.copyto(place, array)
            return
        source, target = array.reshape(-1), place.reshape(-1)
        size = PART_BYTES // array.itemsize

        def copy_part(index: int) -> None:
            part = slice(index * size, (index + 1) * size)
            np.copyto(target[part], source[part])

        self._crew.run(-(-array.size // size), copy_part)

    def close(self) -> None:
        """Ends its threads."""
        self._crew.close()
