"""A piece of a batch on the device: sent there, run through the body, and brought back.

Nothing here imports CuPy; the caller passes it in.
"""

import functools
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lossd.backends import Array, Body, Piece, each_row
from lossd.backends._exports import Exports, Resident
from lossd.backends._means import shrunk_means
from lossd.backends._pinned import PinnedMemory, Staging
from lossd.batch import Batch
from lossd.kernels import is_stored
from lossd.losses import selected


@dataclass(frozen=True, slots=True)
class Tile:
    """Some rows on the device, with one ``scale``, or with ``scales`` that have one for each row.

    The operands are as they came, perhaps in 16 bits; ``types`` are those that a body takes, and
    ``sent_types`` those of the gradients.  ``places`` are those of gradients that stay there.
    """

    count: int
    operands: dict[str, Any]
    types: Mapping[str, np.dtype[Any]]
    parameters: dict[str, Any]
    scale: float
    scales: Any
    excluded: Any
    elements: int
    sent_types: Mapping[str, np.dtype[Any]]
    places: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Found:
    """Results of a tile on the device."""

    values: Any
    gradients: Mapping[str, Any]
    outputs: Mapping[str, Any] = field(default_factory=dict)
    statuses: Any = None
    flags: Any = None  # of rows: numbers that are not finite as they are sent, or as a kernel says


@dataclass(frozen=True, slots=True)
class Staged:
    """The arrays of a piece on the host, ready to be copied to a device.

    ``vectors`` are those parameters that have a number for each row, or for each of some columns.
    They stay alive until the copies are done.
    """

    operands: dict[str, Array]
    vectors: dict[str, Array]
    scales: Array | None
    excluded: Array | None


def stage(batch: Batch, piece: Piece, staging: Staging, pinned: PinnedMemory) -> Staged:
    """Brings the arrays of a piece to where a device can copy them from."""

    def ready(array: Array, dtype: Any) -> Array:
        return _source(array, np.dtype(dtype), staging, pinned)

    return Staged(
        operands={
            name: ready(array, type_on_device(array, dtype))
            for name, (array, dtype) in piece.inputs.items()
        },
        vectors={
            name: ready(value, batch.dtype)
            for name, value in piece.parameters.items()
            if name in batch.loss.vectors and len(value) and value is not batch.parameters[name]
        },
        scales=ready(piece.scale, batch.dtype) if piece.scale.ndim else None,
        excluded=None if piece.excluded is None else ready(piece.excluded, np.uint8),
    )


def _source(array: Array, dtype: np.dtype[Any], staging: Staging, pinned: PinnedMemory) -> Array:
    """Returns an array itself if it is pinned, else a copy that is, if there is room for one.

    One that is on the device already stays there.
    """
    if isinstance(array, Resident):
        return array
    if array.dtype == dtype and array.flags.c_contiguous and pinned.holds(array):
        return array
    place = staging.take(array.shape, dtype)
    if place is None:
        return np.ascontiguousarray(array, dtype)
    place[...] = array
    return place


def send(cupy: Any, stream: Any, source: Array) -> Any:
    """Starts to copy an array to the device, into memory that belongs to the current stream."""
    place = cupy.empty(source.shape, source.dtype)
    place.set(source, stream=stream)
    return place


def upload(  # noqa: PLR0917 - all that makes a tile
    cupy: Any,
    stream: Any,
    piece: Piece,
    staged: Staged,
    vectors: Mapping[str, Any],
    exports: Exports,
) -> Tile:
    """Starts to copy some rows to the device; ``vectors`` are the parameters that are there."""

    def sent(array: Array) -> Any:
        resident = exports.on_device(array)
        return send(cupy, stream, array) if resident is None else resident

    by_row = piece.scale.ndim > 0
    return Tile(
        count=piece.count,
        operands={name: sent(array) for name, array in staged.operands.items()},
        types={name: dtype for name, (_, dtype) in piece.inputs.items()},
        parameters={
            **piece.parameters,
            **vectors,
            **{name: sent(array) for name, array in staged.vectors.items()},
        },
        scale=0.0 if by_row else float(piece.scale),
        scales=None if staged.scales is None else sent(staged.scales),
        excluded=None if staged.excluded is None else sent(staged.excluded),
        elements=piece.elements,
        sent_types={name: out.dtype for name, out in piece.gradients.items()},
        places={
            name: exports.on_device(out)
            for name, out in piece.gradients.items()
            if isinstance(out, Resident)
        },
    )


def type_on_device(array: Array, dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Returns the type to send: floats as they are, to be widened there; integers as indices."""
    return array.dtype if dtype.kind == "f" and is_stored(array.dtype) else dtype


def download(stream: Any, source: Any, out: Array, staging: Staging, pinned: PinnedMemory) -> Array:
    """Starts a copy towards ``out``; returns where it arrives, perhaps in ``out`` itself."""
    host = out if out.flags.c_contiguous and pinned.holds(out) else None
    if host is None:
        host = staging.take(source.shape, source.dtype)
    if host is None:
        host = out if out.flags.c_contiguous else np.empty(source.shape, source.dtype)
    source.get(out=host, stream=stream, blocking=False)
    return host


def nonfinite_of(cupy: Any, arrays: Iterable[Any]) -> Any:
    """Returns which rows of one or more arrays hold a number that is not finite."""
    looked = (cupy.isfinite(array) for array in arrays)
    rows = (x if x.ndim == 1 else x.all(axis=tuple(range(1, x.ndim))) for x in looked)
    return ~functools.reduce(operator.and_, rows)


def _means(cupy: Any, values: Any, elements: int) -> Any:
    """Returns the means of rows in double: a row may add up to more than its type holds."""
    means = values.sum(axis=-1, dtype=np.float64) / elements
    if values.dtype != np.float64:
        return means
    return cupy.where(cupy.isfinite(means), means, shrunk_means(values, elements))


def run_body(cupy: Any, batch: Batch, body: Body, tile: Tile, gradients: Sequence[str]) -> Found:
    """Computes values, scaled gradients and outputs of a tile, operation by operation."""
    parameters = {
        name: () if value is None and name in batch.loss.vectors else value
        for name, value in tile.parameters.items()
    }
    with np.errstate(all="ignore"):  # a parameter may be beyond the compute type
        inputs = [array.astype(tile.types[n], copy=False) for n, array in tile.operands.items()]
        evaluation = body(cupy, *inputs, **parameters)
        derivatives = {
            name: _scaled(cupy, batch, tile, evaluation.gradient(name)) for name in gradients
        }
    values = evaluation.value
    if values.ndim == 2:
        values = _means(cupy, values, tile.elements).astype(batch.dtype)
    outputs = dict(evaluation.outputs)
    if tile.excluded is not None:
        # Selected, never multiplied: an excluded row may hold NaN.
        excluded = tile.excluded.astype(bool)
        values = cupy.where(excluded, 0, values)
        derivatives = {n: cupy.where(each_row(excluded, s), 0, s) for n, s in derivatives.items()}
        outputs = {name: cupy.where(excluded, 0, output) for name, output in outputs.items()}
    # Rounded before they are checked: rounding may make a finite number infinite.
    sent = {
        name: derivative.astype(tile.sent_types[name], copy=False)
        for name, derivative in derivatives.items()
    }
    nonfinite = nonfinite_of(cupy, (values, *sent.values()))
    return Found(values, sent, outputs, evaluation.statuses, nonfinite.view(np.uint8))


def _scaled(cupy: Any, batch: Batch, tile: Tile, gradient: Any) -> Any:
    """Returns a gradient times its scale; where the scale is 0 so is the result, even for NaN."""
    if tile.scales is not None:
        return selected(cupy, each_row(tile.scales, gradient), gradient)
    scale = batch.dtype.type(tile.scale)
    return gradient * scale if scale else cupy.zeros_like(gradient)
