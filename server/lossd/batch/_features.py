"""Feature maps: two lists of them, layer by layer of the same shape."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lossd.batch._job import Array
from lossd.batch._shapes import Layout, Operand, shape_error
from lossd.errors import InvalidTensor
from lossd.losses import Input, Loss


def lay_out_features(
    loss: Loss, arrays: Mapping[str, Array], parameters: Mapping[str, Any]
) -> Layout:
    """Maps (N, C, ...) of predictions and of targets; layers may differ in all but N."""
    del parameters
    first, second = (_maps(declared, arrays) for declared in loss.inputs)
    if len(first) != len(second):
        name = loss.inputs[1].name
        raise InvalidTensor(
            f"{name} must be given as {len(first)} tensors, like {loss.inputs[0].name}, "
            f"got {len(second)}",
            field="inputs",
        )
    rows = _examples(first[0])
    for (declared, array), (other, truth) in zip(first, second, strict=True):
        shape = array.shape
        if len(shape) < 2 or shape[0] != rows or 0 in shape[1:]:
            raise shape_error(declared.name, f"{rows} examples of at least one element", shape)
        if truth.shape != shape:
            raise shape_error(
                other.name, f"the shape {list(shape)} of {declared.name}", truth.shape
            )
    operands = tuple(_operand(declared, array) for declared, array in (*first, *second))
    length = sum(math.prod(array.shape[1:]) for _, array in first)
    return Layout(operands, (rows,), rows, length, layers=len(first))


def _maps(declared: Input, arrays: Mapping[str, Array]) -> list[tuple[Input, Array]]:
    """The maps of one input, each under a name of its own."""
    inputs = [list_item(declared, layer) for layer in range(len(arrays))]
    return [(item, arrays[item.name]) for item in inputs if item.name in arrays]


def list_item(declared: Input, position: int) -> Input:
    """One tensor of an input of several: ``predictions[0]``."""
    return replace(declared, name=f"{declared.name}[{position}]")


def _examples(first: tuple[Input, Array]) -> int:
    declared, array = first
    if array.ndim < 2:
        raise shape_error(declared.name, "axes of examples and of channels", array.shape)
    return len(array)


def _operand(declared: Input, array: Array) -> Operand:
    rows, channels, *places = array.shape
    return Operand(declared, array.reshape(rows, channels, math.prod(places)), array.shape)
