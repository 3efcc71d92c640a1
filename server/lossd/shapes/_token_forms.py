"""How the tokens of a side are given: padded, flat with offsets, or as sums."""

from dataclasses import dataclass

from lossd.batch import (
    Given,
    Slot,
    shape_error,
)
from lossd.errors import InvalidTensor
from lossd.losses import AGGREGATION, Axes, Content, Input, Loss

LAYS_OUT = (Content.FLAGS, Content.LENGTHS, Content.OFFSETS, Content.LABELS)
OF_TOKENS = (Axes.TOKENS, Axes.EITHER, Axes.CLASSES)


def aggregates(loss: Loss) -> bool:
    """Returns whether its body returns the values of tokens."""
    return AGGREGATION[0] in loss.layout_parameters


def may_be_flat(loss: Loss, side: str) -> bool:
    """Returns whether the tokens of a side may be given one by one."""
    return any(i.name == f"{side}offsets" for i in loss.inputs)


def first_of(given: Given, side: str) -> Input:
    """Returns the input that says how the tokens of a side are given.

    Raises:
        InvalidTensor: if it is not there, and others of its side are.
    """
    first = next(i for i in given.loss.inputs if i.side == side and i.content is Content.FLOATS)
    if first.name not in given.arrays:
        others = [i.name for i in given.loss.inputs if i.side == side and i.name in given.arrays]
        raise InvalidTensor(
            f"{first.name} must be given with {others[0]}, got nothing", field="inputs"
        )
    return first


@dataclass(frozen=True, slots=True)
class TokenForm:
    """How the tokens of a side are given: ``rows`` sequences in ``shape``, perhaps of classes."""

    loss: Loss
    first: str
    shape: tuple[int, ...]
    rows: int
    cells: int
    classes: tuple[int, ...] = ()
    are_sums: bool = False  # each number is that of a sequence

    @classmethod
    def of(cls, given: Given, side: str) -> "TokenForm":
        """Returns how the tokens of a side are given.

        Raises:
            InvalidTensor: for shapes in which there is no telling whose a token is.
        """
        first = first_of(given, side)
        shape, classes = given.arrays[first.name].shape, ()
        if first.axes is Axes.CLASSES:
            if not shape or shape[-1] == 0:
                raise shape_error(first.name, "a last axis of at least one class", shape)
            shape, classes = shape[:-1], shape[-1:]
        offsets, lengths = (given.arrays.get(f"{side}{n}") for n in ("offsets", "lengths"))
        if offsets is not None:
            if lengths is not None:
                raise InvalidTensor(
                    f"{side}lengths must be left out with {side}offsets, got both", field="inputs"
                )
            if len(shape) != 1:
                rule = f"one axis of tokens with {side}offsets"
                raise shape_error(first.name, rule, (*shape, *classes))
            if len(offsets.shape) != 1 or offsets.shape[0] == 0:
                rule = "one axis, of the sequences and one more"
                raise shape_error(f"{side}offsets", rule, offsets.shape)
            return cls(given.loss, first.name, shape, offsets.shape[0] - 1, shape[0], classes)
        is_ragged, has_sums = may_be_flat(given.loss, side), not aggregates(given.loss)
        if len(shape) == 2 and is_ragged:
            return cls(given.loss, first.name, shape, shape[0], shape[0] * shape[1], classes)
        if len(shape) == 1 and has_sums:
            return cls(given.loss, first.name, shape, shape[0], shape[0], are_sums=True)
        rules = ["axes of sequences and tokens"] * is_ragged + ["one axis of sums"] * has_sums
        hint = f": flat tokens go with {side}offsets" if is_ragged and len(shape) == 1 else ""
        raise shape_error(first.name, " or ".join(rules), (*shape, *classes), hint)

    def slot(self, declared: Input, shape: tuple[int, ...]) -> Slot:
        """Returns the slot of one input of the side.

        Raises:
            InvalidTensor: for a shape that does not go with the others.
        """
        name, by_row = declared.name, (self.rows,)
        if declared.axes is Axes.CLASSES:
            wanted = (*self.shape, *self.classes)
            if shape != wanted:
                raise shape_error(name, f"the shape {list(wanted)} of {self.first}", shape)
            return Slot(declared, shape, (self.cells, *self.classes), is_by_example=False)
        if declared.axes in OF_TOKENS and shape == self.shape:
            is_by_example = self.are_sums or (self.shape == by_row and declared.axes is Axes.EITHER)
            return Slot(declared, shape, (self.cells,), is_by_example=is_by_example)
        if declared.content is Content.OFFSETS:
            return Slot(declared, shape, shape, is_classes=True, is_by_example=False)
        if declared.axes is Axes.EITHER and shape in (by_row, (self.rows, 1)):
            return Slot(declared, shape, by_row)
        if declared.axes in OF_TOKENS:
            either = f" or {list(by_row)}" if declared.axes is Axes.EITHER else ""
            raise shape_error(name, f"the shape {list(self.shape)} of {self.first}{either}", shape)
        if shape != by_row:
            raise shape_error(name, f"the shape {list(by_row)} of the sequences", shape)
        return Slot(declared, shape, by_row, is_classes=declared.content in LAYS_OUT)
