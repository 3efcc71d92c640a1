"""FEATURES: an example is its maps in all layers, which may have any sizes.

Two lists of maps (N, C, ...), layer by layer of the same shape.  The body is given the maps of the
first input, then as many of the second, each with axis 0 of examples, axis 1 of channels and axis 2
of positions; gradients are named ``"predictions[0]"`` and so on.
"""

import math
from collections.abc import Mapping, Sequence

from lossd.batch import Array, Given, Layout, Slot, list_item, shape_error
from lossd.errors import InvalidTensor, TooLarge
from lossd.losses import Input, Loss
from lossd.shapes._by_example import ByExample

# Multiplications of one Gram matrix: some seconds.  An image of 4096 x 2160 has half of them in the
# first layer of VGG.
MAX_PRODUCTS = 1 << 36


class FeaturesShape(ByExample):
    """See the module."""

    is_quick = False

    def patterns(self, loss: Loss, declared: Input) -> Sequence[str]:
        """See ``ShapeRules.patterns``."""
        del loss, declared
        return ("(N, C, ...) each",)

    def lay_out(self, given: Given) -> Layout:
        """Lays out maps of predictions and of targets; layers may differ in everything except N."""
        first, second = (_maps(declared, given.arrays) for declared in given.loss.inputs)
        if len(first) != len(second):
            name = given.loss.inputs[1].name
            raise InvalidTensor(
                f"{name} must be given as {len(first)} tensors, like {given.first.name}, "
                f"got {len(second)}",
                field="inputs",
            )
        rows = _examples(first[0])
        for (declared, array), (other, truth) in zip(first, second, strict=True):
            shape = array.shape
            if len(shape) < 2 or shape[0] != rows or 0 in shape[1:]:
                rule = f"{rows} examples of at least one element"
                raise shape_error(declared.name, rule, shape)
            if truth.shape != shape:
                rule = f"the shape {list(shape)} of {declared.name}"
                raise shape_error(other.name, rule, truth.shape)
            if given.parameters.get("style_weight"):
                _check_products(declared, shape)
        slots = tuple(_slot(declared, array.shape) for declared, array in (*first, *second))
        length = sum(math.prod(array.shape[1:]) for _, array in first)
        return Layout(slots, (rows,), rows, length, columns=len(first))


def _maps(declared: Input, arrays: Mapping[str, Array]) -> list[tuple[Input, Array]]:
    """Returns the maps of one input, each under a name of its own."""
    inputs = [list_item(declared, layer) for layer in range(len(arrays))]
    return [(item, arrays[item.name]) for item in inputs if item.name in arrays]


def _check_products(declared: Input, shape: tuple[int, ...]) -> None:
    """Raises TooLarge for maps whose Gram matrices take too long: nothing stops a product."""
    channels, positions = shape[1], math.prod(shape[2:])
    products = channels * positions * min(channels, positions)
    if products > MAX_PRODUCTS:
        raise TooLarge(
            f"{declared.name} must have maps whose channels times positions times the fewer of "
            f"both are at most {MAX_PRODUCTS} for a style, got {channels} and {positions}",
            field=f"inputs.{declared.base_name}.shape",
            details={"limit": MAX_PRODUCTS, "channels": channels, "positions": positions},
        )


def _examples(first: tuple[Input, Array]) -> int:
    declared, array = first
    if len(array.shape) < 2:
        raise shape_error(declared.name, "axes of examples and of channels", array.shape)
    return int(array.shape[0])


def _slot(declared: Input, shape: tuple[int, ...]) -> Slot:
    rows, channels, *positions = shape
    return Slot(declared, shape, (rows, channels, math.prod(positions)))
