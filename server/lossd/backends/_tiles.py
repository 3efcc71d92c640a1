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
from lossd.batch import Batch
from lossd.kernels import is_stored
from lossd.losses._maths.masked_products import selected


@dataclass(frozen=True, slots=True)
class Tile:
    """Some rows on the device, with one ``scale``, or with ``scales`` that have one for each row.

    The operands are as they came, perhaps in 16 bits; ``types`` are those that a body takes, and
    ``sent_types`` those of the gradients.
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
    sources: list[Array]  # kept alive until the copies are done


@dataclass(frozen=True, slots=True)
class Found:
    """Results of a tile on the device."""

    values: Any
    gradients: Mapping[str, Any]
    outputs: Mapping[str, Any] = field(default_factory=dict)
    statuses: Any = None
    nonfinite: Any = None  # rows with a number that is not finite as it is sent


def upload(cupy: Any, stream: Any, batch: Batch, piece: Piece) -> Tile:
    """Starts to copy some rows, and everything that goes with them, to the device."""
    sources: list[Array] = []

    def sent(array: Array, dtype: Any) -> Any:
        source = np.ascontiguousarray(array, dtype)
        sources.append(source)
        place = cupy.empty(source.shape, source.dtype)
        place.set(source, stream=stream)
        return place

    by_row = piece.scale.ndim > 0
    vectors = batch.loss.vectors
    return Tile(
        count=piece.count,
        operands={n: sent(a, _type_on_device(a, dtype)) for n, (a, dtype) in piece.inputs.items()},
        types={name: dtype for name, (_, dtype) in piece.inputs.items()},
        parameters={
            name: (sent(value, batch.dtype) if len(value) else None) if name in vectors else value
            for name, value in piece.parameters.items()
        },
        scale=0.0 if by_row else float(piece.scale),
        scales=sent(piece.scale, batch.dtype) if by_row else None,
        excluded=None if piece.excluded is None else sent(piece.excluded, np.uint8),
        elements=piece.elements,
        sent_types={name: out.dtype for name, out in piece.gradients.items()},
        sources=sources,
    )


def _type_on_device(array: Array, dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Returns the type to send: floats as they are, to be widened there; integers as indices."""
    return array.dtype if dtype.kind == "f" and is_stored(array.dtype) else dtype


def download(stream: Any, source: Any, out: Array) -> Array:
    """Starts a copy into ``out``, or into a new array where ``out`` has gaps.

    An array of another type than ``out`` is converted on the device first.
    """
    source = source.astype(out.dtype, copy=False)
    host = out if out.flags.c_contiguous else np.empty(source.shape, source.dtype)
    source.get(out=host, stream=stream, blocking=False)
    return host


def nonfinite_of(cupy: Any, arrays: Iterable[Any]) -> Any:
    """Returns which rows of one or more arrays hold a number that is not finite."""
    looked = (cupy.isfinite(array) for array in arrays)
    rows = (x if x.ndim == 1 else x.all(axis=tuple(range(1, x.ndim))) for x in looked)
    return ~functools.reduce(operator.and_, rows)


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
        values = values.sum(axis=-1) / batch.dtype.type(tile.elements)
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
    return Found(values, sent, outputs, evaluation.statuses, nonfinite)


def _scaled(cupy: Any, batch: Batch, tile: Tile, gradient: Any) -> Any:
    """Returns a gradient times its scale; where the scale is 0 so is the result, even for NaN."""
    if tile.scales is not None:
        return selected(cupy, each_row(tile.scales, gradient), gradient)
    scale = batch.dtype.type(tile.scale)
    return gradient * scale if scale else cupy.zeros_like(gradient)
