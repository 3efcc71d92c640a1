"""VECTORS: an example is a few vectors, one in each input.

The body is given axis 0 of examples and axis 1 of components; inputs of one number for each example
have axis 0 only.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lossd.batch import Given, Layout, Slot, shape_error
from lossd.losses import Axes, Input, Loss
from lossd.shapes._by_example import ByExample
from lossd.shapes._layouts import check_same_shape, example_slot


class VectorsShape(ByExample):
    """See the module."""

    reads_rows = True

    def patterns(self, loss: Loss, declared: Input) -> Sequence[str]:
        """See ``ShapeRules.patterns``."""
        del loss
        return ("(N, ...)",) if declared.axes is Axes.EXAMPLES else ("(N, ..., D)",)

    def row_axis(self, loss: Loss, parameters: Mapping[str, Any]) -> int:
        """See ``ShapeRules.row_axis``."""
        del loss, parameters
        return -1

    def lay_out(self, given: Given) -> Layout:
        """Lays out vectors along the last axis of same-shaped inputs; other axes count examples."""
        shape = given.shape
        if not shape or shape[-1] == 0:
            raise shape_error(given.first.name, "an axis of at least one component", shape)
        examples, length = shape[:-1], shape[-1]
        rows = math.prod(examples)

        def slot(declared: Input) -> Slot:
            if declared.axes is Axes.EXAMPLES:
                return example_slot(given, declared, examples)
            check_same_shape(given, declared)
            return Slot(declared, shape, (rows, length))

        present = (i for i in given.loss.inputs if i.name in given.arrays)
        return Layout(tuple(slot(i) for i in present), examples, rows, length)
