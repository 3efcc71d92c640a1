"""SEQUENCE: an example is a row of frames, with a row of labels of another length.

The body is given axis 0 of examples and axis 1 of frames or labels, of which each example has as
many as its lengths say; axis 2 counts classes.  Labels and lengths are int64 and within bounds,
those of excluded rows included; labels beyond an example's length are 0.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lossd.backends import Backend, Compute
from lossd.batch import Batch, Given, Layout, Operand, Slot, shape_error, value_error
from lossd.errors import InvalidParameter, TooLarge
from lossd.losses import Content, Input, Loss
from lossd.reduction import Flags
from lossd.shapes._by_example import ByExample, Cut, cuts_of_rows

# Frames times labels of one example: aligning 2^24 of them takes about 2 GiB.
MAX_CELLS = 1 << 24
# Sequences are computed frame by frame, all rows of a piece at once: with only a few rows, threads
# would mostly wait for each other to call NumPy.
SEQUENCE_BLOCK_ELEMENTS = 1 << 22
# A kernel computes one row after the other, as fast with one as with many.
KERNEL_BLOCK_ELEMENTS = 1 << 16

_PATTERNS = {
    Content.FLOATS: ("(N, T, C)",),
    Content.INDICES: ("(N, S)",),
    Content.LENGTHS: ("(N,)",),
}


class SequenceShape(ByExample):
    """See the module."""

    reads_rows = True
    is_quick = False

    def patterns(self, loss: Loss, declared: Input) -> Sequence[str]:
        """See ``ShapeRules.patterns``."""
        del loss
        return _PATTERNS[declared.content]

    def row_axis(self, loss: Loss, parameters: Mapping[str, Any]) -> int:
        """See ``ShapeRules.row_axis``."""
        del loss, parameters
        return -1

    def block_rows(self, length: int) -> int:
        """See ``ByExample.block_rows``."""
        return max(1, SEQUENCE_BLOCK_ELEMENTS // length)

    def cuts(self, batch: Batch, backend: Backend, compute: Compute) -> Sequence[Cut]:
        """See ``ByExample.cuts``."""
        if not backend.in_cache or not compute.is_kernel:
            return super().cuts(batch, backend, compute)
        return cuts_of_rows(batch.rows, max(1, KERNEL_BLOCK_ELEMENTS // batch.length))

    def lay_out(self, given: Given) -> Layout:
        """Lays out frames (N, T, C), labels (N, S), and the lengths (N,) of the rows of both."""
        frames, labels, *lengths = given.loss.inputs
        shape, label_shape = given.shape, given.arrays[labels.name].shape
        if len(shape) != 3 or shape[2] == 0:
            raise shape_error(frames.name, "axes of examples, frames and at least one class", shape)
        rows, time, classes = shape
        if len(label_shape) != 2 or label_shape[0] != rows:
            raise shape_error(labels.name, f"the shape [{rows}, labels]", label_shape)
        _check_size(labels.name, time, label_shape[1])
        _check_blank(given, classes)
        of_lengths = [
            _length_slot(given, declared, rows, most)
            for declared, most in zip(lengths, (time, label_shape[1]), strict=True)
        ]
        of_labels = Slot(labels, label_shape, label_shape, is_classes=True)
        # An alignment has a state for each label, and a blank before, between and after them.
        length = max(1, time) * max(classes, 2 * label_shape[1] + 1)
        return Layout((Slot(frames, shape, shape), of_labels, *of_lengths), (rows,), rows, length)

    def checked(
        self,
        loss: Loss,
        operands: tuple[Operand, ...],
        excluded: Flags | None,
        parameters: Mapping[str, Any],
    ) -> tuple[Operand, ...]:
        """Returns lengths and labels as int64, safe to index with, and frames with their lengths.

        Labels beyond a row's length become 0, and so do all labels and lengths of excluded rows.

        Raises:
            InvalidTensor: for a length or a label out of bounds, or a blank among the labels.
        """
        frames, labels, *lengths = operands
        _, time, classes = frames.shape
        count = labels.shape[1]
        unchecked = np.zeros(len(labels.rows), np.bool_) if excluded is None else excluded
        times, counts = (
            _within(length, most + 1, unchecked)
            for length, most in zip(lengths, (time, count), strict=True)
        )
        outside = np.arange(count) >= counts.rows[:, None]
        # A caller who pads rows without giving their lengths pads with a number that is no label.
        hint = "" if outside.any() else f": rows that are padded go with {lengths[1].name}"
        checked = _within(labels, classes, outside, hint)
        blank = parameters["blank"]
        blanks = (checked.rows == blank) & ~outside
        if blanks.any():
            rule = f"[0, {classes}) without {loss.message}'s blank"
            raise value_error(labels.name, labels.rows, blanks, rule, hint)
        return replace(frames, lengths=times.rows), checked, times, counts


def _check_blank(given: Given, classes: int) -> None:
    blank = given.parameters["blank"]
    if blank >= classes:
        raise InvalidParameter(
            f"blank must be in [0, {classes}), got {blank}",
            field=f"loss.{given.loss.name}.blank",
        )


def _length_slot(given: Given, declared: Input, rows: int, most: int) -> Slot:
    """Returns the slot of the lengths of rows, which are whole where none are given."""
    array = given.arrays.get(declared.name)
    if array is not None and array.shape != (rows,):
        raise shape_error(declared.name, f"the shape [{rows}]", array.shape)
    return Slot(declared, (rows,), (rows,), is_classes=True, default=most)


def _check_size(labels: str, time: int, count: int) -> None:
    if time * count > MAX_CELLS:
        raise TooLarge(
            f"frames times labels of an example must be at most {MAX_CELLS}, "
            f"got {time} times {count}",
            field=f"inputs.{labels}.shape",
            details={"limit": MAX_CELLS, "frames": time, "labels": count},
        )


def _within(operand: Operand, end: int, unchecked: Flags, hint: str = "") -> Operand:
    """Returns the operand with numbers in [0, end) as int64; unchecked numbers become 0."""
    wrong = ((operand.rows < 0) | (operand.rows >= end)) & ~unchecked
    if wrong.any():
        raise value_error(operand.name, operand.rows, wrong, f"[0, {end})", hint)
    rows = operand.rows.astype(np.int64)
    rows[unchecked] = 0
    return replace(operand, rows=rows)
