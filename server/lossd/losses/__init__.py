"""The catalogue of losses, one module each: ``LOSSES["huber"]``.

A module ``huber.py`` declares the loss ``huber``; a file that breaks this rule fails at import with
its own name in the error.
"""

from lossd.losses._declare import (
    DOMAINS,
    Anchors,
    Distance,
    DistributionKind,
    Evaluation,
    Example,
    Extent,
    Holds,
    Input,
    Loss,
    MulticlassHingeVariant,
    Opposed,
    Output,
    Shape,
    Sides,
    Status,
    Whole,
)
from lossd.losses._schema import (
    Choices,
    Differentiable,
    Interval,
    Parameter,
    ParameterError,
    catalogue,
)

__all__ = [
    "DOMAINS",
    "LOSSES",
    "Anchors",
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
    "Opposed",
    "Output",
    "Parameter",
    "ParameterError",
    "Shape",
    "Sides",
    "Status",
    "Whole",
]


LOSSES = catalogue(__name__, __path__, Loss, "loss")
