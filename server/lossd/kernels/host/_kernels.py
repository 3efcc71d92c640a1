"""Kernels of the compiled library, and how they are called."""

import ctypes
import functools
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd.kernels._domains import Domain
from lossd.kernels._source import number_of
from lossd.kernels.host._calls import (
    ANSWER,
    ANSWER_OFFSET,
    CALL,
    KINDS,
    MOST_PREPARED_ROWS,
    PREPARED_HEAD,
    PREPARED_TAIL,
    Array,
    CallPlaces,
    CallSizes,
    address,
    as_vector,
    bytes_address,
    encoded_call,
    kind_of,
    packed_input,
    ready,
    rule,
    turned,
)


@dataclass(frozen=True, slots=True)
class KernelSummary:
    """The results of a kernel for some rows, besides what it writes.

    ``sums`` are those of weights times values, one for each block of rows.  ``nonfinite_rows``
    counts the rows that it flagged; ``is_outside`` tells that an input holds a number that is not
    in its domain.
    """

    sums: npt.NDArray[np.float64]
    nonfinite_rows: int
    is_outside: bool


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
        checks_domains: bool = True,
        turns: bool = False,
        gradients: tuple[str, ...] = (),
    ) -> None:
        self.gives_statuses = gives_statuses
        self.checks_domains = checks_domains
        self.turns = turns
        self.gradients = gradients  # the inputs with respect to which it writes them
        self._call_prepared = call_prepared
        self._entry = entry
        self._dtype = dtype
        self._numbers, self._vectors = numbers, vectors
        self._pack_numbers = struct.Struct(f"<{len(numbers)}d").pack
        self._pack_vectors = struct.Struct(f"<{len(vectors)}Q").pack

    def _ready(self, rows: Array, *, is_turned: bool) -> Array:
        return ready(rows.transpose(0, 2, 1) if is_turned and rows.ndim > 2 else rows, self._dtype)

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
        """Prepares calls for a few rows, all of which are summed together.

        The other arguments are those of ``__call__``.  Returns None where a call would have to do
        more than that.
        """
        rows, *inner = inputs[0].shape
        labels = [number for number, one in enumerate(inputs) if one.classes is not None]
        is_known = all(one.dtype in KINDS for one in inputs)
        is_few = 0 < rows <= MOST_PREPARED_ROWS and len(inner) == 1
        if not (is_known and is_few) or self.gives_statuses or len(labels) > 1:
            return None
        numbers, addresses, vectors = self._packed(parameters)
        packed = [(0, KINDS[one.dtype], *rule(one.domain, self._dtype)) for one in inputs]
        second = inputs[1].shape[1:]
        call = encoded_call(
            CallSizes(rows, inner[0], block=rows, labels=second[0] if second else 0),
            packed,
            CallPlaces(
                elements=elements,
                scale=scale,
                gradient_kind=0 if gradient is None else KINDS[gradient],
                numbers=bytes_address(numbers),
                vectors=bytes_address(addresses),
            ),
        )
        labelled = inputs[labels[0]] if labels else None
        encoded = b"".join((
            PREPARED_HEAD.pack(ctypes.cast(self._entry, ctypes.c_void_p).value),
            call,
            PREPARED_TAIL.pack(
                labels[0] if labels else -1,
                0 if labelled is None else KINDS[labelled.dtype],
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
        hold, which may lie the other way round in memory if it ``turns`` them; the gradient lies
        like the first.  A kernel that ``gives_statuses`` writes one for each row.  ``scale`` is
        what derivatives are multiplied by, one number or one for each row, of the compute type, and
        ``elements`` what the sum of a row of elements is divided by.  ``block`` rows are summed
        together, all if it is None; with ``streams`` the gradient is not left in the caches.
        Writes ``values``, one for each row, the ``gradient`` with respect to the first input, and
        ``others`` with respect to the next of ``gradients``, and sets flags in ``nonfinite``.

        Raises:
            MemoryError: if there is not the room for a row.
        """
        rows, *inner = inputs[0].rows.shape
        is_turned = self.turns and turned(inputs[0].rows if gradient is None else gradient)
        given = [(self._ready(one.rows, is_turned=is_turned), one.domain) for one in inputs]
        columns, parts = math.prod(inner), inner[0] if len(inner) > 1 else 1
        second = [size for array, _ in given[1:2] for size in array.shape[1:]]
        packed = [packed_input(*one, self._dtype) for one in given]
        numbers, addresses, _alive = self._packed(parameters)
        scales = scale if getattr(scale, "ndim", 0) else None
        block = block or max(rows, 1)
        sums = np.empty(-(-rows // block))
        encoded = encoded_call(
            CallSizes(rows, columns, block, parts, second[0] if second else 0, is_turned),
            packed,
            CallPlaces(
                elements=elements,
                scale=0.0 if scales is not None else float(scale),
                scales=address(scales),
                silent=address(excluded),
                weights=address(weights),
                values=address(values),
                gradient=address(gradient),
                gradient_kind=kind_of(gradient),
                streams=streams,
                nonfinite=address(nonfinite),
                numbers=bytes_address(numbers),
                vectors=bytes_address(addresses),
                sums=address(sums),
                statuses=address(statuses),
            ),
            others,
        )
        call = ctypes.create_string_buffer(encoded, CALL.size)
        if not self._entry(call):
            raise MemoryError(f"a row of {columns} columns needs more memory than there is")
        nonfinite_rows, outside = ANSWER.unpack_from(call, ANSWER_OFFSET)
        return KernelSummary(sums, nonfinite_rows, bool(outside))

    def _packed(self, parameters: Mapping[str, Any]) -> tuple[bytes, bytes, list[Array | None]]:
        """Returns its numbers, the addresses of its vectors, and these, which must live on."""
        numbers = self._pack_numbers(*[number_of(parameters[name]) for name in self._numbers])
        vectors = [as_vector(parameters[name], self._dtype) for name in self._vectors]
        return numbers, self._pack_vectors(*[address(vector) for vector in vectors]), vectors


class SoftCountsKernel:
    """Counts of logits against true shares; may be called from many threads.

    See ``lossd.losses.SoftCounts``; besides, it looks at what it reads and writes.
    """

    def __init__(self, count: Any, slope: Any, dtype: np.dtype[Any]) -> None:
        self._count, self._slope = count, slope
        self._dtype = dtype

    def count(
        self,
        predictions: Array,
        targets: Array,
        weights: Array | None,
        products: Array | None,
        domain: Domain = None,
    ) -> tuple[npt.NDArray[np.float64], bool]:
        """Returns the counts, and whether a target is outside its domain."""
        counts = np.empty((3, predictions.shape[1]))
        inputs = KernelInput(predictions), KernelInput(targets, domain)
        _, outside = self._call(self._count, inputs, weights, products, sums=address(counts))
        return counts, bool(outside)

    def slope(
        self,
        targets: Array,
        weights: Array | None,
        by_share: tuple[Array, Array],
        products: Array,
    ) -> bool:
        """Multiplies products, and returns whether all of them are finite."""
        addresses = struct.pack("<2Q", *map(address, by_share))
        vectors, inputs = bytes_address(addresses), (KernelInput(targets),) * 2
        nonfinite, _ = self._call(self._slope, inputs, weights, products, vectors=vectors)
        return not nonfinite

    def _call(
        self,
        entry: Any,
        inputs: Sequence[KernelInput],
        weights: Array | None,
        products: Array | None,
        *,
        sums: int = 0,
        vectors: int = 0,
    ) -> tuple[int, int]:
        rows, labels = inputs[0].rows.shape
        packed = [packed_input(one.rows, one.domain, self._dtype) for one in inputs]
        places = CallPlaces(
            weights=address(weights),
            gradient=address(products),
            gradient_kind=kind_of(products),
            vectors=vectors,
            sums=sums,
        )
        encoded = encoded_call(CallSizes(rows, labels, block=0), packed, places)
        call = ctypes.create_string_buffer(encoded, CALL.size)
        if not entry(call):
            raise MemoryError(f"sums of {labels} labels need more memory than there is")
        nonfinite, outside = ANSWER.unpack_from(call, ANSWER_OFFSET)
        return nonfinite, outside
