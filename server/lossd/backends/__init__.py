"""Where losses are computed: on the CPU with NumPy, or on a GPU with CuPy.

A backend places arrays and brings them back, runs a body or a kernel over some rows, and runs work
side by side; ``Backend`` lists all its abilities.  The shape of a loss, in ``lossd.shapes``,
decides how they are used; a backend knows of no shape.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from lossd.backends._exports import ALIGNMENT, Exported, Exports, Resident, whole_pages
from lossd.backends._means import are_faint, shrunk_totals
from lossd.backends._rates import Rates
from lossd.backends._rounding import Array, round_into
from lossd.batch import Batch
from lossd.kernels.host import SoftCountsKernel, TokenKernel, TokenSums
from lossd.losses import BodyResult
from lossd.networks import DeviceNetwork, Network
from lossd.reduction import Flags, Floats

__all__ = [
    "ALIGNMENT",
    "Array",
    "Backend",
    "Body",
    "Compute",
    "Computed",
    "Exported",
    "Exports",
    "Make",
    "Piece",
    "PreparedCall",
    "Rates",
    "Resident",
    "Take",
    "are_faint",
    "each_row",
    "nonfinite_rows",
    "round_into",
    "settle",
    "shrunk_totals",
    "whole_pages",
]

Body = Callable[..., BodyResult]


@dataclass(slots=True)  # not frozen: that would take twice the time, for every piece
class Piece:
    """Some rows of a batch, on the host, and where their results go.

    ``inputs`` are the rows of each operand as they were given, with the type to compute in.
    ``scale`` is what gradients are multiplied by, one number or one for each row, of the compute
    type; where it is 0, and in ``excluded`` rows, anything may be written.
    ``elements`` is what the sum of a row is divided by, where a body gives a value of each element.
    ``gradients`` and ``outputs`` are places in the reply, in the types that are sent.  ``values``
    is a place for the values, of the compute type, where anybody wants them; ``weights`` are what
    they count in the sum over ``block`` rows each, None for 1.  ``nonfinite`` is a place for the
    flags of rows, in which those of other parts of a row may be set.
    """

    count: int
    inputs: Mapping[str, tuple[Array, np.dtype[Any]]]
    parameters: Mapping[str, Any]
    scale: Any
    excluded: Flags | None
    elements: int
    gradients: Mapping[str, Array]
    outputs: Mapping[str, Array]
    block: int
    nonfinite: Flags
    values: Array | None = None
    weights: Floats | None = None


@dataclass(slots=True)
class Computed:
    """The results of a piece besides its gradients: a value, and perhaps a status, for each row.

    ``nonfinite`` flags the rows with a number that is not finite as it is sent; or such flags were
    set in their place, and ``is_flagged`` tells whether there are any.  A backend that returns
    either has written 0 wherever results do not count; otherwise the host does both.
    ``sums`` are those of weights times values, one a block.  Who gives them has looked whether the
    values are finite, and has left 0 in those of excluded rows; without ``values`` there was no
    place for them.
    ``is_outside`` tells that an input holds a number outside its domain.
    """

    values: Array | None
    statuses: Array | None = None
    nonfinite: Flags | None = None
    sums: Floats | None = None
    is_outside: bool = False
    is_flagged: bool | None = None


# Makes the piece of an index, and takes its result.
Make = Callable[[int], Piece]
Take = Callable[[int, Piece, Computed], None]


@dataclass(frozen=True, slots=True)
class Compute:
    """A function that computes the pieces of a batch, and whether it checks their domains.

    ``is_kernel`` tells that a kernel computes them in place of the body.  A piece of rows has as
    many blocks as ``piece_elements`` hold, but one at least.  ``each`` computes as many pieces as
    it is told, where the backend begins one before another has ended; without it they are computed
    side by side.  ``prepare`` prepares calls for batches of a few rows.
    """

    piece: Callable[[Piece], Computed]
    checks_domains: bool = False
    is_kernel: bool = False
    piece_elements: int = 0
    each: Callable[[int, Make, Take], None] | None = None
    prepare: "Prepare | None" = None


# Prepares calls for a whole batch of a few rows, from the dtypes of its inputs as they are given,
# what gradients are multiplied by, and what the sum of a row is divided by; None where that cannot
# be done.  Such a call takes inputs, a place for the values and one for the gradient with respect
# to the first input; it returns the sum of the values, or None where something is not as usual,
# and what is in the places counts for nothing.
PreparedCall = Callable[[Sequence[Array], Array | None, Array | None], float | None]
Prepare = Callable[[Sequence[np.dtype[Any]], float, int], PreparedCall | None]


class Backend(Protocol):
    """The abilities of a backend, which may be called from many threads."""

    @property
    def name(self) -> str:
        """Its name for callers: "numpy" or "cupy"."""

    @property
    def device(self) -> str:
        """The device, in words."""

    @property
    def bus_id(self) -> str:
        """The place of the device on the PCI bus; "" of a CPU."""

    @property
    def exports(self) -> Exports | None:
        """The memory of its devices that other processes use too; None where there are none."""

    @property
    def threads(self) -> int:
        """How many pieces of a batch it computes at the same time, on the host's memory."""

    @property
    def xp(self) -> Any:
        """The array library that bodies run on here."""

    @property
    def in_cache(self) -> bool:
        """Whether pieces should fit the caches of a CPU, rather than be few and large."""

    def place(self, array: Array, dtype: np.dtype[Any] | None = None) -> Any:
        """Copies an array to the device that computes, into a type, within a ``session``."""

    def fetch(self, array: Any, dtype: np.dtype[Any] | None = None) -> Array:
        """Copies an array or a number back to the host, within a ``session``.

        ``dtype`` is the type that it will be sent in, which a device rounds it to.
        """

    def pin(self, memory: Array) -> Callable[[], None]:
        """Prepares memory that many calls will use for fast copies; returns what undoes that."""

    def session(self) -> contextlib.AbstractContextManager[None]:
        """Begins a session on a device, for all use of ``xp``; never wait for another within it.

        Raises:
            DeviceFull: if the device does not have enough memory.
            DeviceLost: if the device does not answer any more.
        """

    def checks_domains(self, batch: Batch) -> bool:
        """Returns whether what computes a batch tells of numbers outside their domains."""

    def token_kernel(self, batch: Batch) -> TokenKernel | None:
        """Returns the kernel that computes tokens on the host; None if there is but the body."""

    def token_sums(self) -> TokenSums | None:
        """Returns what adds tokens up on the host; None if there is but NumPy."""

    def soft_counts(self, dtype: np.dtype[Any]) -> SoftCountsKernel | None:
        """Returns what counts for the body of a set, None if there is nothing but the body."""

    def compiling_ahead(self) -> contextlib.AbstractContextManager[None]:
        """Compiles kernels side by side as batches are planned, not each at its first use.

        All that was begun is done when this ends.  It is for the start, before there are callers.
        """

    def over_rows(self, batch: Batch, body: Body) -> Compute:
        """Returns a function that runs a body, or a kernel in its place, over a piece of a batch.

        The function takes sessions itself, and raises as ``session`` does.

        Raises:
            InvalidParameter: if a kernel takes the body's place and the body refuses a parameter.
        """

    def side_by_side(self, count: int, work: Callable[[int], None]) -> None:
        """Calls ``work`` with 0 to ``count`` - 1, in any order and perhaps at the same time."""

    def network(self, network: Network, dtype: np.dtype[Any]) -> DeviceNetwork:
        """Returns a network on the device of a ``session``, within it, in a precision."""

    def rates(self) -> Rates | None:
        """Measures how fast it copies; None where nothing is copied.

        Raises:
            BackendUnavailable: if there is no memory for that.
        """

    def close(self) -> None:
        """Ends its threads and frees what it holds."""


def nonfinite_rows(array: Array) -> Flags:
    """Returns which rows of an array hold a number that is not finite."""
    return np.logical_not(np.isfinite(array).all(axis=tuple(range(1, array.ndim))))


def each_row(numbers: Any, array: Any) -> Any:
    """Returns one number for each row, shaped to broadcast over the rows of an array."""
    return numbers.reshape(-1, *(1,) * (array.ndim - 1))


def settle(piece: Piece) -> Flags | None:
    """Takes nothing where the scale is 0, or the row is excluded, also of infinity and NaN.

    Returns the flags of rows with a gradient that is not finite, None if all are.
    """
    nonfinite: Flags | None = None
    is_scaled = piece.scale.all()
    for gradient in piece.gradients.values():
        if not is_scaled:
            gradient[piece.scale == 0] = 0
        if piece.excluded is not None:
            gradient[piece.excluded] = 0
        if not np.isfinite(gradient).all():
            wrong = nonfinite_rows(gradient)
            nonfinite = wrong if nonfinite is None else nonfinite | wrong
    if piece.excluded is not None:
        for output in piece.outputs.values():
            output[piece.excluded] = 0
    return nonfinite
