"""COUPLED: an example is a vector that is compared with those of the others.

The body is given axis 0 of examples and axis 1 of components, None for an input that is not given,
and a ``BatchContext``.  Masked examples are absent: no other is compared with them.  An example of
weight 0, or one that the loss leaves out, has a scale of 0 and no value of its own, and the others
are still compared with it.  The gradient with respect to a parameter is one number.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lossd.batch import Given, Layout, Slot, shape_error
from lossd.errors import TooLarge
from lossd.losses import Axes, Input, Loss
from lossd.reduction import Flags, RowPlan
from lossd.shapes._layouts import check_same_shape, example_slot
from lossd.shapes._whole_batch import WholeBatch

# The most vectors that are all compared with each other: each of them takes some rows with a number
# for every other one.
MAX_COMPARED = 1 << 20
# What is held for each of them, and for the tiles.
_COMPARED_BYTES, _TILE_BYTES = 4800, 24 << 20

_PATTERNS = {
    Axes.ELEMENTS: ("(N, D)",),
    Axes.EXAMPLES: ("(N,)",),
    Axes.ROWS: ("(M, D)", "(N, M, D)"),
}


class CoupledShape(WholeBatch):
    """See the module."""

    def patterns(self, loss: Loss, declared: Input) -> Sequence[str]:
        """See ``ShapeRules.patterns``."""
        del loss
        return _PATTERNS[declared.axes]

    def lay_out(self, given: Given) -> Layout:
        """Lays out embeddings (N, D), what belongs to each, and rows to compare them with."""
        shape, name = given.shape, given.first.name
        if len(shape) != 2 or shape[1] == 0:
            rule = "an axis of examples and one of at least one component"
            raise shape_error(name, rule, shape)
        _check_count(name, shape)
        present = (i for i in given.loss.inputs if i.name in given.arrays)
        return Layout(tuple(_slot(given, i) for i in present), shape[:1], *shape)

    def working(
        self, loss: Loss, layout: Layout, parameters: Mapping[str, Any], workers: int
    ) -> int:
        """See ``ShapeRules.working``: tiles of all pairs, some rows of as many numbers."""
        of_elements = super().working(loss, layout, parameters, workers)
        compared = max(math.prod(slot.rows_shape[:-1]) for slot in layout.slots)
        return of_elements + _COMPARED_BYTES * max(layout.rows, compared) + _TILE_BYTES

    def hidden(self, plan: RowPlan) -> Flags | None:
        """Returns those that are masked; the others are compared with, whatever their weight."""
        return plan.masked


def _check_count(name: str, shape: tuple[int, ...]) -> None:
    if shape[0] > MAX_COMPARED:
        raise TooLarge(
            f"{name} must be at most {MAX_COMPARED} vectors to compare, got {shape[0]}",
            field=f"inputs.{name}.shape",
            details={"limit": MAX_COMPARED, "vectors": shape[0]},
        )


def _slot(given: Given, declared: Input) -> Slot:
    if declared.axes is Axes.EXAMPLES:
        return example_slot(given, declared, given.shape[:1])
    if declared.axes is Axes.ELEMENTS:
        check_same_shape(given, declared)
        return Slot(declared, given.shape, given.shape)
    shape = given.arrays[declared.name].shape
    _check_rows(declared, shape, *given.shape)
    return Slot(declared, shape, shape, is_by_example=len(shape) == 3)


def _check_rows(declared: Input, shape: tuple[int, ...], rows: int, length: int) -> None:
    if len(shape) == 2:
        _check_count(declared.name, shape)
    of_all = len(shape) == 2 and shape[1] == length
    of_each = len(shape) == 3 and (shape[0], shape[2]) == (rows, length)
    if not of_all and not of_each:
        rule = f"the shape [M, {length}] for all examples or [{rows}, M, {length}]"
        raise shape_error(declared.name, rule, shape)
