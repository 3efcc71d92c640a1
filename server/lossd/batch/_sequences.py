"""Sequences: rows of frames with rows of labels, each of a length of its own."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from lossd.batch._job import Array
from lossd.batch._rows import value_error
from lossd.batch._shapes import Layout, Operand, shape_error
from lossd.errors import InvalidParameter, TooLarge
from lossd.losses import Loss
from lossd.reduction import Flags

# Frames times labels of one example: to align 2^24 takes about 2 GiB.
MAX_CELLS = 1 << 24


def lay_out_sequence(
    loss: Loss, arrays: Mapping[str, Array], parameters: Mapping[str, Any]
) -> Layout:
    """Frames (N, T, C), labels (N, S), and for both the lengths (N,) of the rows."""
    frames, labels, *lengths = (i.name for i in loss.inputs)
    shape, label_shape = arrays[frames].shape, arrays[labels].shape
    if len(shape) != 3 or shape[2] == 0:
        raise shape_error(frames, "axes of examples, frames and at least one class", shape)
    rows, time, classes = shape
    if len(label_shape) != 2 or label_shape[0] != rows:
        raise shape_error(labels, f"the shape [{rows}, labels]", label_shape)
    extents = time, label_shape[1]
    _check_size(labels, *extents)
    if parameters["blank"] >= classes:
        raise InvalidParameter(
            f"blank must be in [0, {classes}), got {parameters['blank']}",
            field=f"loss.{loss.name}.blank",
        )
    given = dict(arrays)
    for name, extent in zip(lengths, extents, strict=True):
        given.setdefault(name, np.full(rows, extent))
        if given[name].shape != (rows,):
            raise shape_error(name, f"the shape [{rows}]", given[name].shape)
    operands = tuple(
        Operand(i, given[i.name], given[i.name].shape, is_classes=i.name != frames)
        for i in loss.inputs
    )
    # An alignment has a state for each label, and a blank before, between and behind them.
    length = max(1, time) * max(classes, 2 * label_shape[1] + 1)
    return Layout(operands, (rows,), rows, length)


def _check_size(labels: str, time: int, count: int) -> None:
    if time * count > MAX_CELLS:
        raise TooLarge(
            f"frames times labels of an example must be at most {MAX_CELLS}, "
            f"got {time} times {count}",
            field=f"inputs.{labels}.shape",
            details={"limit": MAX_CELLS, "frames": time, "labels": count},
        )


def check_sequences(
    loss: Loss, operands: tuple[Operand, ...], silent: Flags | None, parameters: Mapping[str, Any]
) -> tuple[Operand, ...]:
    """Lengths and labels as int64, safe to index with.

    Labels beyond a row's length become 0, and so do all labels and lengths of silent rows.

    Raises:
        InvalidTensor: for a length or a label out of bounds, or a blank among the labels.
    """
    frames, labels, *lengths = operands
    _, time, classes = frames.shape
    count = labels.shape[1]
    unchecked = np.zeros(len(labels.rows), np.bool_) if silent is None else silent
    times, counts = (
        _within(length, extent + 1, unchecked)
        for length, extent in zip(lengths, (time, count), strict=True)
    )
    outside = np.arange(count) >= counts.rows[:, None]
    checked = _within(labels, classes, outside)
    blank = parameters["blank"]
    blanks = (checked.rows == blank) & ~outside
    if blanks.any():
        rule = f"[0, {classes}) without {loss.message}'s blank"
        raise value_error(labels.name, labels.rows, blanks, rule)
    return _within_domain(frames, times, silent), checked, times, counts


def _within_domain(frames: Operand, times: Operand, silent: Flags | None) -> Operand:
    """The frames as what any number may be in, after a look at those that an example has."""
    domain = frames.input.domain
    if domain is None:
        return frames
    there = np.arange(frames.shape[1]) < times.rows[:, None]
    if silent is not None:
        there &= ~silent[:, None]
    with np.errstate(invalid="ignore"):  # comparing bfloat16's NaN warns
        wrong = domain.outside(frames.rows) & there[..., None]
    if wrong.any():
        raise value_error(frames.name, frames.rows, wrong, str(domain))
    return replace(frames, input=replace(frames.input, domain=None))


def _within(operand: Operand, end: int, unchecked: Flags) -> Operand:
    """The operand with numbers in [0, end) as int64; what is not checked becomes 0."""
    wrong = ((operand.rows < 0) | (operand.rows >= end)) & ~unchecked
    if wrong.any():
        raise value_error(operand.name, operand.rows, wrong, f"[0, {end})")
    rows = operand.rows.astype(np.int64)
    rows[unchecked] = 0
    return replace(operand, rows=rows)
