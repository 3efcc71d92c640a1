"""Embeddings: a few side by side in each example, or one an example to compare with the others."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from lossd.batch._job import Array
from lossd.batch._shapes import Layout, Operand, shape_error
from lossd.errors import TooLarge
from lossd.losses import Extent, Holds, Input, Loss

# Of vectors that are all compared with each other: what is held for one of them is some rows of as
# many numbers.
MAX_COMPARED = 1 << 20


def lay_out_vectors(
    loss: Loss, arrays: Mapping[str, Array], parameters: Mapping[str, Any]
) -> Layout:
    """Vectors along the last axis of inputs of one shape, whose other axes count examples."""
    del parameters
    first = loss.inputs[0]
    shape = arrays[first.name].shape
    if not shape or shape[-1] == 0:
        raise shape_error(first.name, "an axis of at least one component", shape)
    return _lay_out(loss, arrays, shape)


def lay_out_coupled(
    loss: Loss, arrays: Mapping[str, Array], parameters: Mapping[str, Any]
) -> Layout:
    """Embeddings of shape (N, D), what belongs to each of them, and rows to compare them with."""
    del parameters
    first = loss.inputs[0]
    shape = arrays[first.name].shape
    if len(shape) != 2 or shape[1] == 0:
        raise shape_error(
            first.name, "an axis of examples and one of at least one component", shape
        )
    _check_count(first.name, shape)
    return _lay_out(loss, arrays, shape)


def _check_count(name: str, shape: tuple[int, ...]) -> None:
    if shape[0] > MAX_COMPARED:
        raise TooLarge(
            f"{name} must be at most {MAX_COMPARED} vectors to compare, got {shape[0]}",
            field=f"inputs.{name}.shape",
            details={"limit": MAX_COMPARED, "vectors": shape[0]},
        )


def _lay_out(loss: Loss, arrays: Mapping[str, Array], shape: tuple[int, ...]) -> Layout:
    rows, length = math.prod(shape[:-1]), shape[-1]
    given = (i for i in loss.inputs if i.name in arrays)
    operands = tuple(_operand(i, arrays[i.name], loss.inputs[0], shape) for i in given)
    return Layout(operands, shape[:-1], rows, length)


def _operand(declared: Input, array: Array, first: Input, shape: tuple[int, ...]) -> Operand:
    if declared.extent is Extent.EXAMPLES:
        return _example_operand(declared, array, shape[:-1])
    if declared.extent is Extent.ROWS:
        _check_rows(declared, array.shape, *shape)
        return Operand(declared, array, array.shape)
    if array.shape != shape:
        raise shape_error(declared.name, f"the shape {list(shape)} of {first.name}", array.shape)
    return Operand(declared, array.reshape(-1, shape[-1]), shape)


def _example_operand(declared: Input, array: Array, examples: tuple[int, ...]) -> Operand:
    """One number an example, or one label."""
    if array.shape != examples:
        raise shape_error(declared.name, f"the shape {list(examples)} of the examples", array.shape)
    rows = array.reshape(-1)
    if declared.holds is Holds.LABELS:
        rows = rows.astype(np.int64)
    return Operand(declared, rows, examples)


def _check_rows(declared: Input, shape: tuple[int, ...], rows: int, length: int) -> None:
    if len(shape) == 2:
        _check_count(declared.name, shape)
    of_all = len(shape) == 2 and shape[1] == length
    of_each = len(shape) == 3 and (shape[0], shape[2]) == (rows, length)
    if not of_all and not of_each:
        rule = f"the shape [M, {length}] for all examples or [{rows}, M, {length}]"
        raise shape_error(declared.name, rule, shape)
