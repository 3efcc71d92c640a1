"""How the inputs of a loss are laid out: one row an example.  Nothing is ever broadcast."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from lossd.batch._job import Array
from lossd.errors import InvalidTensor
from lossd.losses import Holds, Input, Loss, Shape


@dataclass(frozen=True, slots=True)
class Operand:
    """An input laid out for computing: one row an example.

    ``rows`` has two axes, or one for class indices, which are int64 and safe to index with.
    ``shape`` and ``class_axis`` tell how to bring a gradient back into the caller's layout.
    """

    input: Input
    rows: Array
    shape: tuple[int, ...]
    class_axis: int | None = None

    @property
    def is_classes(self) -> bool:
        """Whether it holds class indices."""
        return self.rows.ndim == 1

    @property
    def name(self) -> str:
        """The name of the input."""
        return self.input.name


def is_float(array: Array) -> bool:
    # ml_dtypes' bfloat16 is of kind "V" to NumPy.
    return array.dtype.kind == "f" or array.dtype.name == "bfloat16"


def is_number(array: Array) -> bool:
    return is_float(array) or array.dtype.kind in "iub"


@dataclass(frozen=True, slots=True)
class Layout:
    operands: tuple[Operand, ...]
    example_shape: tuple[int, ...]
    rows: int
    length: int


def _shape_error(name: str, rule: str, shape: tuple[int, ...]) -> InvalidTensor:
    return InvalidTensor(
        f"{name} must have {rule}, got {list(shape)}", field=f"inputs.{name}.shape"
    )


def _lay_out_pointwise(
    loss: Loss, arrays: Mapping[str, Array], parameters: Mapping[str, Any]
) -> Layout:
    """All inputs have one shape; its first ``batch_dims`` axes count examples."""
    first, *others = loss.inputs
    shape = arrays[first.name].shape
    for other in others:
        if arrays[other.name].shape != shape:
            raise _shape_error(
                other.name, f"the shape {list(shape)} of {first.name}", arrays[other.name].shape
            )
    batch_dims = parameters["batch_dims"]
    if batch_dims > len(shape):
        raise _shape_error(first.name, f"at least batch_dims = {batch_dims} axes", shape)
    example_shape = shape[:batch_dims]
    length = math.prod(shape[batch_dims:])
    if length == 0:
        raise _shape_error(first.name, "at least one element an example", shape)
    rows = math.prod(example_shape)
    operands = tuple(Operand(i, arrays[i.name].reshape(rows, length), shape) for i in loss.inputs)
    return Layout(operands, example_shape, rows, length)


def _lay_out_rowwise(
    loss: Loss, arrays: Mapping[str, Array], parameters: Mapping[str, Any]
) -> Layout:
    """The first input has a class axis; the others have its shape, or are class indices without."""
    first, *others = loss.inputs
    shape = arrays[first.name].shape
    axis = parameters.get("class_axis", -1)
    if not -len(shape) <= axis < len(shape):
        raise _shape_error(first.name, f"an axis {axis} of classes", shape)
    axis %= len(shape)
    length = shape[axis]
    if length == 0:
        raise _shape_error(first.name, "at least one class", shape)
    example_shape = shape[:axis] + shape[axis + 1 :]
    rows = math.prod(example_shape)
    operands = [Operand(first, _class_rows(arrays[first.name], axis), shape, axis)]
    for other in others:
        array = arrays[other.name]
        if other.holds is Holds.CLASSES and array.shape == example_shape:
            operands.append(_class_operand(other, array))
            continue
        if array.shape != shape:
            rule = f"the shape {list(example_shape)} for class indices or {list(shape)}"
            raise _shape_error(other.name, rule, array.shape)
        operands.append(Operand(other, _class_rows(array, axis), shape, axis))
    return Layout(tuple(operands), example_shape, rows, length)


def _class_rows(array: Array, axis: int) -> Array:
    """One row of classes an example; a copy unless the classes are the last axis already."""
    moved = np.ascontiguousarray(np.moveaxis(array, axis, -1))
    return moved.reshape(-1, array.shape[axis]) if array.size else moved.reshape(0, moved.shape[-1])


def _class_operand(declared: Input, array: Array) -> Operand:
    if array.dtype.kind not in "iub":
        raise InvalidTensor(
            f"{declared.name} must be integers where they are class indices, "
            f"got {array.dtype.name}",
            field=f"inputs.{declared.name}.dtype",
        )
    return Operand(declared, array.reshape(-1), array.shape)


LAYOUTS: Mapping[Shape, Callable[..., Layout]] = MappingProxyType(
    {Shape.POINTWISE: _lay_out_pointwise, Shape.ROWWISE: _lay_out_rowwise}
)
