"""The states of a server, and who is told of them."""

import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import CollectorRegistry

from lossd.serving.process.health import Health, ServerState
from lossd.serving.rpc.prompt import Prompt
from lossd.serving.rpc.threads import Task, Threads
from lossd.serving.telemetry import Telemetry
from tests.versions import is_older

SERVICE = "lossd.v1.LossService"
Request, Response = health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse


@pytest.fixture
def refusing() -> Iterator[Threads]:
    with Threads(1, "refusing") as threads:
        yield threads


@pytest.fixture
def prompt() -> Iterator[Prompt]:
    prompt = Prompt()
    with prompt.threads:
        yield prompt


@pytest.fixture
def health(prompt: Prompt) -> Health:
    return Health((SERVICE,), prompt, Telemetry(CollectorRegistry(), losses=()))


@pytest.fixture
def channel(prompt: Prompt, refusing: Threads, health: Health) -> Iterator[grpc.Channel]:
    """Leads to a server that tells of this health."""
    del health
    server = grpc.server(refusing)
    prompt.serve(server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    server.stop(None)


def test_a_server_fails_once_and_for_good(health: Health) -> None:
    health.enter(ServerState.READY)

    assert [health.fail(), health.fail()] == [True, False]
    health.enter(ServerState.DRAINING)
    assert health.has_failed
    assert health.state() == "failed"


def test_a_server_that_ends_anyway_does_not_fail(health: Health) -> None:
    health.enter(ServerState.DRAINING)

    assert not health.fail()
    assert health.state() == "draining"


@pytest.mark.parametrize("service", ["", SERVICE])
def test_a_watcher_is_told_each_state_that_is_new_to_it(
    health: Health, channel: grpc.Channel, service: str
) -> None:
    told = health_pb2_grpc.HealthStub(channel).Watch(Request(service=service), timeout=20)

    assert next(told).status == Response.NOT_SERVING
    health.enter(ServerState.READY)
    assert next(told).status == Response.SERVING
    health.enter(ServerState.READY)  # no news
    health.enter(ServerState.DRAINING)
    assert next(told).status == Response.NOT_SERVING
    health.close()
    with pytest.raises(grpc.RpcError) as caught:
        next(told)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_service_that_is_not_known_is_said_so(health: Health, channel: grpc.Channel) -> None:
    del health
    stub = health_pb2_grpc.HealthStub(channel)

    told = stub.Watch(Request(service="no.such"), timeout=20)
    assert next(told).status == Response.SERVICE_UNKNOWN
    told.cancel()
    with pytest.raises(grpc.RpcError) as caught:
        stub.Check(Request(service="no.such"), timeout=20)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


class Watching:
    """Stands for gRPC's context of a watcher that reads nothing until it is allowed to."""

    def __init__(self) -> None:
        self.reads = threading.Event()
        self.gone: Any = None
        self.told: list[Any] = []

    def add_callback(self, callback: Any) -> bool:
        self.gone = callback
        return True

    def send(self, response: Any) -> None:
        self.told.append(response and response.status)
        assert self.reads.wait(20)

    def cancel(self) -> None:
        """Changes nothing: this watcher is as slow as can be."""


def watch(prompt: Prompt, watching: Watching) -> Task:
    """Has a thread serve the watcher, as gRPC does."""
    method: Any = prompt.methods["/grpc.health.v1.Health/Watch"]
    behaviour = method.stream_stream
    requests = iter([Request(service="").SerializeToString()])
    threads: Threads = behaviour.experimental_thread_pool
    return threads.submit(behaviour, requests, watching, watching.send)


def test_nobody_waits_for_a_watcher_that_does_not_read(prompt: Prompt, health: Health) -> None:
    slow, quick = Watching(), Watching()
    quick.reads.set()
    served = [watch(prompt, each) for each in (slow, quick)]
    served[1].result(20)
    while not slow.told:
        threading.Event().wait(0.001)
    with ThreadPoolExecutor(1) as grpc_thread:  # what it does must not wait for a send
        for act in (lambda: health.enter(ServerState.READY), quick.gone, health.state, slow.gone):
            grpc_thread.submit(act).result(20)
    slow.reads.set()
    served[0].result(20)
    assert slow.told == [Response.NOT_SERVING]  # it had gone before the news


def test_what_changes_while_a_watcher_is_told_is_told_afterwards(
    prompt: Prompt, health: Health
) -> None:
    watching = Watching()
    served = watch(prompt, watching)
    while not watching.told:
        threading.Event().wait(0.001)
    health.enter(ServerState.READY)
    health.enter(ServerState.DRAINING)
    health.enter(ServerState.READY)
    watching.reads.set()
    served.result(20)
    assert watching.told == [Response.NOT_SERVING, Response.SERVING]


class Held(grpc.GenericRpcHandler):
    """Looks at no call until it may."""

    def __init__(self) -> None:
        self.may = threading.Event()

    def service(self, _: object) -> None:
        assert self.may.wait(20)


@pytest.mark.skipif(is_older("grpcio", "1.82"), reason="gRPC refuses no call of any method")
def test_health_is_answered_where_grpc_refuses_other_calls(
    prompt: Prompt, refusing: Threads, health: Health
) -> None:
    health.enter(ServerState.READY)
    held, refused = Held(), threading.Event()
    limits = ("max_pending_requests", 2), ("max_pending_requests_hard_limit", 4)
    options = [(f"grpc.server.{name}", limit) for name, limit in limits]
    server = grpc.server(refusing, handlers=[held], options=options)
    prompt.serve(server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        method: Any = channel.unary_unary("/some/Other")
        for call in [method.future(b"", timeout=20) for _ in range(20)]:
            call.add_done_callback(lambda _: refused.set())
        assert refused.wait(20)
        stub: Any = health_pb2_grpc.HealthStub(channel)
        asked = [stub.Check.future(Request(), timeout=20) for _ in range(4)]
        held.may.set()
        assert [each.result().status for each in asked] == [Response.SERVING] * 4
    server.stop(None)


def test_callers_without_a_word_keep_nobody_from_an_answer(channel: grpc.Channel) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    words = threading.Event()

    def silence() -> Any:
        words.wait(60)
        yield from ()

    silent: list[Any] = [
        channel.stream_stream(f"/grpc.health.v1.Health/{name}")(silence())
        for name in ("Check", "Watch")
        for _ in range(30)
    ]
    assert stub.Check(Request(), timeout=20).status == Response.NOT_SERVING
    for call in silent:
        call.cancel()
    words.set()


@pytest.mark.parametrize("name", ["Check", "Watch"])
@pytest.mark.parametrize(
    "said", [b"\xff", b"\x0a\x00" * (1 << 16)], ids=["no message", "a large one"]
)
def test_what_is_no_small_message_is_refused_without_a_word_in_the_log(
    said: bytes, name: str, channel: grpc.Channel, caplog: pytest.LogCaptureFixture
) -> None:
    method: Any = channel.stream_stream(f"/grpc.health.v1.Health/{name}")
    with pytest.raises(grpc.RpcError) as caught:
        next(method(iter([said]), timeout=20))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert re.match(r"request must .*, got \d+", caught.value.details() or "")
    assert not caplog.records
