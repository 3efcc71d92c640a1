"""Where losses are computed: on the CPU with NumPy, or on a GPU with CuPy.

A backend takes a laid-out batch and writes values and scaled gradients into buffers that the caller
provides; what follows from the values (sums, statuses) is the same code for every backend.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from lossd.batch import Batch, domain_error
from lossd.losses import Shape, Status
from lossd.reduction import Flags, Floats

Array = npt.NDArray[Any]
Checkpoint = Callable[[], None]

# Rows are summed in blocks of about this many elements, and tiles are whole blocks.  256 Ki
# elements are 1 MiB in float32: large enough that threads seldom wait for the interpreter, which
# they pass to each other at every call of NumPy, and small enough for the cache.
BLOCK_ELEMENTS = 1 << 18
# Sequences are computed frame by frame, all rows of a tile at once: a few rows would leave nothing
# but calls of NumPy, for which threads would wait in turn.
SEQUENCE_BLOCK_ELEMENTS = 1 << 22


def block_rows(length: int) -> int:
    """How many rows are summed together: it depends on the length of a row alone."""
    return max(1, BLOCK_ELEMENTS // length)


def block_of(batch: Batch) -> int:
    """How many rows of a batch are summed together, and computed by one thread.

    Images are as much work as many rows each.
    """
    if batch.loss.shape is Shape.IMAGES:
        return 1
    if batch.loss.shape is Shape.SEQUENCE:
        return max(1, SEQUENCE_BLOCK_ELEMENTS // batch.length)
    return block_rows(batch.length)


@dataclass(frozen=True, slots=True)
class Buffers:
    """Where the results go.

    ``values`` has one number a row, of the compute type; None if nobody wants them.
    ``gradients`` are laid out like the rows of their operands, in the type that is sent.
    ``outputs`` have one number a row, of the compute type or int64.
    """

    values: Array | None
    gradients: Mapping[str, Array]
    outputs: Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What is left beside the buffers.

    ``sums`` are the weighted sums of the values over blocks of rows, in index order.
    ``nonfinite`` flags the rows whose value or gradient is not finite.
    ``statuses`` are what the loss says of each row, also of silent ones; None if it says nothing.
    ``status`` is that of a whole set, and of gradients that belong to no example.
    """

    sums: Floats
    nonfinite: Flags
    statuses: npt.NDArray[np.uint8] | None = None
    status: Status | None = None


class Backend(Protocol):
    """Computes batches."""

    @property
    def name(self) -> str:
        """What callers know it by: "numpy" or "cupy"."""

    @property
    def device(self) -> str:
        """The device, in words."""

    def evaluate(
        self, batch: Batch, buffers: Buffers, *, zero_nonfinite: bool, checkpoint: Checkpoint
    ) -> Evaluated:
        """Computes values, scaled gradients and outputs of a batch.

        Silent rows are exactly 0.  With ``zero_nonfinite``, rows that are not finite are made 0 and
        stay flagged.  ``checkpoint`` is called between tiles and may raise to stop.

        Raises:
            InvalidRequest: for a target outside its domain, or a parameter that the body refuses.
            TooLarge: if the device has not the memory.
        """

    def close(self) -> None:
        """Ends its threads and gives back what it holds."""


def nonfinite_rows(array: Array) -> Flags:
    """Which rows of an array hold a number that is not finite."""
    return np.logical_not(np.isfinite(array).all(axis=tuple(range(1, array.ndim))))


def each_row(numbers: Any, array: Any) -> Any:
    """One number a row, shaped to go with all the elements of the rows of an array."""
    return numbers.reshape(-1, *(1,) * (array.ndim - 1))


def check_domains(batch: Batch) -> None:
    """Looks at all inputs at once, for backends that do not look at them tile by tile.

    Raises:
        InvalidRequest: for a number outside its domain.
    """
    for operand in batch.operands:
        if operand.is_classes or operand.input.domain is None:
            continue
        with np.errstate(invalid="ignore"):  # comparing bfloat16's NaN warns
            wrong = operand.input.domain.outside(operand.rows)
        if batch.plan.silent is not None:
            wrong[batch.plan.silent] = False
        if wrong.any():
            raise domain_error(operand, batch.plan.silent)
