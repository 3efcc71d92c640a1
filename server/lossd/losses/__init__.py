"""The catalogue of losses, one module each: ``LOSSES["huber"]``.

A module ``huber.py`` declares the loss ``huber``; a file that breaks this rule fails at import with
its own name in the error.
"""

from lossd.losses._body import BatchContext, BodyResult, Output, SoftCounts, Status
from lossd.losses._declare import CudaText, Example, Loss, Shape, Sides
from lossd.losses._inputs import (
    CLASS_AXIS,
    DOMAINS,
    LAYERS,
    NETWORK,
    OPTIONAL_CLASS_AXIS,
    Axes,
    Content,
    DistributionKind,
    Input,
)
from lossd.losses._maths.complements import log_rest
from lossd.losses._maths.gan_costs import GanObjective
from lossd.losses._maths.masked_products import selected
from lossd.losses._maths.tokens import AGGREGATION, Part, TokenAggregation, Tokens, Whole
from lossd.losses._maths.vectors import Distance
from lossd.losses.multiclass_hinge import MulticlassHingeVariant
from lossd.schema import (
    Choices,
    Differentiable,
    Interval,
    Parameter,
    ParameterError,
    catalogue,
    element,
)

__all__ = [
    "AGGREGATION",
    "CLASS_AXIS",
    "COMPUTED",
    "DOMAINS",
    "LAYERS",
    "LOSSES",
    "NETWORK",
    "OPTIONAL_CLASS_AXIS",
    "Axes",
    "BatchContext",
    "BodyResult",
    "Choices",
    "Content",
    "CudaText",
    "Differentiable",
    "Distance",
    "DistributionKind",
    "Example",
    "GanObjective",
    "Input",
    "Interval",
    "Loss",
    "MulticlassHingeVariant",
    "Output",
    "Parameter",
    "ParameterError",
    "Part",
    "Shape",
    "Sides",
    "SoftCounts",
    "Status",
    "TokenAggregation",
    "Tokens",
    "Whole",
    "element",
    "log_rest",
    "selected",
]


LOSSES = catalogue(__name__, __path__, Loss, "loss")
# Those that are computed, each with texts of its own: a loss of two sides is made of several.
COMPUTED = {
    found.name: found for one in LOSSES.values() for found in (one, *one.pointwise.values())
}
