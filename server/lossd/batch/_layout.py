"""How the inputs of a loss are laid out, example by example.  Nothing is ever broadcast."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lossd.batch._job import Array
from lossd.errors import InvalidTensor
from lossd.losses import Choices, Content, Input, Interval, Loss
from lossd.networks import ImagePipeline, Networks

_ALL = slice(None)


@dataclass(frozen=True, slots=True)
class Given:
    """The material of a layout.  Only shapes and types of the arrays are used, not their numbers.

    So the layout follows from the header of a request alone.
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
    """The shape that an input is given in and the shape of its rows, whatever numbers it holds.

    In the caller's ``shape`` the classes lie on ``class_axis``; in the rows they would lie on the
    axis ``class_place``.  ``default`` fills an input that is not given. With ``is_by_example`` axis
    0 of the rows counts examples; otherwise all examples share them.
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
        """Returns the slot with the domain that its input has with these parameters."""
        declared = self.input.under(parameters)
        return self if declared is self.input else replace(self, input=declared)

    @property
    def is_moved(self) -> bool:
        """Whether the rows are ordered differently from the caller's array."""
        return self.class_axis != self.class_place

    @property
    def leads_with_examples(self) -> bool:
        """Whether the first axes of the array, once it is moved, count examples.

        They do too where an example has several rows: the tokens of a padded sequence.
        """
        return self.is_by_example or len(self.shape) > len(self.rows_shape)

    def moved(self, array: Array) -> Array:
        """Returns a view of an array in the caller's shape, with the classes where rows have them.

        So the axes of the examples come first.
        """
        return np.moveaxis(array, self.class_axis, self.class_place) if self.is_moved else array

    def filled(self, array: Array | None) -> "Operand":
        """Lays the numbers out; those of class indices are not checked yet."""
        if array is None:
            return Operand(self, np.full(self.rows_shape, self.default))
        rows = self.moved(array).reshape(self.rows_shape)
        return Operand(
            self, rows.astype(np.int64) if self.input.content is Content.LABELS else rows
        )

    def turned(self, array: Array) -> Array | None:
        """Returns a view of an array in the caller's shape that has the shape of the rows.

        None unless the classes are the last axis there and the one before it in the rows.
        """
        if self.class_axis != len(self.shape) - 1 or self.class_place != len(self.rows_shape) - 2:
            return None
        rows = np.moveaxis(array, self.class_axis, self.class_place).reshape(self.rows_shape)
        return rows if np.may_share_memory(rows, array) else None

    def as_given(self, rows: Array) -> Array:
        """Returns an array that is laid out like the rows in the caller's shape."""
        if not self.is_moved:
            return rows.reshape(self.shape)
        moved = list(self.shape)
        moved.insert(self.class_place, moved.pop(self.class_axis))
        return np.moveaxis(rows.reshape(moved), self.class_place, self.class_axis)


@dataclass(frozen=True, slots=True)
class Operand:
    """An input laid out for computing.  Class indices are int64 and safe to index with.

    ``lengths`` say how many numbers along axis 1 each row has, where not all have all; the others
    may be anything.
    """

    slot: Slot
    rows: Array
    lengths: Array | None = None

    @property
    def input(self) -> Input:
        """The declaration of the input."""
        return self.slot.input

    @property
    def name(self) -> str:
        """The name of the input."""
        return self.slot.name

    @property
    def shape(self) -> tuple[int, ...]:
        """The caller's shape."""
        return self.slot.shape

    @property
    def is_classes(self) -> bool:
        """Whether it holds class indices, or lengths."""
        return self.slot.is_classes

    def compute_type(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """Returns the type to compute in; integers that are indices or lengths keep their own."""
        is_integer = self.slot.is_classes or self.slot.input.content is Content.LABELS
        return self.rows.dtype if is_integer else dtype

    def outside(self, domain: Interval | Choices, rows: Array, place: slice = _ALL) -> Array:
        """Returns which of some ``rows``, those at a place, have numbers outside a domain."""
        wrong: Array = domain.outside(rows)
        if self.lengths is not None:
            there = np.arange(rows.shape[1]) < self.lengths[place, None]
            wrong &= there.reshape(*there.shape, *(1,) * (rows.ndim - 2))
        return wrong

    def as_type(self, dtype: np.dtype[Any]) -> Array:
        """Returns the rows in the type to compute in, contiguous in memory."""
        return np.require(self.rows, self.compute_type(dtype), ["C", "A"])


def is_float(array: Array) -> bool:
    # ml_dtypes' bfloat16 is of kind "V" to NumPy.
    return array.dtype.kind == "f" or array.dtype.name == "bfloat16"


def is_empty(array: Array) -> bool:
    """Returns whether it has no elements, so that its type does not matter."""
    return 0 in array.shape


def is_number(array: Array) -> bool:
    return is_float(array) or array.dtype.kind in "iub"


@dataclass(frozen=True, slots=True)
class Layout:
    """All slots: ``rows`` examples of ``length`` elements, and the number of ``classes`` if any.

    ``columns`` is the length of a parameter that is a list, and ``repeats`` how often that list is
    repeated along a row, or down the rows with ``is_by_row``; with ``is_spread`` one number may
    stand for all.  ``parts`` says which examples each slot has rows of, where not of all;
    ``pipeline`` is the network that images are looked at through.
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
    pipeline: ImagePipeline | None = None


def shape_error(name: str, rule: str, shape: tuple[int, ...], hint: str = "") -> InvalidTensor:
    return InvalidTensor(
        f"{name} must have {rule}, got {list(shape)}{hint}", field=f"inputs.{name}.shape"
    )
