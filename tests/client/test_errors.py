import pickle
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from lossd import client
from lossd.client.errors import from_rpc_error

EXPECTED = {
    grpc.StatusCode.INVALID_ARGUMENT: client.InvalidRequestError,
    grpc.StatusCode.UNAUTHENTICATED: client.UnauthenticatedError,
    grpc.StatusCode.PERMISSION_DENIED: client.PermissionDeniedError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: client.OverloadedError,
    grpc.StatusCode.UNAVAILABLE: client.UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: client.DeadlineExceededError,
    grpc.StatusCode.CANCELLED: client.CancelledError,
}
KINDS = [getattr(client, name) for name in client.__all__ if name.endswith("Error")]


class Failure(grpc.RpcError):
    def __init__(
        self, code: Any, encoded: Any = None, says: str = "delta must be in (0, inf), got -1"
    ) -> None:
        super().__init__()
        self._code = code
        self._encoded = encoded
        self._says = says

    def code(self) -> Any:
        return self._code

    def details(self) -> Any:
        return self._says

    def trailing_metadata(self) -> Any:
        if self._encoded is None:
            return None
        return (("other", "x"), ("grpc-status-details-bin", self._encoded))


@pytest.mark.parametrize("code", grpc.StatusCode, ids=lambda code: code.name)
def test_every_status_code_has_its_class(code: Any) -> None:
    error = from_rpc_error(Failure(code))
    assert type(error) is EXPECTED.get(code, client.ServerError)
    assert error.code == code.name
    assert str(error) == error.message == "delta must be in (0, inf), got -1"
    assert (error.reason, error.field, error.metadata, error.retry_delay) == ("", "", {}, None)


def test_details_become_attributes(status_bytes: Any, info: Any) -> None:
    violation = error_details_pb2.BadRequest.FieldViolation(field="loss.huber.delta")
    encoded = status_bytes(
        info("OUT_OF_BOUNDS", limit="3"),
        error_details_pb2.BadRequest(field_violations=[violation]),
        error_details_pb2.RetryInfo(retry_delay=Duration(seconds=1, nanos=500_000_000)),
    )
    error = from_rpc_error(Failure(grpc.StatusCode.INVALID_ARGUMENT, encoded))
    assert error.reason == "OUT_OF_BOUNDS"
    assert error.metadata == {"limit": "3"}
    assert error.field == "loss.huber.delta"
    assert error.retry_delay == 1.5


def test_an_unknown_loss_is_told_from_an_unknown_method(status_bytes: Any, info: Any) -> None:
    code = grpc.StatusCode.UNIMPLEMENTED
    unknown = from_rpc_error(Failure(code, status_bytes(info("UNKNOWN_LOSS"))))
    assert type(unknown) is client.UnknownLossError
    newer = from_rpc_error(Failure(code, status_bytes(info("UNKNOWN_FIELD"))))
    assert type(newer) is client.InvalidRequestError
    assert newer.code == "UNIMPLEMENTED"
    assert type(from_rpc_error(Failure(code))) is client.ServerError


def test_the_reason_of_another_domain_is_not_taken_for_ours(status_bytes: Any, info: Any) -> None:
    encoded = status_bytes(info("UNKNOWN_LOSS", domain="proxy.example", limit="3"))
    error = from_rpc_error(Failure(grpc.StatusCode.UNIMPLEMENTED, encoded))
    assert type(error) is client.ServerError
    assert (error.reason, error.metadata) == ("", {})


def broken_detail() -> Any:
    broken = AnyMessage(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=b"\xff")
    return status_pb2.Status(details=[broken]).SerializeToString()


@pytest.mark.parametrize("encoded", [b"\xff\xff", broken_detail()])
def test_details_that_cannot_be_read_leave_the_code(encoded: Any) -> None:
    error = from_rpc_error(Failure(grpc.StatusCode.INVALID_ARGUMENT, encoded))
    assert type(error) is client.InvalidRequestError
    assert error.reason == ""


def test_errors_are_also_the_builtin_ones_that_people_catch() -> None:
    assert issubclass(client.InvalidRequestError, ValueError)
    assert issubclass(client.DeadlineExceededError, TimeoutError)
    assert issubclass(client.UnknownLossError, client.InvalidRequestError)


@pytest.mark.parametrize("kind", KINDS)
def test_errors_survive_pickling(kind: Any) -> None:
    error = kind("no", code="X", reason="R", metadata={"a": "b"}, field="f", retry_delay=2.0)
    error.request_id = "step-7"
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301  our own bytes
    assert type(copy) is kind
    assert vars(copy) == vars(error)
    assert str(copy) == "no"


@pytest.mark.parametrize("says", ["Deadline Exceeded", "Stream removed (Deadline Exceeded)"])
def test_a_call_that_took_too_long_is_told_its_rule(
    says: str, status_bytes: Any, info: Any
) -> None:
    code = grpc.StatusCode.DEADLINE_EXCEEDED
    error = from_rpc_error(Failure(code, says=says))
    assert type(error) is client.DeadlineExceededError
    assert error.message == "call must be answered within its timeout, got no answer in time"
    for own in (
        Failure(code, status_bytes(info("DEADLINE_EXCEEDED")), says),
        Failure(code, says="upstream timeout"),
    ):
        assert from_rpc_error(own).message == own.details()


# As Envoy and HAProxy have it where a server is killed while it answers.
CUT = (
    (
        grpc.StatusCode.INTERNAL,
        "Stream removed (RST_STREAM (Received RST_STREAM with error code 2))",
    ),
    (grpc.StatusCode.UNKNOWN, "Stream removed (Data frame with END_STREAM flag received)"),
)


@pytest.mark.parametrize(("code", "says"), CUT)
def test_a_server_that_a_proxy_lost_is_unavailable(code: Any, says: str) -> None:
    assert type(from_rpc_error(Failure(code, says=says))) is client.UnavailableError


@pytest.mark.parametrize(("code", "says"), CUT)
def test_a_fault_of_the_servers_own_is_none_of_a_proxy(
    code: Any, says: str, status_bytes: Any, info: Any
) -> None:
    own = status_bytes(info("INTERNAL"))
    assert type(from_rpc_error(Failure(code, own, says))) is client.ServerError
    assert type(from_rpc_error(Failure(code, says="internal error"))) is client.ServerError
