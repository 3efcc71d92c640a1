"""Arrays of ``empty``: ordinary ones until memory is shared, and those that callers have."""

import contextlib
import logging
import threading
import weakref
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd.client.arrays import Array, to_dtype
from lossd.client.errors import InvalidRequestError
from lossd.client.segments import Block, Segment

log = logging.getLogger("lossd.client")


class Empties:
    """The blocks of arrays that callers have; may be used from many threads."""

    def __init__(self) -> None:
        self._blocks: weakref.WeakSet[Block] = weakref.WeakSet()
        self._lock = threading.Lock()

    def add(self, block: Block) -> None:
        """Adds the block of an array that a caller is given."""
        with self._lock:
            self._blocks.add(block)

    def warn_of_copies(self, left: Collection[Segment], because: str) -> None:
        """Says so where callers have arrays in segments that are used no more."""
        with self._lock:
            copied = [block for block in self._blocks if block.segment in left]
            for block in copied:
                self._blocks.discard(block)
        if copied:
            log.warning(
                "arrays of empty (%d of them) are copied for each batch from now on, since %s: "
                "make them anew",
                len(copied), because,
            )  # fmt: skip


def unfilled(shape: Any, dtype: npt.DTypeLike) -> Array:
    """Returns an array in ordinary memory, of which it takes none before it is filled.

    Raises:
        InvalidRequestError: if no array can have the shape or the type.
    """
    with _named("dtype", "a type of NumPy's", dtype):
        kind = np.dtype(to_dtype(dtype))
    with _named("shape", "sizes in [0, 2**63), of an array that can be", shape):
        # To NumPy the letters of a text are sizes, and to an older one None has no axes.
        if isinstance(shape, str | bytes | bytearray | memoryview | None):
            raise TypeError("neither a text nor None is sizes")
        made: Array = np.empty(shape, kind)
        return made


def is_shareable(wanted: Array) -> bool:
    """Returns whether an array can lie in shared memory."""
    return wanted.nbytes > 0 and not wanted.dtype.hasobject


@contextlib.contextmanager
def _named(field: str, rule: str, given: object) -> Iterator[None]:
    try:
        yield
    except (TypeError, ValueError, OverflowError, MemoryError) as error:
        raise InvalidRequestError(
            f"{field} must be {rule}, got {given!r:.64}: {error}", field=field
        ) from error
