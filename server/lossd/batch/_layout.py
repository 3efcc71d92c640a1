"""How the inputs of a loss are laid out, example by example.  Nothing is ever broadcast."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lossd.batch._job import Array
from lossd.errors import InvalidTensor
from lossd.losses import Holds, Input, Loss
from lossd.networks import Networks, View


@dataclass(frozen=True, slots=True)
class Given:
    """What a layout is made from.  Of the arrays only shapes and types are looked at.

    So what a loss's layout is follows from the header of a request alone.
    """

    loss: Loss
    arrays: Mapping[str, Array]
    parameters: Mapping[str, Any]
    networks: Networks

    @property
    def first(self) -> Input:
        """The input that the others are compared with."""
        return self.loss.inputs[0]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the first input."""
        return self.arrays[self.first.name].shape


@dataclass(frozen=True, slots=True)
class Slot:
    """The shape that an input is given in, and that of its rows, whatever numbers it holds.

    In ``shape``, the caller's, the classes lie on ``class_axis``, and in ``rows_shape`` on the axis
    that would be ``class_place`` of it.  ``default`` is every number of an input that is not given.
    With ``is_by_example`` axis 0 of the rows counts examples; else all examples share them.
    """

    input: Input
    shape: tuple[int, ...]
    rows_shape: tuple[int, ...]
    is_classes: bool = False
    class_axis: int = 0
    class_place: int = 0
    default: int | None = None
    is_by_example: bool = True

    @property
    def name(self) -> str:
        """The name of the input."""
        return self.input.name

    def under(self, parameters: Mapping[str, Any]) -> "Slot":
        """The slot with the domain that its input has with these parameters."""
        declared = self.input.under(parameters)
        return self if declared is self.input else replace(self, input=declared)

    @property
    def is_moved(self) -> bool:
        """Whether the rows lie in another order than the caller's."""
        return self.class_axis != self.class_place

    def filled(self, array: Array | None) -> "Operand":
        """Lays the numbers out; those of class indices are not checked yet."""
        if array is None:
            return Operand(self, np.full(self.rows_shape, self.default))
        if self.is_moved:
            array = np.moveaxis(array, self.class_axis, self.class_place)
        rows = array.reshape(self.rows_shape)
        return Operand(self, rows.astype(np.int64) if self.input.holds is Holds.LABELS else rows)

    def as_given(self, rows: Array) -> Array:
        """An array laid out like the rows, in the caller's shape."""
        if not self.is_moved:
            return rows.reshape(self.shape)
        moved = list(self.shape)
        moved.insert(self.class_place, moved.pop(self.class_axis))
        return np.moveaxis(rows.reshape(moved), self.class_place, self.class_axis)


@dataclass(frozen=True, slots=True)
class Operand:
    """An input laid out for computing.  Class indices are int64 and safe to index with."""

    slot: Slot
    rows: Array

    @property
    def input(self) -> Input:
        """What the loss declares of it."""
        return self.slot.input

    @property
    def name(self) -> str:
        """The name of the input."""
        return self.slot.name

    @property
    def shape(self) -> tuple[int, ...]:
        """The caller's."""
        return self.slot.shape

    @property
    def is_classes(self) -> bool:
        """Whether it holds class indices, or lengths."""
        return self.slot.is_classes

    def compute_type(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """The type to compute in, of which integers that are no numbers keep their own."""
        is_integer = self.slot.is_classes or self.slot.input.holds is Holds.LABELS
        return self.rows.dtype if is_integer else dtype

    def as_type(self, dtype: np.dtype[Any]) -> Array:
        """The rows in the type to compute in, as computing wants them to lie in memory."""
        return np.require(self.rows, self.compute_type(dtype), ["C", "A"])


def is_float(array: Array) -> bool:
    # ml_dtypes' bfloat16 is of kind "V" to NumPy.
    return array.dtype.kind == "f" or array.dtype.name == "bfloat16"


def is_empty(array: Array) -> bool:
    """Whether it holds nothing: an empty list has no type."""
    return 0 in array.shape


def is_number(array: Array) -> bool:
    return is_float(array) or array.dtype.kind in "iub"


@dataclass(frozen=True, slots=True)
class Layout:
    """All slots: ``rows`` examples of ``length`` elements, of ``classes`` classes if of any.

    ``columns`` is how many numbers a parameter has that is a list, and ``repeats`` how often they
    follow each other in a row, or with ``is_by_row`` down the rows; with ``is_spread`` one number
    may stand for all.
    ``parts`` has the place of each slot's rows among the examples, where it is not all of them;
    ``view`` is the network that images are looked at through.
    """

    slots: tuple[Slot, ...]
    example_shape: tuple[int, ...]
    rows: int
    length: int
    classes: int = 0
    columns: int = 1
    repeats: int = 1
    is_by_row: bool = False
    is_spread: bool = False
    parts: tuple[slice, ...] = ()
    view: View | None = None


def shape_error(name: str, rule: str, shape: tuple[int, ...], hint: str = "") -> InvalidTensor:
    return InvalidTensor(
        f"{name} must have {rule}, got {list(shape)}{hint}", field=f"inputs.{name}.shape"
    )
