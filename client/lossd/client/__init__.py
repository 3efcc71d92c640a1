"""The Python client of lossd: ``LossClient``, its results and its errors.

It imports the contract (``lossd.v1``, ``lossd.tensors``) and nothing of the server.
Read ``sync`` next, then ``wire``, which turns arguments into messages.
"""

from lossd.client.errors import (
    CancelledError,
    DeadlineExceededError,
    InvalidRequestError,
    LossdError,
    OverloadedError,
    ServerError,
    UnavailableError,
    UnknownLossError,
)
from lossd.client.result import LossResult, ServerTiming
from lossd.client.sync import LossClient

__all__ = [
    "CancelledError",
    "DeadlineExceededError",
    "InvalidRequestError",
    "LossClient",
    "LossResult",
    "LossdError",
    "OverloadedError",
    "ServerError",
    "ServerTiming",
    "UnavailableError",
    "UnknownLossError",
]
