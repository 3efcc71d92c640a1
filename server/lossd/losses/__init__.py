"""The catalogue of losses, one module each: ``LOSSES["huber"]``.

A module ``huber.py`` declares the loss ``huber``; a file that breaks this rule fails at import with
its own name in the error.
"""

import importlib
import pkgutil
from collections.abc import Mapping
from types import MappingProxyType

from lossd.losses._declare import (
    Choices,
    Differentiable,
    Distance,
    DistributionKind,
    Evaluation,
    Example,
    Holds,
    Input,
    Interval,
    Loss,
    MulticlassHingeVariant,
    Opposed,
    Output,
    Parameter,
    ParameterError,
    Shape,
    Sides,
    Status,
    Whole,
)

__all__ = [
    "LOSSES",
    "Choices",
    "Differentiable",
    "Distance",
    "DistributionKind",
    "Evaluation",
    "Example",
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


def _discover() -> dict[str, Loss]:
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    found = {}
    for name in names:
        if name.startswith("_"):
            continue
        declared = getattr(importlib.import_module(f"{__name__}.{name}"), name, None)
        if not isinstance(declared, Loss):
            raise TypeError(f"{__name__}.{name} must declare a loss named {name}, got {declared!r}")
        found[name] = declared
    return found


LOSSES: Mapping[str, Loss] = MappingProxyType(_discover())
