"""How a kernel is launched: its arguments, typed, and its threads.

CuPy passes a Python float as a double and an int as 64 bits whatever the kernel declares, and does
not count arguments.  So every launch goes through ``typed_arguments``.
"""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

# Four elements a thread in each round, and eight rounds before a row gets more threads.  The number
# of threads fixes the tree in which a row is summed, so it may depend on the row's length only.
WARP, MOST_THREADS, ELEMENTS_A_THREAD = 32, 512, 8
ELEMENT_THREADS = 256
MOST_BLOCKS = (1 << 31) - 1


class Kind(enum.Enum):
    """What a kernel takes for an argument."""

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
    """Which entry point to launch, and with how many threads."""

    name: str
    blocks: int
    threads: int


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
)


def typed_arguments(
    signature: Sequence[Argument], values: Mapping[str, Any], dtype: np.dtype[Any]
) -> tuple[Any, ...]:
    """The arguments in order, each of the width that the kernel declares; arrays may be None.

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
    """Threads that share a row: a power of two, by the length of the row alone."""
    threads = WARP
    while threads < MOST_THREADS and threads * ELEMENTS_A_THREAD < length:
        threads *= 2
    return threads


def launch_rows(name: str, rows: int, length: int) -> Launch:
    """A block a row."""
    return Launch(name, min(rows, MOST_BLOCKS), threads_of_row(length))


def launch_elements(name: str, rows: int, width: int) -> Launch:
    """A thread for each 128 bits of rows of one element."""
    blocks = -(-rows // (ELEMENT_THREADS * width))
    return Launch(name, min(blocks, MOST_BLOCKS), ELEMENT_THREADS)
