"""Where errors become statuses: the only file that knows ``StatusCode``.

A caller's mistake is answered and counted; ours is logged once, with a number that the caller gets
instead of any internals.
"""

import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from lossd.errors import Abandoned, InvalidRequest, LossdError, TooLarge, UnknownLoss

log = logging.getLogger(__name__)

DOMAIN = "lossd"
_CODES = {
    InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
    UnknownLoss: grpc.StatusCode.UNIMPLEMENTED,
    TooLarge: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Abandoned: grpc.StatusCode.CANCELLED,
}


@dataclass(slots=True)
class Call:
    """One call as the handlers see it.

    ``labels`` is for what the handler learns on the way and the metrics want to know.
    """

    context: grpc.ServicerContext
    labels: dict[str, str] = field(default_factory=dict)

    def checkpoint(self) -> None:
        """Raises Abandoned if nobody waits for the answer any more."""
        if not self.context.is_active():
            raise Abandoned("call must be waited for, got a cancelled one or one past its deadline")


Handler = Callable[[bytes, Call], bytes]
Observer = Callable[[Call, str], None]


@dataclass(frozen=True, slots=True)
class _Status(grpc.Status):
    code: grpc.StatusCode
    details: str
    trailing_metadata: tuple[tuple[str, bytes], ...]


def code_of(error: BaseException) -> grpc.StatusCode:
    """The code of the nearest class in the tree; INTERNAL for everything that is not ours."""
    for kind in type(error).__mro__:
        if kind in _CODES:
            return _CODES[kind]
    return grpc.StatusCode.INTERNAL


def guarded(handler: Handler, observe: Observer) -> "grpc.RpcMethodHandler[bytes, bytes]":
    """Makes a gRPC method of a function from bytes to bytes.

    Parsing is the handler's, because what the library's own parsing refuses comes out as INTERNAL.
    ``observe`` is told the call and the name of its status.
    """

    def method(data: bytes, context: grpc.ServicerContext) -> bytes:
        call = Call(context)
        try:
            reply = handler(data, call)
        except Exception as error:
            status = _status(error)
            observe(call, status.code.name)
            context.abort_with_status(status)
            raise
        observe(call, grpc.StatusCode.OK.name)
        return reply

    return grpc.unary_unary_rpc_method_handler(method)


def _status(error: Exception) -> _Status:
    if isinstance(error, MemoryError):
        error = TooLarge("request must fit the server's memory, got one that does not")
    if not isinstance(error, LossdError):
        number = uuid.uuid4().hex
        log.error("internal error %s", number, exc_info=error)
        error = LossdError(f"request must be served, got internal error {number}")
    code = code_of(error)
    detail = status_pb2.Status(code=code.value[0], message=str(error), details=_details(error))
    metadata = (("grpc-status-details-bin", detail.SerializeToString()),)
    return _Status(code, str(error), metadata)


def _details(error: LossdError) -> list[any_pb2.Any]:
    info = error_details_pb2.ErrorInfo(
        reason=error.reason, domain=DOMAIN, metadata={"field": error.field, **error.details}
    )
    found = [info]
    if error.field:
        request = error_details_pb2.BadRequest()
        request.field_violations.add(field=error.field, description=str(error))
        found.append(request)
    packed = []
    for message in found:
        packed.append(any_pb2.Any())
        packed[-1].Pack(message)
    return packed
