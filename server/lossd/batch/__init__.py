"""A request in two forms: as it is asked, and as it is computed, checked and laid out.

How a batch is laid out depends on the shape of its loss, and is defined in ``lossd.shapes``.  This
package handles what does not: names and types of inputs, parameters, weights and masks.
"""

from lossd.batch._batch import Batch, check_domains, check_rules
from lossd.batch._inputs import compute_type, list_item, named_arrays, wanted_gradients
from lossd.batch._job import Array, Job
from lossd.batch._layout import Given, Layout, Operand, Slot, is_empty, shape_error
from lossd.batch._parameters import body_parameters, complete, parameter_error
from lossd.batch._rows import (
    cotangent_of,
    ignored_examples,
    plan_each,
    safe_classes,
    value_error,
    weights_of,
)

__all__ = [
    "Array",
    "Batch",
    "Given",
    "Job",
    "Layout",
    "Operand",
    "Slot",
    "body_parameters",
    "check_domains",
    "check_rules",
    "complete",
    "compute_type",
    "cotangent_of",
    "ignored_examples",
    "is_empty",
    "list_item",
    "named_arrays",
    "parameter_error",
    "plan_each",
    "safe_classes",
    "shape_error",
    "value_error",
    "wanted_gradients",
    "weights_of",
]
