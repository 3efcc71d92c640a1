"""State that all attempts of one call share, blocking or not: its id and its deadline.

Nothing here does any input or output.
"""

import itertools
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, Self, TypeVar

from google.protobuf.message import DecodeError, Message

from lossd import v1
from lossd.client import arguments
from lossd.client.errors import DeadlineExceededError, LossdError, ServerError
from lossd.client.options import (
    DEVICE_MEMORY_SERVICE,
    EVALUATION_SERVICE,
    SERVICE,
    SHARED_MEMORY_SERVICE,
)
from lossd.framing import Framed

REQUEST_ID_KEY = "x-request-id"

Answer = TypeVar("Answer", bound=Message)


@dataclass(frozen=True, slots=True)
class Method(Generic[Answer]):
    """A method of the service, and the message that it answers with."""

    path: str
    answer: type[Answer]

    def parsed(self, encoded: bytes) -> Framed[Answer]:
        """Parses an answer; all answers are parsed here, whichever kind of call received them.

        The data of its tensors may lie beside the message, so that readers need both.

        Raises:
            ServerError: if it is no such message.
        """
        try:
            return Framed.parse(self.answer, encoded)
        except DecodeError as error:
            name = self.answer.DESCRIPTOR.name
            raise ServerError(
                f"response must be a {name}, got {len(encoded)} other bytes"
            ) from error


COMPUTE_LOSS = Method(f"/{SERVICE}/ComputeLoss", v1.ComputeLossResponse)
STREAM_LOSS = Method(f"/{SERVICE}/StreamLoss", v1.StreamLossResponse)
LIST_LOSSES = Method(f"/{SERVICE}/ListLosses", v1.ListLossesResponse)
LIST_METRICS = Method(f"/{EVALUATION_SERVICE}/ListMetrics", v1.ListMetricsResponse)
GET_SERVER_INFO = Method(f"/{SERVICE}/GetServerInfo", v1.GetServerInfoResponse)
EVALUATE = Method(f"/{EVALUATION_SERVICE}/Evaluate", v1.EvaluateResponse)
EVALUATE_STREAM = Method(f"/{EVALUATION_SERVICE}/EvaluateStream", v1.EvaluateStreamResponse)
ATTACH_SEGMENT = Method(f"/{SHARED_MEMORY_SERVICE}/AttachSegment", v1.AttachSegmentResponse)
DETACH_SEGMENT = Method(f"/{SHARED_MEMORY_SERVICE}/DetachSegment", v1.DetachSegmentResponse)
ALLOCATE_DEVICE = Method(f"/{DEVICE_MEMORY_SERVICE}/AllocateDevice", v1.AllocateDeviceResponse)
RELEASE_DEVICE = Method(f"/{DEVICE_MEMORY_SERVICE}/ReleaseDevice", v1.ReleaseDeviceResponse)


class RequestIds:
    """Fresh ids for the calls of one connection: a random beginning, and a number.

    To draw each from the system would have every call let go of the interpreter's lock, and wait
    for the other threads that take it.
    """

    def __init__(self) -> None:
        self._beginning = secrets.token_hex(8)
        self._numbers = itertools.count()

    def fresh(self) -> str:
        """Returns an id that no other call has."""
        return f"{self._beginning}{next(self._numbers):016x}"


def left_until(moment: float) -> float:
    """Returns the seconds until a moment of the monotonic clock; gRPC may begin a call without any.

    Raises:
        DeadlineExceededError: if there are none.
    """
    left = moment - time.monotonic()
    if left <= 0:
        raise DeadlineExceededError("call must begin within its timeout, got no time left")
    return left


@dataclass(frozen=True, slots=True)
class ClientCall:
    """One call of a user.  As a context, it adds its id to errors that are raised within.

    Attributes:
        request_id: The same for every attempt.
        deadline: When it has to end, on the monotonic clock.
    """

    request_id: str
    deadline: float

    @classmethod
    def begin(cls, timeout: float, request_id: str | None, ids: RequestIds) -> Self:
        """Starts a call; without an id it gets a fresh one of ``ids``.

        Raises:
            InvalidRequestError: if the timeout or the id breaks its rule.
        """
        seconds = arguments.checked_timeout(timeout)
        known = ids.fresh() if request_id is None else arguments.checked_request_id(request_id)
        return cls(known, time.monotonic() + seconds)

    def begun_again(self, seconds: float) -> Self:
        """Returns the same call as one that begins now."""
        return type(self)(self.request_id, time.monotonic() + seconds)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The metadata of each attempt."""
        return ((REQUEST_ID_KEY, self.request_id),)

    def left(self) -> float:
        """Returns the seconds that are left, at least 0."""
        return max(self.deadline - time.monotonic(), 0.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, LossdError):
            error.request_id = self.request_id


def is_let_in(initial_metadata: Iterable[tuple[str, str | bytes]]) -> bool:
    """Returns whether a server says that there is room for a stream, which was refused if not."""
    return any(key == REQUEST_ID_KEY for key, _ in initial_metadata)


def serialised(message: Message) -> bytes:
    """Returns a message as gRPC sends it."""
    return message.SerializeToString()
