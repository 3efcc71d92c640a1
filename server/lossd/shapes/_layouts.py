"""Functions that the layouts of several shapes share."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lossd.batch import Array, Given, Slot, is_empty, shape_error
from lossd.errors import InvalidTensor
from lossd.losses import Content, Input, Loss


def common_shape(given: Given) -> tuple[int, ...]:
    """Returns the shape that all inputs have.

    Raises:
        InvalidTensor: if one has another shape.
    """
    shape = given.shape
    for other in given.loss.inputs[1:]:
        check_same_shape(given, other)
    return shape


def check_same_shape(given: Given, other: Input) -> None:
    """Raises InvalidTensor for an input whose shape differs from that of the first."""
    shape = given.arrays[other.name].shape
    if shape != given.shape:
        rule = f"the shape {list(given.shape)} of {given.first.name}"
        raise shape_error(other.name, rule, shape)


def example_slot(given: Given, declared: Input, examples: tuple[int, ...]) -> Slot:
    """Returns the slot of one number for each example, or one label.

    Raises:
        InvalidTensor: for an input that is not shaped like the examples.
    """
    shape = given.arrays[declared.name].shape
    if shape != examples:
        raise shape_error(declared.name, f"the shape {list(examples)} of the examples", shape)
    return Slot(declared, examples, (math.prod(examples),))


def check_elements(declared: Input, shape: tuple[int, ...], length: int) -> None:
    """Raises InvalidTensor for examples without elements."""
    if length == 0:
        raise shape_error(declared.name, "at least one element an example", shape)


def patterns_by_classes(declared: Input, *, has_classes: bool, may_have: bool) -> Sequence[str]:
    """Returns the patterns of an input beside one that has an axis of classes, or may have one."""
    if declared.content is Content.INDICES or not may_have:
        return ("(N, ...)",)
    if declared.content is Content.CLASSES or not has_classes:
        return ("(N, ...)", "(N, ..., C)")
    return ("(N, ..., C)",)


def class_axis(declared: Input, shape: tuple[int, ...], axis: int, *, examples: int) -> int:
    """Returns the axis of classes, counted from the front; the first ``examples`` axes are not it.

    Raises:
        InvalidTensor: for an axis that does not exist, or has no class.
    """
    found = axis + len(shape) if axis < 0 else axis
    if not examples <= found < len(shape):
        behind = " behind that of the examples" if examples else ""
        raise shape_error(declared.name, f"an axis {axis} of classes{behind}", shape)
    if shape[found] == 0:
        raise shape_error(declared.name, "at least one class", shape)
    return found


@dataclass(frozen=True, slots=True)
class ClassAxes:
    """Where the classes are and where they go, and the shapes of rows with and without classes."""

    axis: int
    place: int
    shares: tuple[int, ...]
    indices: tuple[int, ...]


def class_slots(given: Given, axes: ClassAxes) -> tuple[Slot, ...]:
    """Returns slots for inputs of the first one's shape, and for class indices, without that axis.

    Raises:
        InvalidTensor: for an input of another shape, or indices that are no integers.
    """
    first, *others = given.loss.inputs
    shape = given.shape
    without = shape[: axes.axis] + shape[axes.axis + 1 :]

    def moved(declared: Input) -> Slot:
        return Slot(declared, shape, axes.shares, class_axis=axes.axis, class_place=axes.place)

    slots = [moved(first)]
    for other in others:
        array = given.arrays[other.name]
        if array.shape == without and other.content in _MAY_BE_INDICES:
            slots.append(_index_slot(other, array, axes.indices))
        elif array.shape == shape and other.content is not Content.INDICES:
            slots.append(moved(other))
        else:
            hint = _class_hint(given.loss, shape, array.shape)
            raise shape_error(other.name, _rule_beside(other, shape, without), array.shape, hint)
    return tuple(slots)


def _class_hint(loss: Loss, shape: tuple[int, ...], indices: tuple[int, ...]) -> str:
    """Returns where the classes would have to be for indices of a shape, PyTorch's order first."""
    axes = [axis for axis in range(len(shape)) if shape[:axis] + shape[axis + 1 :] == indices]
    if not axes:
        return ""
    axis = 1 if 1 in axes else axes[0]
    if any(parameter.name == "class_axis" for parameter in loss.layout_parameters):
        return f": they would fit class_axis={axis}"
    return f": they would fit classes on axis {axis}, which must be the last"


_MAY_BE_INDICES = (Content.INDICES, Content.CLASSES)


def _rule_beside(other: Input, shape: tuple[int, ...], without: tuple[int, ...]) -> str:
    """Returns the rule for the shape of an input beside one with classes."""
    indices = f"the shape {list(without)} for class indices"
    if other.content is Content.INDICES:
        return indices
    own = f"the shape {list(shape)}"
    return f"{indices} or {own}" if other.content is Content.CLASSES else own


def _index_slot(declared: Input, array: Array, rows_shape: tuple[int, ...]) -> Slot:
    if not is_empty(array) and array.dtype.kind not in "iub":
        raise InvalidTensor(
            f"{declared.name} must be integers where they are class indices, "
            f"got {array.dtype.name}",
            field=f"inputs.{declared.name}.dtype",
        )
    return Slot(declared, array.shape, rows_shape, is_classes=True)
