"""The catalogue of losses, one module each: ``LOSSES["huber"]``.

A module ``huber.py`` declares the loss ``huber``; a file that breaks this rule fails at import with
its own name in the error.
"""

from lossd.losses._body import BatchContext, BodyResult, Output, SoftCounts, Status
from lossd.losses._declare import Example, Loss, Shape, Sides
from lossd.losses._inputs import DOMAINS, Axes, Content, DistributionKind, Input
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
    "COMPUTED",
    "DOMAINS",
    "LOSSES",
    "Axes",
    "BatchContext",
    "BodyResult",
    "Choices",
    "Content",
    "Differentiable",
    "Distance",
    "DistributionKind",
    "Example",
    "Input",
    "Interval",
    "Loss",
    "MulticlassHingeVariant",
    "Output",
    "Parameter",
    "ParameterError",
    "Shape",
    "Sides",
    "SoftCounts",
    "Status",
    "element",
]


LOSSES = catalogue(__name__, __path__, Loss, "loss")
# Those that are computed, each with texts of its own: a loss of two sides is made of several.
COMPUTED = {
    found.name: found for one in LOSSES.values() for found in (one, *one.pointwise.values())
}
