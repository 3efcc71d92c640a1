"""Errors become statuses in one place, and tell nothing of the inside."""

import logging
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from lossd import errors
from lossd.serving.boundary import Call, code_of, guarded

ALL_ERRORS = [
    error
    for error in vars(errors).values()
    if isinstance(error, type) and issubclass(error, errors.LossdError)
]


class Context:
    """Stands for gRPC's context of one call."""

    def __init__(self, *, active: bool = True) -> None:
        self.active = active
        self.status: Any = None

    def is_active(self) -> bool:
        return self.active

    def abort_with_status(self, status: Any) -> None:
        self.status = status


def fails_with(error: Exception) -> tuple[Any, list[str]]:
    """The status that a handler's error becomes, and what the observer was told."""
    seen: list[str] = []

    def handler(_data: bytes, _call: Call) -> bytes:
        raise error

    method: Any = guarded(handler, lambda _call, status: seen.append(status))
    context = Context()
    with pytest.raises(type(error)):
        method.unary_unary(b"", context)
    return context.status, seen


@pytest.mark.parametrize("error", ALL_ERRORS)
def test_every_error_has_a_code(error: type[errors.LossdError]) -> None:
    internal = error in (errors.LossdError, errors.BackendUnavailable)  # not a caller's business

    assert (code_of(error("x")) is grpc.StatusCode.INTERNAL) == internal


def test_details_name_the_reason_the_field_and_the_numbers() -> None:
    error = errors.InvalidTensor(
        "targets[3] must be in [0, 2), got 7", field="inputs.targets", details={"index": 3}
    )
    status, seen = fails_with(error)

    detail = status_pb2.Status.FromString(dict(status.trailing_metadata)["grpc-status-details-bin"])
    info, request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    assert detail.details[0].Unpack(info)
    assert detail.details[1].Unpack(request)
    assert (info.reason, info.domain) == ("INVALID_TENSOR", "lossd")
    assert dict(info.metadata) == {"field": "inputs.targets", "index": "3"}
    assert request.field_violations[0].field == "inputs.targets"
    assert seen == ["INVALID_ARGUMENT"]


def test_an_internal_error_is_logged_once_and_not_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        status, seen = fails_with(RuntimeError("secret /etc/path"))

    assert status.code is grpc.StatusCode.INTERNAL
    assert "secret" not in status.details
    assert seen == ["INTERNAL"]
    (record,) = caplog.records
    assert record.exc_info is not None
    assert record.getMessage().split()[-1] in status.details  # the number that joins the two


def test_a_callers_mistake_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    fails_with(errors.InvalidRequest("thing must hold, got none"))

    assert not caplog.records


def test_memory_that_is_not_there_is_resource_exhausted() -> None:
    status, _ = fails_with(MemoryError())

    assert status.code is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_checkpoint_stops_a_call_that_nobody_waits_for() -> None:
    with pytest.raises(errors.Abandoned):
        Call(Context(active=False)).checkpoint()  # type: ignore[arg-type]  # all it looks at
    Call(Context()).checkpoint()  # type: ignore[arg-type]
