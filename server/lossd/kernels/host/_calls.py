"""The bytes of a call, as structures.hpp and entry.cpp read them."""

import ctypes
import functools
import itertools
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import numpy.typing as npt

from lossd.kernels._domains import Domain, bounds
from lossd.losses import Choices

Array = npt.NDArray[Any]

# What structures.hpp calls an Input and a Call, and where the answer is in it.
MOST_INPUTS = 4
CALL = struct.Struct("<6q" + "Qiidd" * MOST_INPUTS + "2d5Q2i5Q" + "Qi4x" * (MOST_INPUTS - 1) + "2q")
ANSWER = struct.Struct("<2q")
ANSWER_OFFSET = CALL.size - ANSWER.size
# What entry.cpp calls a Prepared: this before and behind its Call, and the most rows of one.
PREPARED_HEAD, PREPARED_TAIL = struct.Struct("<Q"), struct.Struct("<4q")
MOST_PREPARED_ROWS = 1 << 13
NO_INPUT = (0, 0, 0, 0.0, 0.0)
NO_GRADIENT = (0, 0)
NO_ANSWER = (0, 0)
KINDS = {
    np.dtype(kind): number
    for number, kind in enumerate(
        (np.float16, ml_dtypes.bfloat16, np.float32, np.float64, np.bool_, np.int8, np.uint8,
         np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64),
        start=1,
    )
}  # fmt: skip
_ANY, _BETWEEN, _EITHER, _BETWEEN_OR_NAN = range(4)


class CallSizes(NamedTuple):
    """The fields of a Call before its inputs, with its names and in its order."""

    rows: int
    columns: int
    block: int
    parts: int = 1
    labels: int = 0
    classes_last: bool = False


class CallPlaces(NamedTuple):
    """The fields of a Call between its inputs and the others' gradients; 0 is null."""

    elements: float = 1.0
    scale: float = 1.0
    scales: int = 0
    silent: int = 0
    weights: int = 0
    values: int = 0
    gradient: int = 0
    gradient_kind: int = 0
    streams: bool = False
    nonfinite: int = 0
    numbers: int = 0
    vectors: int = 0
    sums: int = 0
    statuses: int = 0


def encoded_call(
    sizes: CallSizes,
    inputs: Sequence[tuple[Any, ...]],
    places: CallPlaces,
    others: Sequence[Array | None] = (),
) -> bytes:
    """Returns a call as the library reads it, from inputs as ``packed_input`` makes them.

    ``others`` are places for the gradients with respect to the inputs after the first.
    """
    gradients = [part for one in others for part in _packed_gradient(one)]
    gradients += NO_GRADIENT * (MOST_INPUTS - 1 - len(others))
    unused = NO_INPUT * (MOST_INPUTS - len(inputs))
    return CALL.pack(
        *sizes, *itertools.chain.from_iterable(inputs), *unused, *places, *gradients, *NO_ANSWER
    )


def kind_of(place: Array | None) -> int:
    """Returns the number of an array's type; 0 for no array."""
    return 0 if place is None else KINDS[place.dtype]


def _packed_gradient(place: Array | None) -> tuple[int, int]:
    return NO_GRADIENT if place is None else (address(place), KINDS[place.dtype])


def ready(rows: Array, dtype: np.dtype[Any]) -> Array:
    """Returns rows as a kernel reads them: side by side, and of a type that it knows."""
    return np.ascontiguousarray(rows, None if rows.dtype in KINDS else dtype)


def turned(rows: Array) -> bool:
    """Returns whether the last two of three axes lie the other way round in memory."""
    return not rows.flags.c_contiguous and rows.transpose(0, 2, 1).flags.c_contiguous


def packed_input(rows: Array, domain: Domain, dtype: np.dtype[Any]) -> tuple[Any, ...]:
    """Returns an input as the library reads it."""
    return (address(rows), KINDS[rows.dtype], *rule(domain, dtype))


@functools.lru_cache(maxsize=256)
def rule(domain: Domain, dtype: np.dtype[Any]) -> tuple[int, float, float]:
    """Returns a domain as the first and last number within it, or as the two that it allows.

    Where NaN is within it as well, a kernel must not call it outside: each piece with one would
    have all of the batch looked at again.
    """
    if domain is None:
        return _ANY, 0.0, 0.0
    if isinstance(domain, Choices):
        if len(domain.numbers) > 2:
            raise ValueError(f"a kernel knows two choices, got {domain}")
        first, *others = domain.numbers
        return _EITHER, first, others[0] if others else first
    return _BETWEEN_OR_NAN if domain.has_nan else _BETWEEN, *bounds(domain, dtype)


def as_vector(value: Any, dtype: np.dtype[Any]) -> Array | None:
    """Returns a parameter that is a list in the type that is computed in; None for an empty one."""
    return np.ascontiguousarray(value, dtype) if len(value) else None


def address(array: Array | None) -> int:
    """Returns where the data of an array begins: its first field in NumPy's C interface.

    NumPy's own attributes make a dictionary or an object of it, which takes ten times as long.
    """
    if array is None:
        return 0
    return ctypes.c_void_p.from_address(id(array) + object.__basicsize__).value or 0


def bytes_address(data: bytes) -> int:
    """Returns where bytes begin."""
    return ctypes.c_void_p.from_buffer(ctypes.c_char_p(data)).value or 0
