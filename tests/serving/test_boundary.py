"""Errors become statuses in one place, and tell nothing of the inside."""

import contextlib
import gc
import logging
import math
import re
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeVar, cast

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from prometheus_client import CollectorRegistry

from lossd import errors
from lossd.serving.call import Call, Received
from lossd.serving.caller import HERE
from lossd.serving.rpc.admission import Admission, AdmissionTicket
from lossd.serving.rpc.boundary import Boundary
from lossd.serving.rpc.crowd import Crowd
from lossd.serving.rpc.dispatch import Dispatch
from lossd.serving.rpc.giving_way import Ask, Prospect, TurnedAway
from lossd.serving.rpc.handlers import BeginTrace, ConversationHandler, Handler
from lossd.serving.rpc.resets import SEEN, SILENT, UNSEEN
from lossd.serving.rpc.statuses import code_of
from lossd.serving.rpc.threads import Threads
from lossd.serving.rpc.watchdog import Watchdog, Watchdogs
from lossd.serving.telemetry import Telemetry

M = TypeVar("M", bound=Message)

ALL_ERRORS = [
    error
    for error in vars(errors).values()
    if isinstance(error, type) and issubclass(error, errors.ServiceError)
]


METHOD = "/lossd.v1.LossService/ComputeLoss"


class Aborted(Exception):  # noqa: N818 - what gRPC's abort does
    """Ends a handler."""


class Context:
    """Stands for gRPC's context of one call."""

    def __init__(self, *, active: bool = True, remaining: float | None = None) -> None:
        self.active = active
        self.remaining = remaining
        self.status: Any = None
        self.trailing: Any = ()
        self.callbacks: list[Callable[[], None]] = []

    def is_active(self) -> bool:
        return self.active

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return ()

    def send_initial_metadata(self, metadata: tuple[tuple[str, str], ...], /) -> None:
        assert metadata

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"

    def time_remaining(self) -> float | None:
        return self.remaining

    def set_trailing_metadata(self, metadata: Any) -> None:
        self.trailing = metadata

    def add_callback(self, callback: Callable[[], None]) -> bool:
        self.callbacks.append(callback)
        return self.active

    def cancel(self) -> None:
        self.active = False

    def end(self) -> None:
        """Does what gRPC does when the reply has left."""
        callbacks, self.callbacks = self.callbacks, []
        for callback in callbacks:
            callback()

    def abort_with_status(self, status: Any) -> None:
        self.status = status
        raise Aborted


@dataclass
class Details:
    """Stands for what gRPC tells of a call that comes in."""

    method: str = METHOD
    invocation_metadata: tuple[tuple[str, str], ...] = ()


@dataclass
class Service:
    """A boundary around one handler, and the metrics it keeps."""

    boundary: Boundary
    admission: Admission
    registry: CollectorRegistry

    def call(self, *messages: bytes, **metadata: str) -> tuple[Any, Context]:
        """Makes a call as gRPC does; returns the reply and the context."""
        pairs = tuple((name.replace("_", "-"), value) for name, value in metadata.items())
        method: Any = self.boundary.service(cast("Any", Details(invocation_metadata=pairs)))
        context = Context()
        reply = None
        with contextlib.suppress(Aborted):
            reply = method.stream_unary(iter(messages), context)
        context.end()
        return reply, context

    def method(self) -> Any:
        """Returns what gRPC is given to answer a call with."""
        return self.boundary.service(cast("Any", Details()))

    def count(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0


def dispatch() -> Dispatch:
    """Hands each call to its threads: nobody has his share of so many slots."""
    nobody = Watchdog(lambda: 3600, every=3600)
    return Dispatch(Crowd(1000, (), nobody), lambda: (), Threads(1, "line"))


def served(
    handler: Handler,
    *,
    calls: int = 2,
    request_bytes: int = 100,
    device_lost: Callable[[], None] = lambda: None,
    dropped: Callable[[str, int], object] = lambda *_: None,
    turned_away: TurnedAway = lambda *_: lambda: Prospect.NONE,
    conversations: Mapping[str, ConversationHandler] = MappingProxyType({}),
    trace: BeginTrace | None = None,
    watchdogs: Watchdogs | None = None,
) -> Service:
    registry = CollectorRegistry()
    admission = Admission(calls=calls, request_bytes=request_bytes)
    with ThreadPoolExecutor(1) as threads:  # gRPC runs methods on it; these tests call them
        boundary = Boundary(
            {METHOD: handler},
            streams={},
            conversations=conversations,
            admission=admission,
            telemetry=Telemetry(registry, losses=()),
            watchdogs=watchdogs or Watchdogs.ending_after(call=3600, first_message=3600, idle=3600),
            threads=threads,
            refusing_threads=threads,
            dispatch=dispatch(),
            device_lost=device_lost,
            let_in=lambda *_: HERE,
            turned_away=turned_away,
            dropped=dropped,
            trace=trace,
        )
    return Service(boundary, admission, registry)


@dataclass
class Dropped:
    """Keeps what is told of calls that ended before they were answered."""

    calls: list[tuple[str, int]] = field(default_factory=list)

    def __call__(self, peer: str, amount: int) -> None:
        self.calls.append((peer, amount))


def failing(error: Exception) -> Handler:
    def handler(_received: Received, _call: Call) -> bytes:
        raise error

    return handler


def told(context: Context) -> status_pb2.Status:
    """The details that the caller gets."""
    return status_pb2.Status.FromString(
        dict(context.status.trailing_metadata)["grpc-status-details-bin"]
    )


def unpacked(detail: Any, message: M) -> M:
    assert detail.Unpack(message)
    return message


@pytest.mark.parametrize("error", ALL_ERRORS)
def test_every_error_has_a_code(error: type[errors.ServiceError]) -> None:
    internal = error in (errors.ServiceError, errors.BackendUnavailable)  # not a caller's business

    assert (code_of(error("x")) is grpc.StatusCode.INTERNAL) == internal


def test_details_name_the_reason_the_field_and_the_numbers() -> None:
    error = errors.InvalidTensor(
        "targets[3] must be in [0, 2), got 7", field="inputs.targets", details={"index": 3}
    )
    service = served(failing(error))
    _, context = service.call(b"", x_request_id="epoch-7")

    found = told(context).details
    info = unpacked(found[0], error_details_pb2.ErrorInfo())
    request = unpacked(found[1], error_details_pb2.BadRequest())
    assert (info.reason, info.domain) == ("INVALID_TENSOR", "lossd")
    assert dict(info.metadata) == {
        "field": "inputs.targets",
        "index": "3",
        "request_id": "epoch-7",
    }
    assert request.field_violations[0].field == "inputs.targets"
    assert service.count("lossd_rejected_total", reason="INVALID_TENSOR") == 1


@pytest.mark.parametrize("letter", ["x", "é", "\U0001f600"])
def test_a_message_fits_into_what_a_client_takes_of_headers(letter: str) -> None:
    """The message goes in three places: one is escaped, two are encoded in base 64."""
    error = errors.InvalidTensor(letter * 20_000, field="inputs")
    _, context = served(failing(error)).call(b"")
    status: Any = context.status
    sizes: list[float] = [len(status.details.encode()) * (1 if letter == "x" else 3)]
    sizes += [len(value) * 4 / 3 for _, value in status.trailing_metadata]
    assert sum(sizes) < 8000
    assert told(context).message == status.details


def test_no_call_fails_for_its_trace(caplog: pytest.LogCaptureFixture) -> None:
    def begin(*_: object) -> None:
        raise ValueError("a sampler")

    service = served(lambda received, _: received.take(), trace=begin)
    assert service.call(b"ab")[0] == b"ab"
    assert service.admission.calls == 0
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_an_internal_error_is_logged_once_and_not_told(caplog: pytest.LogCaptureFixture) -> None:
    service = served(failing(RuntimeError("secret /etc/path")))
    with caplog.at_level(logging.ERROR):
        _, context = service.call(b"", x_request_id="epoch-7")

    assert context.status.code is grpc.StatusCode.INTERNAL
    assert "secret" not in context.status.details
    (record,) = caplog.records
    assert record.exc_info is not None
    assert record.__dict__["request_id"] == "epoch-7"  # what joins the two
    assert "epoch-7" in context.status.details


def test_a_lost_device_is_told_to_the_caller_and_to_the_server() -> None:
    heard: list[str] = []
    error = errors.DeviceLost("device must answer, got: an illegal address")
    service = served(failing(error), device_lost=lambda: heard.append("lost"))
    _, context = service.call(b"")

    assert context.status.code is grpc.StatusCode.UNAVAILABLE
    assert "an illegal address" in context.status.details
    assert heard == ["lost"]


def test_a_callers_mistake_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    served(failing(errors.InvalidRequest("thing must hold, got none"))).call(b"")

    assert not caplog.records


def test_at_debug_level_every_call_has_a_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        served(lambda received, _call: received.take()).call(b"", x_request_id="epoch-7")

    (record,) = caplog.records
    assert (record.__dict__["request_id"], record.__dict__["code"]) == ("epoch-7", "OK")


@pytest.mark.parametrize("seconds", [1e6, 1e300, math.inf])
def test_a_long_time_to_come_again_is_told_as_a_day(seconds: float) -> None:
    error = errors.Overloaded("calls must be few, got many")
    error.retry_seconds = seconds
    _, context = served(failing(error)).call(b"")
    retry = unpacked(told(context).details[1], error_details_pb2.RetryInfo())

    assert retry.retry_delay.ToSeconds() == 24 * 60 * 60


def test_memory_that_is_not_there_may_be_later(caplog: pytest.LogCaptureFixture) -> None:
    service = served(failing(MemoryError()))
    _, context = service.call(b"", x_request_id="epoch-7")

    assert context.status.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    info = unpacked(told(context).details[0], error_details_pb2.ErrorInfo())
    retry = unpacked(told(context).details[1], error_details_pb2.RetryInfo())
    assert info.reason == "OUT_OF_MEMORY"
    assert retry.retry_delay.ToMilliseconds() == 1000
    assert service.count("lossd_rejected_total", reason="OUT_OF_MEMORY") == 1
    (record,) = caplog.records
    assert record.__dict__["request_id"] == "epoch-7"


def test_a_call_without_a_message_is_refused() -> None:
    _, context = served(lambda received, _call: received.take()).call()

    assert context.status.code is grpc.StatusCode.INVALID_ARGUMENT
    assert context.status.details == "request must be one message, got none"


def test_one_call_too_many_is_told_the_limit_and_when_to_come_again() -> None:
    service = served(lambda received, _call: received.take(), calls=2)
    service.admission.enter()
    service.admission.enter()
    _, context = service.call(b"never read")

    assert context.status.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert context.status.details == "calls in flight must be at most 2, got 3"
    info = unpacked(told(context).details[0], error_details_pb2.ErrorInfo())
    retry = unpacked(told(context).details[1], error_details_pb2.RetryInfo())
    assert (info.reason, info.metadata["limit"]) == ("TOO_MANY_CALLS", "2")
    assert 0 < retry.retry_delay.ToMilliseconds() <= 1000
    assert service.count("lossd_rejected_total", reason="TOO_MANY_CALLS") == 1


def test_a_call_for_which_another_gives_way_is_served() -> None:
    held: list[AdmissionTicket] = []

    def give_way() -> Prospect:
        held[0].finish()
        held[0].leave()
        return Prospect.LEFT

    service = served(
        lambda received, _call: received.take(), calls=1, turned_away=lambda *_: give_way
    )
    held.append(service.admission.enter())
    reply, _ = service.call(b"hello")

    assert reply == b"hello"
    assert service.admission.calls == 0


def test_a_call_for_which_another_should_give_way_and_does_not_is_refused() -> None:
    service = served(lambda *_: b"", calls=1, turned_away=lambda *_: lambda: Prospect.LEFT)
    service.admission.enter()
    _, context = service.call(b"hello")

    assert context.status.code is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_nobody_gives_way_to_a_caller_that_has_left() -> None:
    asked: list[str] = []

    def turned_away(method: str, _context: Any) -> Ask:
        asked.append(method)
        return lambda: Prospect.LEFT

    service = served(lambda *_: b"", calls=1, turned_away=turned_away)
    service.admission.enter()
    with pytest.raises(Aborted):
        service.method().stream_unary(iter([b""]), Context(active=False))
    assert asked == []


def test_a_refused_call_leaves_nothing_for_the_garbage_collector() -> None:
    service = served(lambda *_: b"", calls=1)
    service.admission.enter()
    gc.collect()
    gc.disable()
    try:
        service.method()
        assert not any(type(each) is errors.Overloaded for each in gc.get_objects())
    finally:
        gc.enable()


@pytest.mark.parametrize(("request_bytes", "counted"), [(1, 200_000), (300_000, 300_000)])
def test_a_large_answer_counts_until_it_has_been_read(request_bytes: int, counted: int) -> None:
    service = served(lambda *_: bytes(200_000), request_bytes=400_000)
    method: Any = service.boundary.service(cast("Any", Details()))
    context = Context()
    method.stream_unary(iter([bytes(request_bytes)]), context)

    assert service.admission.request_bytes == counted
    context.end()
    assert service.admission.request_bytes == 0


def test_a_large_answer_for_which_there_is_no_room_is_refused() -> None:
    _, context = served(lambda *_: bytes(200_000), request_bytes=100_000).call(b"")

    assert context.status.code is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_device_that_is_full_will_have_room_again() -> None:
    def full(received: Received, _: Call) -> bytes:
        received.take()
        raise errors.DeviceFull(
            "batch must fit into the device's memory that is free, got one too many"
        )

    _, context = served(full).call(b"")

    assert context.status.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    info = unpacked(told(context).details[0], error_details_pb2.ErrorInfo())
    retry = unpacked(told(context).details[1], error_details_pb2.RetryInfo())
    assert info.reason == "DEVICE_OUT_OF_MEMORY"
    assert retry.retry_delay.ToMilliseconds() == 1000


def test_bytes_that_do_not_fit_beside_the_others_are_refused() -> None:
    service = served(lambda received, _call: received.take(), request_bytes=10)
    other = service.admission.enter()
    other.hold(8)
    _, context = service.call(b"abc")
    other.finish()
    other.leave()
    reply, _ = service.call(b"abc")

    assert context.status.details == "bytes in flight must be at most 10, got 11"
    assert reply == b"abc"


@pytest.mark.parametrize(
    "handler",
    [
        lambda received, _call: received.take(),
        failing(errors.InvalidRequest("x")),
        failing(ValueError()),
    ],
)
def test_whatever_becomes_of_a_call_nothing_stays_in_flight(handler: Handler) -> None:
    service = served(handler)
    for _ in range(5):
        service.call(b"abc")

    assert (service.admission.calls, service.admission.request_bytes) == (0, 0)
    assert (
        sum(
            service.count(
                "grpc_server_handled_total",
                grpc_type="unary",
                grpc_service="lossd.v1.LossService",
                grpc_method="ComputeLoss",
                grpc_code=code.name,
            )
            for code in grpc.StatusCode
        )
        == 5
    )


def test_nothing_of_a_call_that_ended_while_it_was_read_stays() -> None:
    """gRPC keeps its errors in a cycle, and a traceback keeps what lies on the stack."""

    class Batch:
        """Something that a handler holds."""

    kept: list[Exception] = []
    held: list[weakref.ref[Batch]] = []

    def handler(_received: Received, _call: Call) -> bytes:
        batch = Batch()
        held.append(weakref.ref(batch))
        error = grpc.RpcError()
        kept.append(error)
        raise error

    served(handler).call(b"x")
    assert kept
    assert held[0]() is None


def test_the_number_of_a_request_comes_back() -> None:
    _, context = served(lambda received, _call: received.take()).call(b"", x_request_id="epoch-7")

    assert dict(context.trailing)["x-request-id"] == "epoch-7"


@pytest.mark.parametrize("given", ["", "two words", "x" * 129, "line\nbreak"])
def test_a_number_that_is_not_legible_is_replaced(given: str) -> None:
    _, context = served(lambda received, _call: received.take()).call(b"", x_request_id=given)

    assert re.fullmatch("[0-9a-f]{32}", dict(context.trailing)["x-request-id"])


def test_a_checkpoint_stops_a_call_that_nobody_waits_for() -> None:
    with pytest.raises(errors.Abandoned):
        Call(Context(active=False), "").checkpoint()
    with pytest.raises(errors.DeadlinePassed):
        Call(Context(remaining=0), "").checkpoint()
    with pytest.raises(errors.DeadlinePassed):  # which gRPC noticed a moment before
        Call(Context(active=False, remaining=0.002), "").checkpoint()
    Call(Context(remaining=0.002), "").checkpoint()
    with pytest.raises(errors.Abandoned):
        Call(Context(active=False, remaining=1), "").checkpoint()
    Call(Context(remaining=1), "").checkpoint()


def test_a_call_is_dropped_that_ends_before_it_is_answered() -> None:
    dropped = Dropped()

    def left(_received: Received, call: Call) -> bytes:
        cast("Context", call.context).end()
        raise errors.Abandoned("call must be waited for, got a cancelled one")

    served(left, dropped=dropped).call(b"")
    assert dropped.calls == [("ipv4:127.0.0.1:1", SEEN)]


@pytest.mark.parametrize(("remaining", "amount"), [(None, SILENT), (9.0, SILENT), (0.0, SEEN)])
def test_a_call_that_was_dropped_before_it_said_a_word_counts_for_some(
    remaining: float | None, amount: int
) -> None:
    dropped = Dropped()
    context = Context(remaining=remaining)

    def messages() -> Iterator[bytes]:
        context.active = False
        context.end()
        yield from ()

    with pytest.raises(Aborted):
        served(lambda *_: b"", dropped=dropped).method().stream_unary(messages(), context)
    assert dropped.calls == [("ipv4:127.0.0.1:1", amount)]


def test_a_call_that_the_server_ended_for_its_silence_counts_for_one() -> None:
    dropped = Dropped()
    watchdogs = Watchdogs.ending_after(call=3600, first_message=3600, idle=3600)
    context = Context()

    def messages() -> Iterator[bytes]:
        assert watchdogs.first_message.end_newest(1) == 1
        context.end()
        yield from ()

    service = served(lambda *_: b"", dropped=dropped, watchdogs=watchdogs)
    with pytest.raises(Aborted):
        service.method().stream_unary(messages(), context)
    assert dropped.calls == [("ipv4:127.0.0.1:1", SEEN)]


@pytest.mark.parametrize(("remaining", "amount"), [(None, UNSEEN), (9.0, UNSEEN), (0.0, SEEN)])
@pytest.mark.parametrize("calls", [2, 1], ids=["served", "refused"])
def test_a_call_that_was_reset_before_it_was_looked_at_counts_for_more(
    remaining: float | None, amount: int, calls: int
) -> None:
    """One whose time had passed counts for one: after a pause there may be many of them."""
    dropped = Dropped()
    ended = failing(errors.Abandoned("call must be waited for"))
    service = served(ended, calls=calls, dropped=dropped)
    service.admission.enter()
    with pytest.raises(Aborted):
        service.method().stream_unary(iter([b""]), Context(active=False, remaining=remaining))
    assert dropped.calls == [("ipv4:127.0.0.1:1", amount)]


@pytest.mark.parametrize("calls", [2, 1], ids=["served", "refused"])
def test_a_call_that_was_dropped_while_it_waited_in_line_counts_for_one(calls: int) -> None:
    dropped = Dropped()
    ended = failing(errors.Abandoned("call must be waited for"))
    service = served(ended, calls=calls, dropped=dropped)
    taken = service.admission.enter()
    incoming: Any = service.method().stream_unary
    taken_again = incoming.again()
    with pytest.raises(Aborted):
        taken_again(iter([b""]), Context(active=False))
    assert dropped.calls == [("ipv4:127.0.0.1:1", SEEN)]
    assert taken.held == 0


@pytest.mark.parametrize("error", [errors.Abandoned, errors.DeadlinePassed])
def test_a_call_is_dropped_whose_handler_learns_it_first(error: type[errors.ServiceError]) -> None:
    dropped = Dropped()
    served(failing(error("call must be waited for")), dropped=dropped).call(b"")
    assert dropped.calls == [("ipv4:127.0.0.1:1", SEEN)]


@pytest.mark.parametrize("active", [True, False])
def test_a_call_that_left_before_it_was_refused_was_dropped(*, active: bool) -> None:
    dropped = Dropped()
    service = served(lambda *_: b"", calls=1, dropped=dropped)
    service.admission.enter()
    method: Any = service.boundary.service(cast("Any", Details()))
    with pytest.raises(Aborted):
        method.stream_unary(iter([b""]), Context(active=active))
    assert dropped.calls == ([] if active else [("ipv4:127.0.0.1:1", UNSEEN)])


@pytest.mark.parametrize("handler", [lambda *_: b"", failing(errors.InvalidRequest("no"))])
def test_a_call_that_is_answered_was_not_dropped(handler: Handler) -> None:
    dropped = Dropped()
    served(handler, dropped=dropped).call(b"")
    assert dropped.calls == []


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which passes only where a test says so."""
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    return clock


@pytest.mark.parametrize(("size", "least", "most"), [(0, 0, 1), (100_000_000, 9, 11)])
def test_an_answer_may_take_the_longer_to_be_read_the_larger_it_is(
    now: list[float], size: int, least: float, most: float
) -> None:
    call = Call(Context(), "")
    assert call.who_does_not_read() == ""
    call.sent(size)
    now[0] += least
    assert call.who_does_not_read() == ""
    now[0] += most - least
    assert call.who_does_not_read() == "ipv4:127.0.0.1:1"


def test_an_answer_of_a_conversation_is_read_before_the_next_one(now: list[float]) -> None:
    calls: list[Call] = []
    awaited: list[float] = []  # when the answer before should have been read

    def converse(messages: Iterator[bytes], call: Call, _: AdmissionTicket) -> Iterator[bytes]:
        calls.append(call)
        for message in messages:
            awaited.append(call.read_by)
            yield message

    service = served(lambda *_: b"", conversations={METHOD + "s": converse})
    method: Any = service.boundary.service(cast("Any", Details(METHOD + "s")))
    answers = method.stream_stream(iter([b"a", b"b"]), Context())
    assert next(answers) == b"a"
    (call,) = calls
    assert 1 < call.read_by - now[0] < 2  # a second at least, however small it is
    assert list(answers) == [b"b"]
    assert [*awaited, call.read_by] == [math.inf] * 3


@pytest.mark.parametrize("awaits_chunk", [False, True])
def test_who_has_begun_a_batch_is_told_from_who_rests(*, awaits_chunk: bool) -> None:
    def converse(messages: Iterator[bytes], call: Call, _: AdmissionTicket) -> Iterator[bytes]:
        for message in messages:
            call.awaits_chunk = awaits_chunk
            yield message

    watchdogs = Watchdogs.ending_after(call=3600, first_message=3600, idle=3600)
    service = served(lambda *_: b"", conversations={METHOD + "s": converse}, watchdogs=watchdogs)
    begun, resting = watchdogs.chunk, watchdogs.between
    watched: list[tuple[int, int]] = []

    def messages() -> Iterator[bytes]:
        for _ in range(3):
            watched.append((len(begun), len(resting)))
            yield b"a"

    method: Any = service.boundary.service(cast("Any", Details(METHOD + "s")))
    assert len([*method.stream_stream(messages(), Context())]) == 3
    assert watched == [(0, 0), *[(1, 0) if awaits_chunk else (0, 1)] * 2]
