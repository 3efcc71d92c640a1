"""How a kernel is launched: its arguments, typed, and its threads.

CuPy passes a Python float as a double and an int as 64 bits whatever the kernel declares, and does
not check the number of arguments.  So every launch goes through ``typed_arguments``.
"""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

# A row gets more threads until each has no more than this many elements, and four times as many
# once the row would be more than one warp's: what warps tell each other costs as much.  The number
# of threads fixes the tree in which a row is summed, so it may depend on the row's length only.
WARP, MOST_THREADS, ELEMENTS_A_THREAD, ELEMENTS_BEYOND_A_WARP = 32, 512, 8, 32
# The most threads of a sequence: with more of them each would have too few registers.
MOST_OF_SEQUENCE = 256
# The most threads of a row of classes, for the same reason.
MOST_OF_CLASSES = 256
# The threads of each sequence of tokens, whatever its length.
MOST_OF_TOKENS = 256
# The positions of a row of classes, or the columns of one of single numbers, that a block takes: a
# longer row has several blocks.  They fix the order in which a row is summed, so they are the same
# on all devices.
SEGMENT = 1 << 14
# What is kept of each segment of single numbers: Part in pointwise.cuh.
PART_BYTES = 24
# Threads of a block whose rows share warps, or are single elements.
SHARING_THREADS = 256
MOST_BLOCKS = (1 << 31) - 1
# Shared memory that every device has; a kernel must ask for more, and the limit differs.
SHARED_BYTES = 48 << 10
# Bytes of it that the sums over a block need.
SHARED_BYTES_OF_SUMS = 2 << 10


class Kind(enum.Enum):
    """The kinds of arguments that a kernel takes."""

    ARRAY = "an address, 0 for none"
    COUNT = "a 64-bit integer"
    REAL = "a number of the compute type"
    DOUBLE = "a number of float64, NaN for unset, 1 and 0 for true and false"


@dataclass(frozen=True, slots=True)
class Argument:
    """One parameter of a kernel, in the order of its signature."""

    name: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class Launch:
    """The entry point to launch, and the number of threads.

    A block has ``threads`` for each of ``rows`` rows, and ``shared_bytes`` to keep the first
    ``kept`` columns of each row in, and ``room_bytes`` of the device's memory to work in.  A row
    that is cut into segments of ``segment`` columns has a block for each in what is launched
    ``before`` and ``behind``.
    """

    name: str
    blocks: int
    threads: int
    rows: int = 1
    shared_bytes: int = 0
    kept: int = 0
    room_bytes: int = 0
    segment: int = 0
    before: "Launch | None" = None
    behind: "Launch | None" = None

    @property
    def workspace_bytes(self) -> int:
        """The memory that all blocks together work in."""
        return self.blocks * self.room_bytes

    @property
    def is_in_segments(self) -> bool:
        """Whether its rows have several blocks each."""
        return self.before is not None

    @property
    def steps(self) -> tuple["Launch", ...]:
        """The launches that it takes, one after the other."""
        return tuple(step for step in (self.before, self, self.behind) if step is not None)

    def with_at_most(self, blocks: int) -> "Launch":
        """Returns a launch of no more blocks, each of which then takes several rows in turn."""
        return replace(self, blocks=min(self.blocks, blocks))

    @property
    def needs_permission(self) -> bool:
        """Whether a kernel has to be allowed so much: what it has for sums counts too."""
        return self.shared_bytes > SHARED_BYTES - SHARED_BYTES_OF_SUMS


# The signature that all templates share, whatever the loss calls its first two inputs; its further
# inputs and its parameters follow.
SHARED_ARGUMENTS = (
    Argument("rows", Kind.COUNT),
    Argument("columns", Kind.COUNT),
    Argument("predictions", Kind.ARRAY),
    Argument("targets", Kind.ARRAY),
    Argument("scales", Kind.ARRAY),
    Argument("scale", Kind.REAL),
    Argument("silent", Kind.ARRAY),
    Argument("values", Kind.ARRAY),
    Argument("gradient", Kind.ARRAY),
    Argument("nonfinite", Kind.ARRAY),
)
KEPT = Argument("kept", Kind.COUNT)
SEGMENT_COLUMNS = Argument("segment", Kind.COUNT)
WORKSPACE = Argument("workspace", Kind.ARRAY)


def typed_arguments(
    signature: Sequence[Argument], values: Mapping[str, Any], dtype: np.dtype[Any]
) -> tuple[Any, ...]:
    """Returns the arguments in order, each as wide as the kernel declares it; arrays may be None.

    Raises:
        TypeError: if a name is missing or unknown, or a number stands where an array must.
    """
    names = {argument.name for argument in signature}
    if names != values.keys():
        raise TypeError(f"arguments must be {sorted(names)}, got {sorted(values)}")
    return tuple(_typed(argument, values[argument.name], dtype) for argument in signature)


def _typed(argument: Argument, value: Any, dtype: np.dtype[Any]) -> Any:
    if argument.kind is Kind.COUNT:
        return np.int64(value)
    if argument.kind is Kind.DOUBLE:
        return np.float64(np.nan if value is None else value)
    if argument.kind is Kind.REAL:
        with np.errstate(over="ignore"):  # beyond float32 it is infinite: the caller's data
            return dtype.type(value)
    if value is None:
        return np.uint64(0)
    if not hasattr(value, "dtype") or not hasattr(value, "flags"):
        raise TypeError(f"{argument.name} must be an array or None, got {value!r}")
    # RawKernel passes an address and knows no strides.
    if not value.flags.c_contiguous:
        raise TypeError(f"{argument.name} must be contiguous, got strides {value.strides}")
    return value


def threads_of_row(length: int) -> int:
    """Returns how many threads share a row: a power of two that depends on its length alone."""
    threads = 1
    while threads < MOST_THREADS and threads * _elements_a_thread(threads) < length:
        threads *= 2
    return threads


def _elements_a_thread(threads: int) -> int:
    return ELEMENTS_A_THREAD if threads < WARP else ELEMENTS_BEYOND_A_WARP


def _doubled(threads: int, enough: int, most: int) -> int:
    """Returns a number of threads, doubled until there are enough or the most that there may be."""
    while threads < min(enough, most):
        threads *= 2
    return threads


def launch_rows(name: str, rows: int, length: int) -> Launch:
    """Returns a launch with a block for each row, or for several rows that share warps."""
    threads = threads_of_row(length)
    together = _rows_together(threads)
    return Launch(name, _blocks(rows, together), threads, together)


def _rows_together(threads: int) -> int:
    """Returns how many rows of so many threads a block has: several where they share warps."""
    return SHARING_THREADS // threads if threads <= WARP else 1


def _blocks(rows: int, together: int = 1) -> int:
    """Returns how many blocks there are for some rows, so many of which have one."""
    return min(-(-rows // together), MOST_BLOCKS)


def _segments(columns: int) -> int:
    """Returns how many segments a row is cut into."""
    return max(1, -(-columns // SEGMENT))


def keeping_rows(
    launch: Launch, length: int, *, width: int, column_bytes: int, most_bytes: int
) -> Launch:
    """Returns a launch that keeps as many columns of a row as a block has shared memory for.

    They are whole packs of ``width`` columns; a column takes ``column_bytes`` of all inputs.
    """
    pack_bytes = launch.rows * width * column_bytes
    packs = min(-(-length // width), max(0, most_bytes - SHARED_BYTES_OF_SUMS) // pack_bytes)
    return replace(launch, shared_bytes=packs * pack_bytes, kept=min(length, packs * width))


def launch_means(names: tuple[str, ...], rows: int, length: int) -> Launch:
    """Returns a launch of rows whose value is the mean of their elements."""
    whole, of_segments, sums = names
    segments = _segments(length)
    if segments == 1:
        return launch_rows(whole, rows, length)
    threads = _doubled(1, segments, MOST_THREADS)
    together = _rows_together(threads)
    of_each = Launch(of_segments, rows * segments, threads_of_row(SEGMENT))
    return Launch(
        sums,
        _blocks(rows, together),
        threads,
        together,
        room_bytes=PART_BYTES * together * segments,
        segment=SEGMENT,
        before=of_each,
    )


def launch_elements(name: str, rows: int, width: int) -> Launch:
    """Returns a launch with a thread for each 128 bits, of rows that are single elements."""
    return Launch(name, _blocks(rows, SHARING_THREADS * width), SHARING_THREADS)


def launch_classes(names: tuple[str, ...], rows: int, classes: int, positions: int) -> Launch:
    """Returns a launch of rows of classes, each with memory to work in."""
    whole, before, sums, behind = names
    segments = _segments(positions)
    threads = _doubled(1, min(positions, SEGMENT), MOST_OF_CLASSES)
    together = _rows_together(threads)
    room = 8 * together * room_of_classes(classes, positions, segments)
    launch = Launch(
        whole, _blocks(rows, together), threads, together, room_bytes=room, segment=SEGMENT
    )
    if segments == 1:
        return launch
    blocks = _blocks(rows * segments)
    return replace(
        launch,
        name=sums,
        before=Launch(before, blocks, threads),
        behind=Launch(behind, blocks, threads),
    )


def room_of_classes(classes: int, positions: int, segments: int) -> int:
    """Returns the numbers of float64 that a team keeps of a row: room_for in classwise.cuh."""
    of_segments = segments * (3 * classes + 1) + 1 if segments > 1 else 0
    return 3 * positions + 5 * classes + of_segments


def launch_sequences(name: str, rows: int, frames: int, classes: int, labels: int) -> Launch:
    """Returns a launch with a block a sequence, each with memory to work in."""
    threads = _doubled(WARP, labels + 1, MOST_OF_SEQUENCE)
    room = 8 * _room(frames, classes, labels)
    return Launch(name, min(rows, MOST_BLOCKS), threads, room_bytes=room)


def launch_tokens(name: str, rows: int) -> Launch:
    """Returns a launch with a block a sequence."""
    return Launch(name, min(rows, MOST_BLOCKS), MOST_OF_TOKENS)


def _room(frames: int, classes: int, labels: int) -> int:
    """Returns the numbers of float64 that a sequence is aligned in: room_for in alignments.hpp."""
    slots = 1 + min(labels, classes)
    return (2 * frames + 12) * (labels + 3) + frames * (slots + 13) + classes
