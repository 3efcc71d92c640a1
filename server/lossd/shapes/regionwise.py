"""REGIONWISE: an example is an index of axis 0, with one region, or one for each class.

The body is given axis 0 of examples and the last axis of elements; with classes there is an axis of
them in between, which class indices lack.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lossd.batch import Given, Layout, Slot, shape_error
from lossd.losses import CLASS_AXIS, OPTIONAL_CLASS_AXIS, Input, Loss
from lossd.shapes._by_example import ByExample
from lossd.shapes._layouts import (
    ClassAxes,
    check_elements,
    class_axis,
    class_slots,
    common_shape,
    patterns_by_classes,
)


class RegionwiseShape(ByExample):
    """See the module."""

    reads_rows = True

    def patterns(self, loss: Loss, declared: Input) -> Sequence[str]:
        """See ``ShapeRules.patterns``."""
        has_classes = CLASS_AXIS in loss.layout_parameters
        may_have = has_classes or OPTIONAL_CLASS_AXIS in loss.layout_parameters
        return patterns_by_classes(declared, has_classes=has_classes, may_have=may_have)

    def row_axis(self, loss: Loss, parameters: Mapping[str, Any]) -> int:
        """See ``ShapeRules.row_axis``; classes on axis 1 are where they are computed."""
        del loss
        axis = parameters.get("class_axis")
        return -1 if axis in {None, 1} else int(axis)

    def lay_out(self, given: Given) -> Layout:
        """See ``ShapeRules.lay_out``."""
        shape = given.shape
        if not shape:
            raise shape_error(given.first.name, "an axis of examples", shape)
        rows, length = shape[0], math.prod(shape[1:])
        if given.parameters.get("class_axis") is None:
            common_shape(given)
            check_elements(given.first, shape, length)
            slots = tuple(Slot(i, shape, (rows, length)) for i in given.loss.inputs)
            return Layout(slots, shape[:1], rows, length)
        axis = class_axis(given.first, shape, given.parameters["class_axis"], examples=1)
        check_elements(given.first, shape, length)
        classes = shape[axis]
        elements = length // classes
        axes = ClassAxes(axis, 1, (rows, classes, elements), (rows, elements))
        return Layout(class_slots(given, axes), shape[:1], rows, length, classes)
