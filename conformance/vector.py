"""A vector: what is sent, and what has to come back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf.message import Message

from lossd import v1

INDEX = Path(__file__).with_name("vectors.json")
# These depend on the server, not on the request.
IGNORED = ("backend", "server_timing", "transport")


@dataclass(frozen=True, slots=True)
class Method:
    """A method, the messages of which a vector holds, and whether each side sends a stream."""

    path: str
    request: type[Message]
    reply: type[Message]
    sends_stream: bool = False
    answers_stream: bool = False


_LOSSES, _EVALUATION = "lossd.v1.LossService", "lossd.v1.EvaluationService"
COMPUTE = Method(f"{_LOSSES}/ComputeLoss", v1.ComputeLossRequest, v1.ComputeLossResponse)
STREAM = Method(
    f"{_LOSSES}/StreamLoss",
    v1.StreamLossRequest,
    v1.ComputeLossResponse,  # put together from what the stream brings
    sends_stream=True,
    answers_stream=True,
)
EVALUATE = Method(f"{_EVALUATION}/Evaluate", v1.EvaluateRequest, v1.EvaluateResponse)
EVALUATE_STREAM = Method(
    f"{_EVALUATION}/EvaluateStream",
    v1.EvaluateStreamRequest,
    v1.EvaluateStreamResponse,
    sends_stream=True,
)
METHODS = {method.path: method for method in (COMPUTE, STREAM, EVALUATE, EVALUATE_STREAM)}


@dataclass(frozen=True, slots=True)
class Refused:
    """How a call ends that breaks a rule; ``metadata`` must be among those of ErrorInfo."""

    code: str
    reason: str
    fields: Sequence[str]
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Vector:
    """Messages to send, the replies, and how the call ends.

    A number is right that differs by at most ``absolute`` + ``relative`` times the right one.
    """

    name: str
    about: str
    method: Method
    requests: Sequence[Message]
    replies: Sequence[Message] = ()
    refused: Refused | None = None
    relative: float = 0.0
    absolute: float = 0.0


@dataclass(frozen=True, slots=True)
class Encoding:
    """Numbers as JSON has them, and the bytes that they are as a tensor."""

    dtype: str
    values: Sequence[Any]
    data: bytes


@dataclass(frozen=True, slots=True)
class Suite:
    """All that a client has to get right."""

    encodings: Sequence[Encoding] = field(default_factory=list)
    vectors: Sequence[Vector] = field(default_factory=list)
