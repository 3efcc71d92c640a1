"""ROWWISE: an example is a row of classes.

The first input has an axis of classes; the others have its shape, or are class indices without that
axis.  The body is given axis 0 of examples and axis 1 of classes; class indices have axis 0 only.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lossd.batch import Given, Layout
from lossd.losses import Input, Loss
from lossd.shapes._by_example import ByExample
from lossd.shapes._layouts import ClassAxes, class_axis, class_slots, patterns_by_classes


class RowwiseShape(ByExample):
    """See the module."""

    reads_rows = True

    def patterns(self, loss: Loss, declared: Input) -> Sequence[str]:
        """See ``ShapeRules.patterns``."""
        del loss
        return patterns_by_classes(declared, has_classes=True, may_have=True)

    def row_axis(self, loss: Loss, parameters: Mapping[str, Any]) -> int:
        """See ``ShapeRules.row_axis``."""
        del loss
        return int(parameters.get("class_axis", -1))

    def lay_out(self, given: Given) -> Layout:
        """See ``ShapeRules.lay_out``."""
        shape = given.shape
        axis = class_axis(given.first, shape, given.parameters.get("class_axis", -1), examples=0)
        examples = shape[:axis] + shape[axis + 1 :]
        rows, classes = math.prod(examples), shape[axis]
        slots = class_slots(given, ClassAxes(axis, len(shape) - 1, (rows, classes), (rows,)))
        return Layout(slots, examples, rows, length=classes, classes=classes, columns=classes)
