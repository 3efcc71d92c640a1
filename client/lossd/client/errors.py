"""Everything that can go wrong, as exceptions, and functions that make them from a failed call.

    LossdError
    ├─ InvalidRequestError    the caller can fix it; also a ValueError
    │  ├─ UnknownLossError    this server does not know the loss
    │  └─ UnknownMetricError  nor this metric
    ├─ UnauthenticatedError   the server does not know who calls
    ├─ PermissionDeniedError  it does, and whoever it is may not
    ├─ OverloadedError        later, or a smaller batch
    ├─ UnavailableError       nobody answers: later, or another replica
    ├─ DeadlineExceededError  it took too long; also a TimeoutError
    ├─ CancelledError         the call was given up, for example by closing the client
    └─ ServerError            the server's mistake, and whatever else there is

The class follows from the status code and the reason, never from the text. Details come as
``google.rpc.Status`` in the trailing metadata; they are read here rather than by grpcio-status,
which would be one more dependency for ten lines.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

DOMAIN = "lossd"
DETAILS_KEY = "grpc-status-details-bin"

# All that gRPC says of a call that took longer than it may.
_PASSED = "Deadline Exceeded"
# What we say of it, who do not know of whom and of how long.
LATE = "call must be answered within its timeout, got no answer in time"
# What helps where nobody is found.
HINT = 'is "lossd serve" running there?'
# The same where gRPC does not tell whether anybody is.
_WAITED_HINT = 'is "lossd serve" running there, with TLS or without as tls says?'
# All that a proxy says of a server that went while it answered; a server's own errors say more.
_CUT = "Stream removed"
_CUT_CODES = (grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL)
# Python's texts where the system has no thread, and where the process ends.
_NO_THREAD = ("can't start new thread", "can't create new thread")


class LossdError(Exception):
    """Anything that went wrong with a call.

    Attributes:
        message: What happened, as "<thing> must <rule>, got <value>" where a rule was broken.
        code: Name of the gRPC status, for example ``"INVALID_ARGUMENT"``.
        reason: The server's reason in UPPER_SNAKE; empty where it gave none.
        metadata: Further facts from the server, for example a limit.
        field: The part of the request at fault; empty where none is named.
        retry_delay: Seconds after which the server wants to be asked again; None if it did not say.
        request_id: The id of the call, which the server's log has too; empty outside of a call.
    """

    code = "UNKNOWN"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        field: str = "",
        retry_delay: float | None = None,
        request_id: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = self.code if code is None else code
        self.reason = reason
        self.metadata = dict(metadata or {})
        self.field = field
        self.retry_delay = retry_delay
        self.request_id = request_id


class InvalidRequestError(LossdError, ValueError):
    """The request breaks a rule; the caller can fix it. Raised by the client and by the server."""

    code = "INVALID_ARGUMENT"


class UnknownLossError(InvalidRequestError):
    """The server does not know the loss: it is older than the client, or none was given."""

    code = "UNIMPLEMENTED"


class UnknownMetricError(InvalidRequestError):
    """The server does not know the metric: it is older than the client, or none was given."""

    code = "UNIMPLEMENTED"


class UnauthenticatedError(LossdError):
    """The server wants a token or a certificate, and got none that it knows."""

    code = "UNAUTHENTICATED"


class PermissionDeniedError(LossdError):
    """The server knows the caller, who may not do this."""

    code = "PERMISSION_DENIED"


class OverloadedError(LossdError):
    """The server has no room for the request: come again later, or with a smaller batch."""

    code = "RESOURCE_EXHAUSTED"


class UnavailableError(LossdError):
    """No server answers, or one that ended cancelled the call; retried until the deadline."""

    code = "UNAVAILABLE"


class DeadlineExceededError(LossdError, TimeoutError):
    """No answer came within the timeout."""

    code = "DEADLINE_EXCEEDED"


class CancelledError(LossdError):
    """The call was given up before its answer came."""

    code = "CANCELLED"


class ServerError(LossdError):
    """The server failed, or its answer cannot be read by this client."""

    code = "INTERNAL"


_class_of_code: Mapping[grpc.StatusCode, type[LossdError]] = MappingProxyType(
    {
        grpc.StatusCode.INVALID_ARGUMENT: InvalidRequestError,
        grpc.StatusCode.UNAUTHENTICATED: UnauthenticatedError,
        grpc.StatusCode.PERMISSION_DENIED: PermissionDeniedError,
        grpc.StatusCode.RESOURCE_EXHAUSTED: OverloadedError,
        grpc.StatusCode.UNAVAILABLE: UnavailableError,
        grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceededError,
        grpc.StatusCode.CANCELLED: CancelledError,
    }
)


_class_of_reason: Mapping[str, type[LossdError]] = MappingProxyType(
    {
        "UNKNOWN_LOSS": UnknownLossError,
        "UNKNOWN_METRIC": UnknownMetricError,
        "UNKNOWN_FIELD": InvalidRequestError,
    }
)


def from_rpc_error(error: grpc.RpcError) -> LossdError:
    """Returns the exception for a failed call; to be raised ``from`` it."""
    code = error.code()
    details = _details(error)
    info = _first(details, error_details_pb2.ErrorInfo)
    if info.domain != DOMAIN:  # a proxy's, whose reasons mean other things
        info = error_details_pb2.ErrorInfo()
    violations = _first(details, error_details_pb2.BadRequest).field_violations
    retry = _first(details, error_details_pb2.RetryInfo)
    message = error.details() or ""
    if not info.domain and _PASSED in message:
        message = late_error().message
    return _class_of(code, info, message)(
        message,
        code=code.name,
        reason=info.reason,
        metadata=info.metadata,
        field=violations[0].field if violations else "",
        retry_delay=_seconds(retry.retry_delay) if retry.HasField("retry_delay") else None,
    )


def is_nobody(error: LossdError) -> bool:
    """Returns whether no server was found, or it has gone; one that is there gives its reason."""
    return isinstance(error, UnavailableError) and not error.reason


def late_error() -> DeadlineExceededError:
    """Returns the exception for a call that took longer than it may."""
    return DeadlineExceededError(LATE)


def is_no_thread(error: RuntimeError) -> bool:
    """Returns whether the system had no thread: Python has a text for that, and no class."""
    return str(error).startswith(_NO_THREAD)


def no_thread_error(error: RuntimeError) -> UnavailableError:
    """Returns the exception for a call that the system had no thread for."""
    return UnavailableError(f"system must begin a thread for the call, got none: {error}")


def lost_error(error: CancelledError) -> UnavailableError:
    """Returns the exception for a call that was cancelled though its caller waits for it.

    A server that ends, or gRPC inside of it, cancels calls that have not begun, without details.
    One that stays cancels those that take longer than it lets them, and some that rest while others
    find no room, and does not say so.
    """
    return UnavailableError(
        "call must be answered, got one that its server cancelled: it ends, makes room for others, "
        f"or has a limit of time (max_call_seconds, idle_seconds): {error.message}",
        code=error.code,
        reason=error.reason,
        metadata=error.metadata,
        retry_delay=error.retry_delay,
    )


def given_up_error() -> CancelledError:
    """Returns the exception for a call whose client was closed before its answer came."""
    return CancelledError("call must be waited for, got a closed client")


def closed_error() -> InvalidRequestError:
    """Returns the exception for a call on a client that was closed."""
    return InvalidRequestError("client must be open, got a closed one")


def forked_error(parted: str) -> InvalidRequestError:
    """Returns the exception for a call in a fork of a process that had something open."""
    return InvalidRequestError(
        f"process that calls must not be a fork of one with {parted}, got one: start it with spawn "
        "or forkserver, or before"
    )


def not_ready_error(server: str, seconds: float) -> DeadlineExceededError:
    """Returns the exception for a server that was waited for in vain."""
    return DeadlineExceededError(
        f"{server} must be ready within {seconds:g} s, got no healthy connection: {_WAITED_HINT}"
    )


def _class_of(
    code: grpc.StatusCode, info: error_details_pb2.ErrorInfo, message: str
) -> type[LossdError]:
    if code is grpc.StatusCode.UNIMPLEMENTED and info.reason in _class_of_reason:
        return _class_of_reason[info.reason]  # without the reason it is the method that is missing
    if code in _CUT_CODES and not info.domain and message.startswith(_CUT):
        return UnavailableError
    return _class_of_code.get(code, ServerError)


def _details(error: grpc.RpcError) -> Sequence[AnyMessage]:
    metadata: Any = error.trailing_metadata()  # None where the call was never sent
    for key, value in metadata or ():
        if key == DETAILS_KEY:
            with suppress(DecodeError):  # the code still tells what happened
                return tuple(status_pb2.Status.FromString(value).details)
    return ()


def _first(details: Sequence[AnyMessage], kind: Any) -> Any:
    """Returns the first detail of a kind, or an empty message where there is none."""
    for detail in details:
        with suppress(DecodeError):
            if detail.Is(kind.DESCRIPTOR):
                return kind.FromString(detail.value)
    return kind()


def _seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos / 1e9
