"""The Python client of lossd: two clients, their results and errors, and weights of classes.

It imports the contract (``lossd.v1``, ``lossd.tensors``) and nothing of the server.
Read ``sync`` next, then ``wire``, which turns arguments into messages; ``aio`` awaits what ``sync``
waits for.
"""

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
from lossd.client.result import LossResult, MetricResult, ServerTiming, TermResult
from lossd.client.security import TLS
from lossd.client.sums import weighted_sum
from lossd.client.sync import LossClient

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
    "to_torch",
    "weighted_sum",
]
