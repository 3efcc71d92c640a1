"""POINTWISE: each pair of elements has a value, and an example is the mean of its elements.

All inputs have one shape, whose first ``batch_dims`` axes count examples.  The body is given all
inputs with the same two axes, and so is its value; a long row may come in parts.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lossd.batch import Given, Layout, Slot, shape_error
from lossd.losses import Input, Loss
from lossd.shapes._by_example import ByExample
from lossd.shapes._layouts import check_elements, common_shape


class PointwiseShape(ByExample):
    """See the module."""

    reads_rows = True
    is_mean_of_elements = True
    working_bytes = 64

    def patterns(self, loss: Loss, declared: Input) -> Sequence[str]:
        """See ``ShapeRules.patterns``."""
        del loss, declared
        return ("(N, ...)",)

    def row_axis(self, loss: Loss, parameters: Mapping[str, Any]) -> int:
        """See ``ShapeRules.row_axis``."""
        del loss, parameters
        return -1

    def lay_out(self, given: Given) -> Layout:
        """See ``ShapeRules.lay_out``."""
        shape, batch_dims = common_shape(given), given.parameters["batch_dims"]
        if batch_dims > len(shape):
            raise shape_error(given.first.name, f"at least batch_dims = {batch_dims} axes", shape)
        examples, elements = shape[:batch_dims], shape[batch_dims:]
        rows, length = math.prod(examples), math.prod(elements)
        check_elements(given.first, shape, length)
        columns = shape[-1] if shape else 1
        is_by_row = length < columns  # of examples that are single elements
        return Layout(
            slots=tuple(Slot(i, shape, (rows, length)) for i in given.loss.inputs),
            example_shape=examples,
            rows=rows,
            length=length,
            columns=columns,
            repeats=(rows if is_by_row else length) // max(columns, 1),
            is_by_row=is_by_row,
            is_spread=True,
        )
