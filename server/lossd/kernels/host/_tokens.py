"""The kernels of losses of tokens: how they are called."""

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lossd.kernels._domains import Domain
from lossd.kernels._source import number_of
from lossd.kernels.host._calls import KINDS, Array, address, ready, rule

# What is told of each sequence, in the order of tokenwise.hpp.
SAID = (
    "clip_fraction",
    "ratio",
    "largest_ratio",
    "kl",
    "rollout_gap",
    "sampling_kl",
    "entropy",
    "student_mass",
    "teacher_mass",
)
_MOST_INPUTS = 7


class _CallInput(ctypes.Structure):
    """An ``Input`` of structures.hpp."""

    _fields_ = (
        ("place", ctypes.c_void_p),
        ("kind", ctypes.c_int32),
        ("rule", ctypes.c_int32),
        ("low", ctypes.c_double),
        ("high", ctypes.c_double),
    )


class _TokenCall(ctypes.Structure):
    """A ``TokenCall`` of tokenwise.hpp."""

    _fields_ = (
        ("first", ctypes.c_int64),
        ("end", ctypes.c_int64),
        ("starts", ctypes.c_void_p),
        ("sizes", ctypes.c_void_p),
        ("used", ctypes.c_void_p),
        ("mask", ctypes.c_void_p),
        ("silent", ctypes.c_void_p),
        ("scales", ctypes.c_void_p),
        ("shares", ctypes.c_void_p),
        ("inputs", _CallInput * _MOST_INPUTS),
        ("classes", ctypes.c_int64),
        ("by_sequence", ctypes.c_int64),
        ("values", ctypes.c_void_p),
        ("gradient", ctypes.c_void_p),
        ("gradient_first", ctypes.c_int64),
        ("gradient_kind", ctypes.c_int64),
        ("nonfinite", ctypes.c_void_p),
        ("said", ctypes.c_void_p),
        ("numbers", ctypes.c_void_p),
        ("outside", ctypes.c_int64),
    )


@dataclass(frozen=True, slots=True)
class TokenInput:
    """An input of a kernel of tokens: a number for each token, or for each sequence."""

    numbers: Array
    domain: Domain = None
    is_by_sequence: bool = False

    @classmethod
    def of(cls, numbers: Array, domain: Domain, *, is_by_sequence: bool) -> "TokenInput":
        """Returns numbers as a kernel reads them: side by side, and of a type that it knows."""
        return cls(ready(numbers, np.dtype(np.float64)), domain, is_by_sequence)


@dataclass(frozen=True, slots=True)
class TokenRows:
    """The sequences of a batch, and where what is made of them goes.

    Sequence i has ``sizes[i]`` places from ``starts[i]`` on, tokens in the first ``used[i]`` of
    them, of which those count that the ``mask`` says.  ``silent`` ones leave zeros and are not
    looked at.  ``scales`` multiply derivatives and ``shares`` values.  Flags are set in
    ``nonfinite`` where the gradient is not finite.  ``said`` has a row for each sequence, of what
    ``SAID`` names.
    """

    starts: Array
    sizes: Array
    used: Array
    mask: Array | None
    silent: Array | None
    scales: Array
    shares: Array
    values: Array
    nonfinite: Array
    said: Array | None


class TokenKernel:
    """A compiled text of tokens; may be called from many threads.

    All that it computes it computes in float64.
    """

    def __init__(self, entry: Any, numbers: Sequence[str]) -> None:
        self._entry = entry
        self._numbers = numbers

    def over(
        self,
        inputs: Sequence[TokenInput | None],
        parameters: Mapping[str, Any],
        rows: TokenRows,
    ) -> "TokenPieces":
        """Returns what computes a batch piece by piece.

        ``inputs`` are those of the loss, in its order.
        """
        numbers = np.array([number_of(parameters[name]) for name in self._numbers])
        shape = next(one.numbers.shape for one in inputs if one is not None)
        packed = [_CallInput() if one is None else _packed(one) for one in inputs]
        call = _TokenCall(
            0,
            0,
            *map(address, (rows.starts, rows.sizes, rows.used, rows.mask, rows.silent)),
            *map(address, (rows.scales, rows.shares)),
            (_CallInput * _MOST_INPUTS)(*packed),
            shape[1] if len(shape) > 1 else 0,
            sum(one.is_by_sequence << i for i, one in enumerate(inputs) if one is not None),
            values=address(rows.values),
            nonfinite=address(rows.nonfinite),
            said=address(rows.said),
            numbers=address(numbers),
        )
        return TokenPieces(self._entry, call, (inputs, rows, numbers))


@dataclass(frozen=True, slots=True)
class TokenPieces:
    """A batch that a kernel computes piece by piece, on any threads.

    ``alive`` is what its addresses are of.
    """

    entry: Any
    call: _TokenCall
    alive: Any

    def __call__(self, part: slice, gradient: Array | None, first: int = 0) -> bool:
        """Computes some sequences.

        The ``gradient`` is of float32 or float64, and begins with the ``first`` token.

        Returns False where a number of a token that counts is outside its domain.

        Raises:
            MemoryError: if there is not the room for the classes of a token.
        """
        call = _TokenCall.from_buffer_copy(self.call)
        call.first, call.end = part.start, part.stop
        if gradient is not None:
            call.gradient, call.gradient_first = address(gradient), first
            call.gradient_kind = KINDS[gradient.dtype]
        if not self.entry(ctypes.byref(call)):
            raise MemoryError(f"a token of {call.classes} classes needs more memory than there is")
        return not call.outside


class TokenSums:
    """Sums over sequences, in float64; may be called from many threads."""

    def __init__(self, entry: Any) -> None:
        self._entry = entry

    def __call__(  # noqa: PLR0917 - where tokens are, and where sums go
        self,
        pair: Sequence[TokenInput],
        starts: Array,
        used: Array,
        mask: Array | None,
        sums: Array,
        part: slice,
    ) -> None:
        """Writes the ``sums`` of an input, less a second one if given, over some sequences.

        Sequence i has ``used[i]`` tokens from ``starts[i]`` on, of which those count that the
        ``mask`` says.
        """
        call = _TokenCall(first=part.start, end=part.stop)
        call.starts, call.used, call.mask = map(address, (starts, used, mask))
        for position, one in enumerate(pair):
            call.inputs[position] = _packed(one)
        call.values = address(sums)
        self._entry(ctypes.byref(call))


def _packed(given: TokenInput) -> _CallInput:
    told = rule(given.domain, np.dtype(np.float64))
    return _CallInput(address(given.numbers), KINDS[given.numbers.dtype], *told)
