"""The catalogue of evaluation metrics, one module each: ``METRICS["roc_auc"]``.

A metric has no gradient.  It is computed in two steps: what to keep of a batch, and the number that
follows from everything that was kept.  What is kept adds up, so that any split of the data gives
the same number.

A module ``roc_auc.py`` declares the metric ``roc_auc``; a file that breaks this rule fails at
import with its own name in the error.
"""

from lossd.evaluation._declare import (
    InputError,
    Metric,
    MetricBatch,
    MetricExample,
    MetricInput,
    Score,
    Sequences,
)
from lossd.evaluation._exact import from_signed_bytes, signed_bytes
from lossd.evaluation._state import ClassificationTask, State, merged
from lossd.evaluation._tally import StateError, Tally, checked
from lossd.schema import catalogue

__all__ = [
    "METRICS",
    "ClassificationTask",
    "InputError",
    "Metric",
    "MetricBatch",
    "MetricExample",
    "MetricInput",
    "Score",
    "Sequences",
    "State",
    "StateError",
    "Tally",
    "checked",
    "from_signed_bytes",
    "merged",
    "signed_bytes",
]


METRICS = catalogue(__name__, __path__, Metric, "metric")
