"""The memory that a job takes besides its inputs, known before any of it is allocated.

It is said of the shapes alone: whoever lets calls in counts it, and refuses what does not fit.
Pieces of usual rows fit a cache, and are the process's own: there is one for each of its threads.
So what counts for a call is one piece, and with rows longer than a piece one for each thread.
"""

import math
import mmap
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lossd.batch import Array, Job, Layout
from lossd.losses import Content, Differentiable
from lossd.reduction import Flags
from lossd.shapes._blocks import BLOCK_ELEMENTS

# Fewer elements are not worth the look: whatever the loss, they take some MiB.
FEW_ELEMENTS = 1 << 13
# A row has its value and its flags; weights, a mask and a cotangent become float64, and scales.
_ROW_BYTES, _GIVEN_BYTES = 12, 24
# An input of integers becomes one of int64, and is compared with its bounds.
_INTEGER_BYTES = 16
# Flags become booleans, and are looked at.
_FLAG_BYTES = 2
# So many flags are not cleared before one is set.
_MANY_FLAGS = 1 << 20


def row_bytes(job: Job, rows: int) -> int:
    """Returns the bytes that are kept for each row."""
    given = sum(array is not None for array in (job.weights, job.mask, job.cotangent))
    return rows * (_ROW_BYTES + _GIVEN_BYTES * given)


def laid_bytes(layout: Layout, arrays: Mapping[str, Array]) -> int:
    """Returns the bytes of copies of inputs that have to lie, or be typed, otherwise."""
    found = 0
    for slot in layout.slots:
        array = arrays.get(slot.name)
        size = math.prod(slot.rows_shape) if array is None else array.size
        if slot.input.content is Content.FLAGS:
            found += _FLAG_BYTES * size
        elif array is None or array.dtype.kind in "iub":
            found += _INTEGER_BYTES * size
        elif slot.is_moved:
            found += array.nbytes
    return found


def own_bytes(spread: Array) -> int:
    """Returns the bytes of a list that is spread over a row; one number for all of it has few."""
    return spread.nbytes if any(spread.strides) else 0


def gradient_bytes(
    job: Job, layout: Layout, arrays: Mapping[str, Array], *, only_moved: bool = False
) -> int:
    """Returns the bytes of gradients, or of those alone that lie in another order than computed."""
    found = 0
    for slot in layout.slots:
        array = arrays.get(slot.name)
        if array is not None and _is_wanted(job, slot.input):
            found += array.nbytes if slot.is_moved or not only_moved else 0
    return found


def _is_wanted(job: Job, declared: Any) -> bool:
    if job.gradients is None:
        return declared.differentiable is Differentiable.BY_DEFAULT
    return declared.base_name in job.gradients


def elements_at_once(rows: int, length: int, workers: int, *, may_be_cut: bool) -> int:
    """Returns how many elements are looked at together, at most."""
    if may_be_cut or length <= BLOCK_ELEMENTS:
        return min(rows * length, BLOCK_ELEMENTS)
    return min(rows, workers) * length


def widened(dtype: np.dtype[Any], nbytes: int) -> int:
    """Returns the bytes that were said for float32, in the type that is computed in."""
    return nbytes * dtype.itemsize // 4


def largest(shapes: Sequence[tuple[int, ...]]) -> int:
    """Returns the most elements that any of some shapes has."""
    return max(map(math.prod, shapes), default=0)


def no_flags(rows: int) -> Flags:
    """Returns a flag of each row, none of them set.

    Many are fresh memory, which the system clears page by page where a flag is set: the C library
    clears all of what it has kept, for 16 million rows in 0.7 ms.
    """
    if rows >= _MANY_FLAGS and sys.platform != "win32":
        try:
            memory = mmap.mmap(-1, rows, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            return np.frombuffer(memory, np.bool_)
        except OSError:  # as many mappings as there may be
            pass
    return np.zeros(rows, np.bool_)
