"""A piece of a batch on the device: sent there, run through the body, and brought back.

Nothing here imports CuPy; whoever calls hands it in.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lossd.backends import Array, Body, Piece, each_row
from lossd.batch import Batch


@dataclass(frozen=True, slots=True)
class Tile:
    """Some rows on the device; ``scale`` is one number, or ``scales`` has one a row."""

    count: int
    operands: dict[str, Any]
    parameters: dict[str, Any]
    scale: float
    scales: Any
    silent: Any
    elements: int
    sources: list[Array]  # kept until the copies are done


@dataclass(frozen=True, slots=True)
class Found:
    """Results of a tile on the device."""

    values: Any
    gradients: Mapping[str, Any]
    outputs: Mapping[str, Any] = field(default_factory=dict)
    statuses: Any = None


def upload(cupy: Any, stream: Any, batch: Batch, piece: Piece) -> Tile:
    """Starts the copies of some rows, and of all that goes with them."""
    sources: list[Array] = []

    def sent(array: Array, dtype: Any) -> Any:
        # Half-precision types are widened here: the device computes in the compute type only.
        source = np.ascontiguousarray(array, dtype)
        sources.append(source)
        place = cupy.empty(source.shape, source.dtype)
        place.set(source, stream=stream)
        return place

    by_row = piece.scale.ndim > 0
    vectors = batch.loss.vectors
    return Tile(
        count=piece.count,
        operands={name: sent(*given) for name, given in piece.inputs.items()},
        parameters={
            name: (sent(value, batch.dtype) if len(value) else None) if name in vectors else value
            for name, value in piece.parameters.items()
        },
        scale=0.0 if by_row else float(piece.scale),
        scales=sent(piece.scale, batch.dtype) if by_row else None,
        silent=None if piece.silent is None else sent(piece.silent, np.uint8),
        elements=piece.elements,
        sources=sources,
    )


def download(stream: Any, source: Any, out: Array) -> Array:
    """Starts a copy into ``out``, or into a new array where ``out`` has gaps.

    What is of another type is rounded to that of ``out`` first, once and on the device: so fewer
    bytes come back, and none of the slow ways in which a CPU rounds is gone.
    """
    source = source.astype(out.dtype, copy=False)
    host = out if out.flags.c_contiguous else np.empty(source.shape, source.dtype)
    source.get(out=host, stream=stream, blocking=False)
    return host


def run_body(cupy: Any, batch: Batch, body: Body, tile: Tile, gradients: Sequence[str]) -> Found:
    """Values, scaled gradients and outputs of a tile, operation by operation."""
    parameters = {
        name: () if value is None and name in batch.loss.vectors else value
        for name, value in tile.parameters.items()
    }
    with np.errstate(all="ignore"):  # a parameter may be beyond the compute type
        evaluation = body(cupy, *tile.operands.values(), **parameters)
        slopes = {name: _scaled(batch, tile, evaluation.gradient(name)) for name in gradients}
    values = evaluation.value
    if values.ndim == 2:
        values = values.sum(axis=-1) / batch.dtype.type(tile.elements)
    return Found(values, slopes, evaluation.outputs, evaluation.statuses)


def _scaled(batch: Batch, tile: Tile, gradient: Any) -> Any:
    if tile.scales is None:
        return gradient * batch.dtype.type(tile.scale)
    return gradient * each_row(tile.scales, gradient)
