"""Sorting that can be stopped: the work of a long sort is done in parts, one after the other.

NumPy sorts in one go, which takes seconds where there are tens of millions of numbers.  Here digits
of 32 bits are sorted with their positions below them, as single integers, and numbers of 64 bits
with theirs as the imaginary part: no two are equal, so that a sort is stable, and the parts that a
partition makes can be sorted for themselves.

Reference: D. E. Knuth, The Art of Computer Programming, volume 3, section 5.2.5 (radix sort).
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd.checkpoints import Checkpoint

Array = npt.NDArray[Any]
Places = npt.NDArray[np.int64]
Key = Callable[[Any], Array]  # takes places, or a slice of them, and returns the numbers there

# What is sorted in one go: a tenth of a second.
RUN = 1 << 20
_DIGIT = np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)


def sort_in_place(values: Array, checkpoint: Checkpoint) -> None:
    """Sorts numbers; ``checkpoint`` is called between parts of them, and may raise to stop."""
    checkpoint()
    if len(values) <= RUN:
        values.sort()
        return
    middle = len(values) // 2
    values.partition(middle)
    sort_in_place(values[:middle], checkpoint)
    sort_in_place(values[middle:], checkpoint)


def sort_rows_in_place(values: Array, checkpoint: Checkpoint) -> None:
    """Does the same with each row of a matrix, as many rows at a time as are a part."""
    count, length = values.shape
    height = max(1, RUN // max(1, length))
    for start in range(0, count, height):
        if length > RUN:
            sort_in_place(values[start], checkpoint)
            continue
        checkpoint()
        values[start : start + height].sort(axis=1)


def ascending(*keys: Array, checkpoint: Checkpoint) -> Places:
    """Returns the places of all rows in order, as ``np.lexsort`` does: by the last key first."""
    count = len(keys[0])
    if not RUN < count <= _LOW:
        checkpoint()
        return _in_one_go(*keys)
    return ordered(None, count, *(key.__getitem__ for key in keys), checkpoint=checkpoint)


def ascending_rows(*keys: Array, checkpoint: Checkpoint) -> Places:
    """Returns the same for each row of matrices, along the last axis."""
    count, length = keys[0].shape
    order = np.empty((count, length), np.int64)
    height = max(1, RUN // max(1, length))
    for start in range(0, count, height):
        if length > RUN:
            row = (key[start] for key in keys)
            order[start] = ascending(*row, checkpoint=checkpoint)
            continue
        checkpoint()
        part = slice(start, start + height)
        order[part] = _in_one_go(*(key[part] for key in keys))
    return order


def dense_ranks(values: Array, checkpoint: Checkpoint) -> Places:
    """Returns for each number how many different ones are less, as ``np.unique`` does."""
    order = ascending(values, checkpoint=checkpoint)
    ranks, number = np.empty(len(values), np.int64), np.int64(-1)
    last = values[:0]
    for part in parts(len(values)):
        checkpoint()
        places = order[part]
        found = np.concatenate((last, values[places]))
        is_new = found[1:] != found[:-1]
        first = [True] if not len(last) else []
        steps = np.cumsum(np.concatenate((first, is_new)).astype(np.int64))
        ranks[places] = number + steps
        number, last = number + steps[-1], found[-1:]
    return ranks


def parts(count: int) -> Iterator[slice]:
    """Yields parts of so many numbers, each short enough to be worked on in one go."""
    for start in range(0, count, RUN):
        yield slice(start, min(start + RUN, count))


def ordered(places: Places | None, count: int, *keys: Key, checkpoint: Checkpoint) -> Places:
    """Returns places in order, the last key first; None for the first ``count`` of all.

    Of equal ones the earlier stays before the later.  It takes 16 bytes a place, 8 of them for what
    is returned; 24 with a key of float64 that is not the first, and 8 for one short key.
    """
    for key in keys:
        kind = key(slice(0, 0)).dtype
        if kind == np.float64:
            packed = _packed_numbers(places, count, key, checkpoint)
            places = _unpacked(packed, places, checkpoint)
            continue
        for digit in _digits(key, kind.itemsize):
            found = _packed_digits(places, count, digit, checkpoint)
            if found is not None:
                places = _unpacked(found, places, checkpoint)
    return np.arange(count) if places is None else places


def _in_one_go(*keys: Array) -> Places:
    first, *others = keys
    found: Places = np.lexsort(keys) if others else np.argsort(first, axis=-1, kind="stable")
    return found


def _packed_numbers(places: Places | None, count: int, key: Key, checkpoint: Checkpoint) -> Array:
    """Returns numbers and their positions: complex, which sort by the imaginary part at last."""
    packed = np.empty(count, np.complex128)
    for part in parts(count):
        checkpoint()
        packed.real[part] = key(part if places is None else places[part])
        packed.imag[part] = np.arange(part.start, part.stop)
    return packed


def _packed_digits(
    places: Places | None, count: int, digit: Key, checkpoint: Checkpoint
) -> Array | None:
    """Returns digits above their positions, in one integer; None where all digits are the same."""
    packed, low, high = np.empty(count, np.uint64), _LOW, np.uint64(0)
    for part in parts(count):
        checkpoint()
        found = digit(part if places is None else places[part]).astype(np.uint64)
        low, high = min(low, found.min()), max(high, found.max())
        found <<= _DIGIT
        found |= np.arange(part.start, part.stop, dtype=np.uint64)
        packed[part] = found
    return None if low == high else packed


def _unpacked(packed: Array, places: Places | None, checkpoint: Checkpoint) -> Places:
    """Sorts what was packed, and returns the places in that order, in the same memory."""
    sort_in_place(packed, checkpoint)
    out, is_complex = packed.view(np.int64), packed.dtype == np.complex128
    for part in parts(len(packed)):
        checkpoint()
        at = packed.imag[part].astype(np.int64) if is_complex else packed[part] & _LOW
        out[part] = at if places is None else places[at]
    return out[: len(packed)]


def _digits(key: Key, size: int) -> Iterator[Key]:
    """Yields digits from the lowest up, integers without a sign that rise with the numbers."""
    if size == 8:
        yield lambda at: _rising(key(at)) & _LOW
        yield lambda at: _rising(key(at)) >> _DIGIT
    else:
        yield lambda at: _rising(key(at))


def _rising(values: Array) -> Array:
    """Returns integers without a sign that rise with the numbers; NaN is beyond all others."""
    kind, size = values.dtype.kind, values.dtype.itemsize
    if kind in "bu":
        return values
    unsigned = np.dtype(f"u{size}").type
    sign = unsigned(1 << 8 * size - 1)
    if kind == "i":
        found: Array = values.view(unsigned) ^ sign
        return found
    bits = (values + 0).view(unsigned)  # -0 becomes 0
    found = np.where(bits & sign, ~bits, bits | sign)
    found[np.isnan(values)] = ~unsigned(0)
    return found
