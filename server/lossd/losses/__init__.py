"""The catalogue of losses, one module each: ``LOSSES["huber"]``.

A module ``huber.py`` declares the loss ``huber``; a file that breaks this rule fails at import with
its own name in the error.
"""

from lossd.losses._declare import (
    DOMAINS,
    BatchContext,
    Distance,
    DistributionKind,
    Evaluation,
    Example,
    Extent,
    Holds,
    Input,
    Loss,
    MulticlassHingeVariant,
    Output,
    Shape,
    Sides,
    Status,
)
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
    "DOMAINS",
    "LOSSES",
    "BatchContext",
    "Choices",
    "Differentiable",
    "Distance",
    "DistributionKind",
    "Evaluation",
    "Example",
    "Extent",
    "Holds",
    "Input",
    "Interval",
    "Loss",
    "MulticlassHingeVariant",
    "Output",
    "Parameter",
    "ParameterError",
    "Shape",
    "Sides",
    "Status",
    "element",
]


LOSSES = catalogue(__name__, __path__, Loss, "loss")
