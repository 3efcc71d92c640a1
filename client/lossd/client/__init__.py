"""The Python client of lossd: two clients, their results and errors, and weights of classes.

It imports the contract (``lossd.v1``, ``lossd.tensors``) and nothing of the server.
``__version__`` is here, because ``lossd`` itself is a namespace over contract, server and client.
Read ``sync`` next, then ``requests``, which turns arguments into messages, and ``responses``;
``aio`` awaits what ``sync`` waits for.
"""

import importlib
from typing import TYPE_CHECKING

from lossd.client.aio import AsyncLossClient
from lossd.client.cautions import BatchWarning
from lossd.client.class_weights import balanced_weights, effective_number_weights
from lossd.client.errors import (
    CancelledError,
    DeadlineExceededError,
    InvalidRequestError,
    LossdError,
    OverloadedError,
    PermissionDeniedError,
    ServerError,
    UnauthenticatedError,
    UnavailableError,
    UnknownLossError,
    UnknownMetricError,
)
from lossd.client.evaluation import AsyncEvaluation, Evaluation
from lossd.client.frameworks import to_torch
from lossd.client.local import local, local_server
from lossd.client.making import make_loss, make_metric
from lossd.client.result import LossResult, MetricResult, ServerTiming, TermResult
from lossd.client.security import TLS
from lossd.client.sums import weighted_sum
from lossd.client.sync import LossClient

if TYPE_CHECKING:
    __version__: str
else:

    def __getattr__(name: str) -> str:
        """Returns the version of the installed package, which is looked up when it is asked for."""
        if name == "__version__":
            return importlib.import_module("importlib.metadata").version("lossd")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "TLS",
    "AsyncEvaluation",
    "AsyncLossClient",
    "BatchWarning",
    "CancelledError",
    "DeadlineExceededError",
    "Evaluation",
    "InvalidRequestError",
    "LossClient",
    "LossResult",
    "LossdError",
    "MetricResult",
    "OverloadedError",
    "PermissionDeniedError",
    "ServerError",
    "ServerTiming",
    "TermResult",
    "UnauthenticatedError",
    "UnavailableError",
    "UnknownLossError",
    "UnknownMetricError",
    "balanced_weights",
    "effective_number_weights",
    "local",
    "local_server",
    "make_loss",
    "make_metric",
    "to_torch",
    "weighted_sum",
]
