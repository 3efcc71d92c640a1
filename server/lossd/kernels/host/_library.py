"""The compiled kernels: which there are, and how they are called.

The library is opened with ctypes, which lets other threads run while a kernel does.
"""

import ctypes
import functools
import math
import platform
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from lossd.kernels._launch import Kind
from lossd.kernels.host._source import TYPES, HostText, digest, signature
from lossd.losses import Choices, Interval

Array = npt.NDArray[Any]

LIBRARY = Path(__file__).parent / "_compiled" / "lossd_host.so"

# The options of the compiler for each instruction set of a machine, from the plainest on.
VARIANTS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "x86_64": {
        "v2": ("-march=x86-64-v2",),
        "v3": ("-march=x86-64-v3",),
        "v4": ("-march=x86-64-v4", "-mprefer-vector-width=512"),
    },
    "aarch64": {"v0": ()},
}


class NoLibraryError(Exception):
    """There are no compiled kernels, and why."""


# What structures.hpp calls an Input and a Call, and where the answer is in it.
_MOST_INPUTS = 4
_CALL = struct.Struct(
    "<5q" + "Qiidd" * _MOST_INPUTS + "2d5Q2i5Q" + "Qi4x" * (_MOST_INPUTS - 1) + "2q"
)
_ANSWER = struct.Struct("<2q")
_ANSWER_PLACE = _CALL.size - _ANSWER.size
# What entry.cpp calls a Prepared: this before and behind its Call, and the most rows of one.
_PREPARED_HEAD, _PREPARED_TAIL = struct.Struct("<Q"), struct.Struct("<4q")
_MOST_PREPARED_ROWS = 1 << 13
_SIZES = 5  # numbers before the inputs
_NO_INPUT = (0, 0, 0, 0.0, 0.0)
_NO_GRADIENT = (0, 0)
_KINDS = {
    np.dtype(kind): number
    for number, kind in enumerate(
        (np.float16, ml_dtypes.bfloat16, np.float32, np.float64, np.bool_, np.int8, np.uint8,
         np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64),
        start=1,
    )
}  # fmt: skip
_ANY, _BETWEEN, _EITHER = range(3)
Domain = Interval | Choices | None


@dataclass(frozen=True, slots=True)
class KernelSummary:
    """The results of a kernel for some rows, besides what it writes.

    ``sums`` are those of weights times values, one a block of rows.  ``nonfinite_rows`` counts the
    rows that it flagged; ``is_outside`` tells that an input holds a number that is not in its
    domain.
    """

    sums: npt.NDArray[np.float64]
    nonfinite_rows: int
    is_outside: bool


class Library:
    """The compiled kernels, for one of the instruction sets that this machine has.

    Raises:
        NoLibraryError: if there are none, if they were compiled from other texts, or if the
            machine has not the instructions.
    """

    def __init__(self, path: Path = LIBRARY, variant: str | None = None) -> None:
        if not path.is_file():
            raise NoLibraryError(
                "none were compiled when lossd was installed, as without a C++ compiler"
            )
        try:
            self._handle = ctypes.CDLL(str(path))
            self._call_prepared = _call_prepared(path)
            self._handle.lossd_host_digest.restype = ctypes.c_char_p
            compiled = self._handle.lossd_host_digest().decode()
        except (OSError, AttributeError) as error:
            raise NoLibraryError(f"{path} cannot be opened: {error}") from error
        if compiled != digest():
            raise NoLibraryError(
                "they were compiled from other texts: python -m lossd.kernels.host"
            )
        self.variants = _usable_variants(self._handle.lossd_host_level())
        if variant is None and not self.variants:
            raise NoLibraryError("the processor is older than x86-64-v2")
        self.variant = variant or self.variants[-1]

    @property
    def instructions(self) -> str:
        """The instruction set that the kernels are of, in words."""
        machine = platform.machine()
        return machine if self.variant == "v0" else f"{machine}-{self.variant}".replace("_", "-")

    def kernel(self, text: HostText, dtype: np.dtype[Any]) -> "HostKernel":
        """The kernel of a text, for float32 or float64."""
        type_name = _type_name(dtype)
        entry = self._entry(text.name, dtype)
        arguments = signature(text, type_name)
        template = text.template
        return HostKernel(
            entry,
            dtype,
            tuple(a.name for a in arguments if a.kind is not Kind.ARRAY),
            tuple(a.name for a in arguments if a.kind is Kind.ARRAY),
            self._call_prepared,
            gives_statuses=template is not None and template.gives_statuses,
            gradients=text.gradients,
        )

    def soft_counts(self, dtype: np.dtype[Any]) -> "SoftCountsKernel":
        """Returns the kernel that counts over all examples, in float32 or float64."""
        return SoftCountsKernel(self._entry("count", dtype), self._entry("slope", dtype), dtype)

    def _entry(self, name: str, dtype: np.dtype[Any]) -> Any:
        entry = getattr(self._handle, f"lossd_host_{self.variant}_{name}_{_type_name(dtype)}")
        entry.argtypes, entry.restype = (ctypes.c_void_p,), ctypes.c_bool
        return entry


def _type_name(dtype: np.dtype[Any]) -> str:
    return next(name for name, known in TYPES.items() if known == dtype)


def _call_prepared(path: Path) -> Any:
    """The function that makes prepared calls.

    They take less time than another thread would to take the interpreter's lock and give it back,
    so it keeps the lock.
    """
    function = ctypes.PyDLL(str(path)).lossd_host_call_prepared
    function.argtypes = (ctypes.c_void_p,) * (_MOST_INPUTS + 3)
    function.restype = ctypes.c_double
    return function


def _usable_variants(level: int) -> tuple[str, ...]:
    """The instruction sets of this machine, from the plainest on."""
    known = VARIANTS.get(platform.machine(), {})
    return tuple(name for name in known if int(name[1:]) <= level)


@dataclass(frozen=True, slots=True)
class KernelInput:
    """An input of a kernel: rows as they were given, or class indices, and where they must be."""

    rows: Array
    domain: Domain = None


@dataclass(frozen=True, slots=True)
class PreparedInput:
    """An input of a prepared call, but for its numbers; ``classes`` are how many its labels name.

    Without ``classes`` it holds rows as a ``KernelInput`` does.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    domain: Domain = None
    classes: int | None = None


class PreparedCall:
    """A call of a kernel for a few rows, of which all is known but where its arrays lie.

    May be called from many threads.  ``kept`` is what it has addresses of.
    """

    def __init__(self, function: Any, encoded: bytes, kept: tuple[object, ...]) -> None:
        self._call = functools.partial(function, ctypes.create_string_buffer(encoded, len(encoded)))
        self._kept = kept

    def __call__(
        self, inputs: Sequence[Array], values: Array | None, gradient: Array | None
    ) -> float | None:
        """Writes values and gradient, and returns the sum of the values.

        The inputs must be in C order, and those for which it was prepared but for their numbers.
        Returns None where a number is not finite, a label no class or an input outside its domain:
        what was written then counts for nothing.
        """
        first, second, third, fourth, *_ = (*map(id, inputs), 0, 0, 0)
        found: float = self._call(
            first,
            second,
            third,
            fourth,
            0 if values is None else id(values),
            0 if gradient is None else id(gradient),
        )
        return found if math.isfinite(found) else None


class HostKernel:
    """A compiled text; may be called from many threads."""

    def __init__(
        self,
        entry: Any,
        dtype: np.dtype[Any],
        numbers: Sequence[str],
        vectors: Sequence[str],
        call_prepared: Any,
        *,
        gives_statuses: bool = False,
        gradients: tuple[str, ...] = (),
    ) -> None:
        self.gives_statuses = gives_statuses
        self.gradients = gradients  # the inputs with respect to which it writes them
        self._call_prepared = call_prepared
        self._entry = entry
        self._dtype = dtype
        self._numbers, self._vectors = numbers, vectors
        self._pack_numbers = struct.Struct(f"<{len(numbers)}d").pack
        self._pack_vectors = struct.Struct(f"<{len(vectors)}Q").pack

    def rounds_to(self, dtype: np.dtype[Any]) -> bool:
        """Returns whether it can write a gradient of a type."""
        return dtype == self._dtype or (self._dtype == np.float32 and dtype.itemsize == 2)

    def prepared(
        self,
        inputs: Sequence[PreparedInput],
        parameters: Mapping[str, Any],
        *,
        gradient: np.dtype[Any] | None,
        scale: float,
        elements: int,
    ) -> PreparedCall | None:
        """Prepares calls for a few rows, all of which are summed together; the rest is as there.

        Returns None where a call would have to do more than that.
        """
        rows, *inner = inputs[0].shape
        labels = [number for number, one in enumerate(inputs) if one.classes is not None]
        is_known = all(one.dtype in _KINDS for one in inputs)
        is_few = 0 < rows <= _MOST_PREPARED_ROWS and len(inner) == 1
        if not (is_known and is_few) or self.gives_statuses or len(labels) > 1:
            return None
        numbers = self._pack_numbers(*[_number(parameters[name]) for name in self._numbers])
        vectors = [_vector(parameters[name], self._dtype) for name in self._vectors]
        addresses = self._pack_vectors(*[_address(vector) for vector in vectors])
        packed = [
            part
            for one in inputs
            for part in (0, _KINDS[one.dtype], *_rule(one.domain, self._dtype))
        ]
        packed += _NO_INPUT * (_MOST_INPUTS - len(inputs))
        second = inputs[1].shape[1:]
        call = _CALL.pack(
            *(rows, inner[0], rows, 1, second[0] if second else 0),
            *packed,
            *(elements, scale, 0, 0, 0, 0, 0),
            *(0 if gradient is None else _KINDS[gradient], 0, 0),
            *(_bytes_address(numbers), _bytes_address(addresses), 0, 0),
            *(_NO_GRADIENT * (_MOST_INPUTS - 1)),
            *(0, 0),
        )
        labelled = inputs[labels[0]] if labels else None
        encoded = b"".join((
            _PREPARED_HEAD.pack(ctypes.cast(self._entry, ctypes.c_void_p).value),
            call,
            _PREPARED_TAIL.pack(
                labels[0] if labels else -1,
                0 if labelled is None else _KINDS[labelled.dtype],
                0 if labelled is None else labelled.classes,
                object.__basicsize__,
            ),
        ))  # fmt: skip
        return PreparedCall(self._call_prepared, encoded, (numbers, addresses, *vectors))

    def __call__(
        self,
        inputs: Sequence[KernelInput],
        parameters: Mapping[str, Any],
        *,
        nonfinite: npt.NDArray[np.bool_],
        values: Array | None = None,
        gradient: Array | None = None,
        scale: Any = 1.0,
        elements: int = 1,
        excluded: npt.NDArray[np.bool_] | None = None,
        weights: npt.NDArray[np.float64] | None = None,
        block: int | None = None,
        streams: bool = False,
        statuses: npt.NDArray[np.uint8] | None = None,
        others: Sequence[Array | None] = (),
    ) -> KernelSummary:
        """Computes some rows.

        ``inputs`` have an axis of rows and perhaps one of columns, or two of parts and what they
        hold; a kernel that ``gives_statuses`` writes one a row.  ``scale`` is what
        derivatives are multiplied by, one number or one a row of the compute type, and ``elements``
        what the sum of a row of elements is divided by.  ``block`` rows are summed together, all if
        it is None; with ``streams`` the gradient is not left in the caches.  Writes ``values``, one
        a row, the ``gradient`` with respect to the first input, and ``others`` with respect to the
        next of ``gradients``, and sets flags in ``nonfinite``.

        Raises:
            MemoryError: if there is not the room for a row.
        """
        given = [(_ready(one.rows, self._dtype), one.domain) for one in inputs]
        rows, *inner = given[0][0].shape
        columns, parts = math.prod(inner), inner[0] if len(inner) > 1 else 1
        second = [size for array, _ in given[1:2] for size in array.shape[1:]]
        packed = [part for one in given for part in _input(*one, self._dtype)]
        numbers = self._pack_numbers(*[_number(parameters[name]) for name in self._numbers])
        vectors = [_vector(parameters[name], self._dtype) for name in self._vectors]
        addresses = self._pack_vectors(*[_address(vector) for vector in vectors])
        scales = scale if getattr(scale, "ndim", 0) else None
        block = block or max(rows, 1)
        sums = np.empty(-(-rows // block))
        call = _packed(
            packed,
            rows,
            columns,
            block,
            parts,
            second[0] if second else 0,
            elements,
            0.0 if scales is not None else float(scale),
            _address(scales),
            _address(excluded),
            _address(weights),
            _address(values),
            _address(gradient),
            0 if gradient is None else _KINDS[gradient.dtype],
            streams,
            _address(nonfinite),
            _bytes_address(numbers),
            _bytes_address(addresses),
            _address(sums),
            _address(statuses),
            others=others,
        )
        if not self._entry(call):
            raise MemoryError(f"a row of {columns} columns needs more memory than there is")
        nonfinite_rows, outside = _ANSWER.unpack_from(call, _ANSWER_PLACE)
        return KernelSummary(sums, nonfinite_rows, bool(outside))


class SoftCountsKernel:
    """Counts of logits against true shares; may be called from many threads.

    See ``lossd.losses.SoftCounts``.
    """

    def __init__(self, count: Any, slope: Any, dtype: np.dtype[Any]) -> None:
        self._count, self._slope = count, slope
        self._dtype = dtype

    def count(
        self, predictions: Array, targets: Array, weights: Array | None, products: Array | None
    ) -> npt.NDArray[np.float64]:
        """See ``SoftCounts.count``."""
        counts = np.empty((3, predictions.shape[1]))
        self._call(self._count, (predictions, targets), weights, products, sums=_address(counts))
        return counts

    def slope(
        self,
        targets: Array,
        weights: Array | None,
        by_share: tuple[Array, Array],
        products: Array,
    ) -> None:
        """See ``SoftCounts.slope``."""
        addresses = struct.pack("<2Q", *map(_address, by_share))
        vectors = _bytes_address(addresses)
        self._call(self._slope, (targets, targets), weights, products, vectors=vectors)

    def _call(
        self,
        entry: Any,
        inputs: Sequence[Array],
        weights: Array | None,
        products: Array | None,
        *,
        sums: int = 0,
        vectors: int = 0,
    ) -> None:
        rows, labels = inputs[0].shape
        packed = [part for one in inputs for part in _input(one, None, self._dtype)]
        places = (0, 0, _address(weights), 0, _address(products))
        kind = 0 if products is None else _KINDS[products.dtype]
        call = _packed(
            packed, rows, labels, 0, 1, 0, 1.0, 1.0, *places, kind, 0, 0, 0, vectors, sums, 0
        )
        if not entry(call):
            raise MemoryError(f"sums of {labels} labels need more memory than there is")


def _packed(inputs: Sequence[Any], *numbers: Any, others: Sequence[Array | None] = ()) -> Any:
    """A call as the library reads it, from what is in it before and after the inputs."""
    gradients = [part for one in others for part in _gradient(one)]
    gradients += _NO_GRADIENT * (_MOST_INPUTS - 1 - len(others))
    sizes, rest = numbers[:_SIZES], numbers[_SIZES:]
    unused = _NO_INPUT * (_MOST_INPUTS - len(inputs) // len(_NO_INPUT))
    return ctypes.create_string_buffer(
        _CALL.pack(*sizes, *inputs, *unused, *rest, *gradients, 0, 0), _CALL.size
    )


def _gradient(place: Array | None) -> tuple[int, int]:
    return _NO_GRADIENT if place is None else (_address(place), _KINDS[place.dtype])


def _ready(rows: Array, dtype: np.dtype[Any]) -> Array:
    """Rows as a kernel reads them: side by side, and of a type that it knows."""
    return np.ascontiguousarray(rows, None if rows.dtype in _KINDS else dtype)


def _input(rows: Array, domain: Domain, dtype: np.dtype[Any]) -> tuple[Any, ...]:
    return (_address(rows), _KINDS[rows.dtype], *_rule(domain, dtype))


@functools.lru_cache(maxsize=256)
def _rule(domain: Domain, dtype: np.dtype[Any]) -> tuple[int, float, float]:
    """A domain as the first and last number within it, or the two numbers that it is."""
    if domain is None:
        return _ANY, 0.0, 0.0
    if isinstance(domain, Choices):
        if len(domain.numbers) > 2:
            raise ValueError(f"a kernel knows two choices, got {domain}")
        first, *others = domain.numbers
        return _EITHER, first, others[0] if others else first
    low, high = dtype.type(domain.low), dtype.type(domain.high)
    if domain.low_open:
        low = np.nextafter(low, dtype.type(np.inf))
    if domain.high_open:
        high = np.nextafter(high, dtype.type(-np.inf))
    return _BETWEEN, float(low), float(high)


def _number(value: Any) -> float:
    """Unset is NaN, true and false are 1 and 0."""
    return np.nan if value is None else float(value)


def _vector(value: Any, dtype: np.dtype[Any]) -> Array | None:
    return np.ascontiguousarray(value, dtype) if len(value) else None


def _address(array: Array | None) -> int:
    """Where the data of an array begins: the first field of one, as NumPy's C interface has it.

    NumPy's own attributes make a dictionary or an object of it, which takes ten times as long.
    """
    if array is None:
        return 0
    return ctypes.c_void_p.from_address(id(array) + object.__basicsize__).value or 0


def _bytes_address(data: bytes) -> int:
    return ctypes.c_void_p.from_buffer(ctypes.c_char_p(data)).value or 0
