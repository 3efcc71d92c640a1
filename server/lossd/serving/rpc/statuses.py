"""Errors of lossd as statuses of gRPC, with what a caller can read of them."""

from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from lossd.errors import (
    Abandoned,
    DeadlinePassed,
    DeviceLost,
    Draining,
    Forbidden,
    InvalidRequest,
    Overloaded,
    SegmentNotFound,
    SegmentRefused,
    ServiceError,
    TooLarge,
    Unauthenticated,
    UnknownField,
    UnknownLoss,
    UnknownMetric,
)
from lossd.serving.call import REQUEST_ID

DOMAIN = "lossd"
_CODES = {
    InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
    UnknownLoss: grpc.StatusCode.UNIMPLEMENTED,
    UnknownMetric: grpc.StatusCode.UNIMPLEMENTED,
    UnknownField: grpc.StatusCode.UNIMPLEMENTED,
    Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    Forbidden: grpc.StatusCode.PERMISSION_DENIED,
    SegmentNotFound: grpc.StatusCode.NOT_FOUND,
    SegmentRefused: grpc.StatusCode.PERMISSION_DENIED,
    TooLarge: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Abandoned: grpc.StatusCode.CANCELLED,
    DeadlinePassed: grpc.StatusCode.DEADLINE_EXCEEDED,
    DeviceLost: grpc.StatusCode.UNAVAILABLE,
    Draining: grpc.StatusCode.UNAVAILABLE,
}
_DAY_SECONDS = 86400.0  # in which somebody should look: no status has room for a long age
_LONGEST = 1200  # bytes of a message


@dataclass(frozen=True, slots=True)
class _CallStatus(grpc.Status):
    code: grpc.StatusCode
    details: str
    trailing_metadata: tuple[tuple[str, str | bytes], ...]


def code_of(error: BaseException) -> grpc.StatusCode:
    """Returns the code of the nearest class in the tree; INTERNAL for any other error."""
    for kind in type(error).__mro__:
        if kind in _CODES:
            return _CODES[kind]
    return grpc.StatusCode.INTERNAL


def status_of(error: ServiceError, code: grpc.StatusCode, request_id: str) -> grpc.Status:
    """Returns the status that tells of an error, with its details for programs."""
    said = _short(str(error))
    detail = status_pb2.Status(
        code=code.value[0], message=said, details=_details(error, said, request_id)
    )
    metadata = (("grpc-status-details-bin", detail.SerializeToString()), (REQUEST_ID, request_id))
    return _CallStatus(code, said, metadata)


def cancel_with(context: Any, error: ServiceError) -> None:
    """Ends a call with the status of an error; from another thread there is no public way to."""
    context._rpc_event.call.cancel(code_of(error).value[0], str(error))  # noqa: SLF001


def _short(message: str) -> str:
    """Returns a message that fits into headers, three times and escaped; a client takes 8 KiB."""
    data = message.encode()
    return message if len(data) <= _LONGEST else data[:_LONGEST].decode(errors="ignore") + "..."


def _details(error: ServiceError, said: str, request_id: str) -> list[any_pb2.Any]:
    metadata = {"field": error.field, "request_id": request_id, **error.details}
    found: list[Message] = [
        error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata)
    ]
    if error.field:
        request = error_details_pb2.BadRequest()
        request.field_violations.add(field=error.field, description=said)
        found.append(request)
    if isinstance(error, Overloaded):
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromNanoseconds(round(min(error.retry_seconds, _DAY_SECONDS) * 1e9))
        found.append(retry)
    return [_packed(message) for message in found]


def _packed(message: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed
