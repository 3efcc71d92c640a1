"""How the inputs of a loss are laid out, example by example.  Nothing is ever broadcast."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lossd.batch._job import Array
from lossd.errors import InvalidTensor
from lossd.losses import Holds, Input, Loss


@dataclass(frozen=True, slots=True)
class Operand:
    """An input laid out for computing: axis 0 of ``rows`` counts examples.

    Class indices are int64 and safe to index with.  ``shape`` is the caller's; there the classes
    lie on ``class_axis``, and in ``rows`` on the axis that would be ``class_place`` of it.
    """

    input: Input
    rows: Array
    shape: tuple[int, ...]
    is_classes: bool = False
    class_axis: int = 0
    class_place: int = 0

    def under(self, parameters: Mapping[str, Any]) -> "Operand":
        """The operand with the domain that its input has with these parameters."""
        declared = self.input.under(parameters)
        return self if declared is self.input else replace(self, input=declared)

    @property
    def name(self) -> str:
        """The name of the input."""
        return self.input.name

    def as_type(self, dtype: np.dtype[Any]) -> Array:
        """The rows in the type that is computed in, as computing wants them to lie in memory.

        Integers stay what they are.
        """
        is_integer = self.is_classes or self.input.holds is Holds.LABELS
        return np.require(self.rows, self.rows.dtype if is_integer else dtype, ["C", "A"])

    @property
    def is_moved(self) -> bool:
        """Whether the rows lie in another order than the caller's."""
        return self.class_axis != self.class_place

    def as_given(self, rows: Array) -> Array:
        """An array laid out like ``rows``, in the caller's shape."""
        if not self.is_moved:
            return rows.reshape(self.shape)
        moved = list(self.shape)
        moved.insert(self.class_place, moved.pop(self.class_axis))
        return np.moveaxis(rows.reshape(moved), self.class_place, self.class_axis)


def is_float(array: Array) -> bool:
    # ml_dtypes' bfloat16 is of kind "V" to NumPy.
    return array.dtype.kind == "f" or array.dtype.name == "bfloat16"


def is_number(array: Array) -> bool:
    return is_float(array) or array.dtype.kind in "iub"


@dataclass(frozen=True, slots=True)
class Layout:
    """All operands: ``rows`` examples of ``length`` elements, of ``classes`` classes if of any.

    ``parts`` has the place of each operand's rows among the examples, where it is not all of them;
    ``layers`` is how many layers have maps, if of any.
    """

    operands: tuple[Operand, ...]
    example_shape: tuple[int, ...]
    rows: int
    length: int
    classes: int = 0
    parts: tuple[slice, ...] = ()
    layers: int = 0


def shape_error(name: str, rule: str, shape: tuple[int, ...], hint: str = "") -> InvalidTensor:
    return InvalidTensor(
        f"{name} must have {rule}, got {list(shape)}{hint}", field=f"inputs.{name}.shape"
    )


def lay_out_pointwise(
    loss: Loss, arrays: Mapping[str, Array], parameters: Mapping[str, Any]
) -> Layout:
    """All inputs have one shape; its first ``batch_dims`` axes count examples."""
    first = loss.inputs[0]
    shape = _common_shape(loss, arrays)
    batch_dims = parameters["batch_dims"]
    if batch_dims > len(shape):
        raise shape_error(first.name, f"at least batch_dims = {batch_dims} axes", shape)
    example_shape = shape[:batch_dims]
    length = math.prod(shape[batch_dims:])
    _check_elements(first, shape, length)
    rows = math.prod(example_shape)
    operands = tuple(Operand(i, arrays[i.name].reshape(rows, length), shape) for i in loss.inputs)
    return Layout(operands, example_shape, rows, length)


def _common_shape(loss: Loss, arrays: Mapping[str, Array]) -> tuple[int, ...]:
    first, *others = loss.inputs
    shape = arrays[first.name].shape
    for other in others:
        if arrays[other.name].shape != shape:
            raise shape_error(
                other.name, f"the shape {list(shape)} of {first.name}", arrays[other.name].shape
            )
    return shape


def lay_out_rowwise(
    loss: Loss, arrays: Mapping[str, Array], parameters: Mapping[str, Any]
) -> Layout:
    """The first input has a class axis; the others have its shape, or are class indices without."""
    first = loss.inputs[0]
    shape = arrays[first.name].shape
    axis = _class_axis(first, shape, parameters.get("class_axis", -1), examples=0)
    example_shape = shape[:axis] + shape[axis + 1 :]
    rows = math.prod(example_shape)
    axes = _ClassAxes(axis, len(shape) - 1, (rows, shape[axis]), (rows,))
    operands = _class_operands(loss, arrays, axes)
    return Layout(operands, example_shape, rows, shape[axis], shape[axis])


def lay_out_regionwise(
    loss: Loss, arrays: Mapping[str, Array], parameters: Mapping[str, Any]
) -> Layout:
    """Axis 0 counts examples, all others elements but for a class axis, which comes next to it."""
    first = loss.inputs[0]
    shape = arrays[first.name].shape
    if not shape:
        raise shape_error(first.name, "an axis of examples", shape)
    rows, length = shape[0], math.prod(shape[1:])
    if parameters.get("class_axis") is None:
        _common_shape(loss, arrays)
        _check_elements(first, shape, length)
        operands = tuple(
            Operand(i, arrays[i.name].reshape(rows, length), shape) for i in loss.inputs
        )
        return Layout(operands, shape[:1], rows, length)
    axis = _class_axis(first, shape, parameters["class_axis"], examples=1)
    _check_elements(first, shape, length)
    classes = shape[axis]
    elements = length // classes
    axes = _ClassAxes(axis, 1, (rows, classes, elements), (rows, elements))
    operands = _class_operands(loss, arrays, axes)
    return Layout(operands, shape[:1], rows, length, classes)


def _check_elements(declared: Input, shape: tuple[int, ...], length: int) -> None:
    if length == 0:
        raise shape_error(declared.name, "at least one element an example", shape)


def lay_out_setwise(
    loss: Loss, arrays: Mapping[str, Array], parameters: Mapping[str, Any]
) -> Layout:
    """All inputs have one shape: axis 0 counts examples, and axis 1, if there is one, labels."""
    del parameters
    first = loss.inputs[0]
    shape = _common_shape(loss, arrays)
    if len(shape) not in (1, 2):
        raise shape_error(first.name, "an axis of examples and at most one of labels", shape)
    rows, length = shape[0], math.prod(shape[1:])
    if length == 0:
        raise shape_error(first.name, "at least one label", shape)
    operands = tuple(Operand(i, arrays[i.name].reshape(rows, length), shape) for i in loss.inputs)
    return Layout(operands, shape[:1], rows, length)


def _class_axis(declared: Input, shape: tuple[int, ...], axis: int, *, examples: int) -> int:
    """The axis of classes, counted from the front; the first ``examples`` axes are not it."""
    found = axis + len(shape) if axis < 0 else axis
    if not examples <= found < len(shape):
        behind = " behind that of the examples" if examples else ""
        raise shape_error(declared.name, f"an axis {axis} of classes{behind}", shape)
    if shape[found] == 0:
        raise shape_error(declared.name, "at least one class", shape)
    return found


@dataclass(frozen=True, slots=True)
class _ClassAxes:
    """Where the classes are and where they go, and the shapes of rows with and without them."""

    axis: int
    place: int
    shares: tuple[int, ...]
    indices: tuple[int, ...]


def _class_operands(
    loss: Loss, arrays: Mapping[str, Array], axes: _ClassAxes
) -> tuple[Operand, ...]:
    """Inputs of the first one's shape, and class indices, which lack the class axis."""
    first, *others = loss.inputs
    shape = arrays[first.name].shape
    without = shape[: axes.axis] + shape[axes.axis + 1 :]

    def moved(declared: Input) -> Operand:
        rows = arrays[declared.name]
        if axes.axis != axes.place:
            rows = np.moveaxis(rows, axes.axis, axes.place)
        rows = np.ascontiguousarray(rows).reshape(axes.shares)
        return Operand(declared, rows, shape, class_axis=axes.axis, class_place=axes.place)

    operands = [moved(first)]
    for other in others:
        array = arrays[other.name]
        possible = _shapes_beside(other, shape, without)
        if array.shape not in possible:
            rule = " or ".join(f"the shape {list(one)}{what}" for one, what in possible.items())
            raise shape_error(other.name, rule, array.shape, _class_hint(loss, shape, array.shape))
        if array.shape == without:
            operands.append(_index_operand(other, array, axes.indices))
        else:
            operands.append(moved(other))
    return tuple(operands)


def _class_hint(loss: Loss, shape: tuple[int, ...], indices: tuple[int, ...]) -> str:
    """Where the classes would have to be for class indices of a shape, PyTorch's order first."""
    axes = [axis for axis in range(len(shape)) if shape[:axis] + shape[axis + 1 :] == indices]
    if not axes:
        return ""
    axis = 1 if 1 in axes else axes[0]
    if any(parameter.name == "class_axis" for parameter in loss.layout_parameters):
        return f": they would fit class_axis={axis}"
    return f": they would fit classes on axis {axis}, which must be the last"


def _shapes_beside(
    other: Input, shape: tuple[int, ...], without: tuple[int, ...]
) -> Mapping[tuple[int, ...], str]:
    """The shapes that an input may have beside one of classes, and what they mean."""
    if other.holds is Holds.INDICES:
        return {without: " for class indices"}
    if other.holds is Holds.CLASSES:
        return {without: " for class indices", shape: ""}
    return {shape: ""}


def _index_operand(declared: Input, array: Array, shape: tuple[int, ...]) -> Operand:
    if array.size and array.dtype.kind not in "iub":  # an empty list has no type
        raise InvalidTensor(
            f"{declared.name} must be integers where they are class indices, "
            f"got {array.dtype.name}",
            field=f"inputs.{declared.name}.dtype",
        )
    return Operand(declared, array.reshape(shape), array.shape, is_classes=True)
