"""The catalogue of evaluation metrics, one module each: ``METRICS["roc_auc"]``.

A metric has no gradient.  It is computed in two steps: what to keep of a batch, and the number that
all that was kept stands for; what is kept adds up, so that any split of the data gives that number.

A module ``roc_auc.py`` declares the metric ``roc_auc``; a file that breaks this rule fails at
import with its own name in the error.
"""

import importlib
import pkgutil
from collections.abc import Mapping
from types import MappingProxyType

from lossd.evaluation._declare import (
    Batch,
    Input,
    InputError,
    Metric,
    Score,
    Sequences,
)
from lossd.evaluation._state import ClassificationTask, State, StateError, Tally, merged

__all__ = [
    "METRICS",
    "Batch",
    "ClassificationTask",
    "Input",
    "InputError",
    "Metric",
    "Score",
    "Sequences",
    "State",
    "StateError",
    "Tally",
    "merged",
]


def _discover() -> dict[str, Metric]:
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    found = {}
    for name in names:
        if name.startswith("_"):
            continue
        declared = getattr(importlib.import_module(f"{__name__}.{name}"), name, None)
        if not isinstance(declared, Metric):
            raise TypeError(
                f"{__name__}.{name} must declare a metric named {name}, got {declared!r}"
            )
        found[name] = declared
    return found


METRICS: Mapping[str, Metric] = MappingProxyType(_discover())
