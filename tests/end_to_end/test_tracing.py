"""A collector receives the spans of client and server, and those of the phases, in one trace."""

import asyncio
import contextlib
import itertools
import pickle
import signal
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
import pytest
from prometheus_client.openmetrics import parser

from lossd import v1
from lossd.client import AsyncLossClient, InvalidRequestError, LossClient, LossdError
from lossd.v1 import Accuracy, Huber
from tests.end_to_end.conftest import Process, serve
from tests.end_to_end.raw import request

pytest.importorskip("opentelemetry.sdk", reason="needs the extra 'otel'")

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import (
    OTLPSpanExporter,
)
from opentelemetry.proto.collector.trace.v1 import (
    trace_service_pb2,
    trace_service_pb2_grpc,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

CALL = "lossd.v1.LossService/ComputeLoss"
STREAM = "lossd.v1.LossService/StreamLoss"
EVALUATION = "lossd.v1.EvaluationService/EvaluateStream"
CLIENT, SERVER = 3, 2  # of the enum in OTLP's span


@dataclass
class Collector:
    """Receives spans over OTLP, as any collector does."""

    spans: list[tuple[str, Any]] = field(default_factory=list)  # by the service's name
    _come: threading.Condition = field(default_factory=threading.Condition)

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        del context
        with self._come:
            for resource in request.resource_spans:
                (name,) = (
                    each.value.string_value
                    for each in resource.resource.attributes
                    if each.key == "service.name"
                )
                self.spans += [(name, s) for scope in resource.scope_spans for s in scope.spans]
            self._come.notify_all()
        return trace_service_pb2.ExportTraceServiceResponse()

    def of(self, request_id: str, *kinds: int) -> list[tuple[str, Any]]:
        """All spans of the trace that a request is in, when spans of these kinds are.

        Those of phases are sent before the server's.
        """
        found: list[tuple[str, Any]] = []

        def is_there() -> bool:
            traces = {s.trace_id for _, s in self.spans if request_id in str(s.attributes)}
            found[:] = [(name, s) for name, s in self.spans if s.trace_id in traces]
            return {s.kind for _, s in found} >= set(kinds)

        with self._come:
            assert self._come.wait_for(is_there, 20), [(name, s.name) for name, s in found]
        return found

    def has_traces(self, trace_ids: set[str]) -> bool:
        """Waits for a span of each trace."""
        with self._come:
            return self._come.wait_for(
                lambda: trace_ids <= {s.trace_id.hex() for _, s in self.spans}, 20
            )


@pytest.fixture(scope="module")
def collector() -> Iterator[tuple[Collector, str]]:
    made, server = Collector(), grpc.server(ThreadPoolExecutor(2))
    add: Any = trace_service_pb2_grpc.add_TraceServiceServicer_to_server  # without types
    add(made, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield made, f"http://127.0.0.1:{port}"
    server.stop(0).wait()


@pytest.fixture(scope="module")
def traced(collector: tuple[Collector, str]) -> Iterator[Process]:
    """A server that traces; every span is sent soon."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOSSD_TRACING", "true")
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector[1])
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        with serve("--backend", "numpy", "--threads", "1") as process:
            yield process


@pytest.fixture(scope="module")
def provider(collector: tuple[Collector, str]) -> Iterator[TracerProvider]:
    """The tracer provider of a program that trains."""
    made = TracerProvider(resource=Resource({"service.name": "trainer"}), shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=collector[1], insecure=True)
    made.add_span_processor(SimpleSpanProcessor(exporter))
    yield made
    made.shutdown()


def small(client: LossClient, name: str) -> None:
    client.compute(Huber(), predictions=[0.0], targets=[1.0], request_id=name)


def large(client: LossClient, name: str) -> None:
    zeros = np.zeros(1 << 20, np.float32)
    client.compute(Huber(), predictions=zeros, targets=zeros, request_id=name)


def many(client: LossClient, name: str) -> None:
    with client.evaluation(Accuracy(), request_id=name) as run:
        run.update(predictions=[1], targets=[1])
        run.result()


async def in_asyncio(address: str, provider: TracerProvider, name: str) -> None:
    zeros = np.zeros(1 << 20, np.float32)
    async with AsyncLossClient(address, tracing=provider) as client:
        await client.compute(Huber(), predictions=[0.0], targets=[1.0], request_id=f"{name}-small")
        await client.compute(Huber(), predictions=zeros, targets=zeros, request_id=f"{name}-large")
        async with client.evaluation(Accuracy(), request_id=f"{name}-many") as run:
            await run.update(predictions=[1], targets=[1])
            await run.result()


WAYS: dict[str, tuple[Callable[[LossClient, str], None], str, set[str]]] = {
    "small": (small, CALL, {"queue", "receive", "decode", "compute", "encode"}),
    "large": (large, STREAM, {"queue", "receive", "decode", "compute", "encode"}),
    "many": (many, EVALUATION, {"queue", "receive", "decode", "compute"}),
}


def check(spans: list[tuple[str, Any]], method: str, phases: set[str]) -> None:
    """The client's span has the server's in it, and that has the phases in it."""
    (asked,) = (s for name, s in spans if name == "trainer")
    (served,) = (s for name, s in spans if s.kind == SERVER)
    inside = [s for name, s in spans if s not in (asked, served)]

    assert {name for name, s in spans if s is not asked} == {"lossd"}
    assert (asked.name, asked.kind, asked.parent_span_id) == (method, CLIENT, b"")
    assert (served.name, served.parent_span_id) == (method, asked.span_id)
    assert {s.name for s in inside} == phases
    assert all(s.parent_span_id == served.span_id for s in inside)
    for s in inside:
        assert served.start_time_unix_nano <= s.start_time_unix_nano <= s.end_time_unix_nano
        assert s.end_time_unix_nano <= served.end_time_unix_nano
    assert asked.start_time_unix_nano <= served.start_time_unix_nano  # one clock here


@pytest.mark.parametrize("way", WAYS)
def test_a_call_is_one_trace_of_client_server_and_phases(
    way: str, collector: tuple[Collector, str], traced: Process, provider: TracerProvider
) -> None:
    call, method, phases = WAYS[way]
    with LossClient(traced.address, tracing=provider) as client:
        call(client, f"threads-{way}")

    check(collector[0].of(f"threads-{way}", CLIENT, SERVER), method, phases)


def test_so_is_one_of_asyncio(
    collector: tuple[Collector, str], traced: Process, provider: TracerProvider
) -> None:
    asyncio.run(in_asyncio(traced.address, provider, "asyncio"))

    for way, (_, method, phases) in WAYS.items():
        check(collector[0].of(f"asyncio-{way}", CLIENT, SERVER), method, phases)


def test_a_caller_s_fault_is_an_error_to_the_client_and_none_to_the_server(
    collector: tuple[Collector, str], traced: Process, provider: TracerProvider
) -> None:
    with (
        LossClient(traced.address, tracing=provider) as client,
        pytest.raises(InvalidRequestError),
    ):
        client.compute(Huber(delta=-1), predictions=[0.0], targets=[0.0], request_id="wrong")
    spans = collector[0].of("wrong", CLIENT, SERVER)

    states = {s.kind: s.status.code for _, s in spans if s.name == CALL}
    assert states == {CLIENT: 2, SERVER: 0}  # ERROR, UNSET


def texts(attributes: Any) -> dict[str, str]:
    return {one.key: one.value.string_value for one in attributes}


def test_a_span_has_the_loss_and_one_of_a_stream_that_of_its_last_batch(
    collector: tuple[Collector, str], traced: Process, provider: TracerProvider
) -> None:
    with LossClient(traced.address, tracing=provider) as client:
        small(client, "named-small")
        large(client, "named-large")
    huber = v1.ComputeLossRequest.FromString(request())
    huber.loss.huber.SetInParent()
    huber.inputs[1].CopyFrom(huber.inputs[0])
    huber.inputs[1].name = "targets"
    batches = [huber, v1.ComputeLossRequest.FromString(request())]
    messages = [v1.StreamLossRequest(call=batch).SerializeToString() for batch in batches]
    with grpc.insecure_channel(traced.address) as channel:
        stream: Any = channel.stream_stream(f"/{STREAM}")
        assert len(list(stream(iter(messages), metadata=(("x-request-id", "named-two"),)))) == 2

    found = {}
    for name in ("named-small", "named-large", "named-two"):
        (served,) = (s for _, s in collector[0].of(name, SERVER) if s.kind == SERVER)
        events = [texts(event.attributes)["lossd.loss"] for event in served.events]
        found[name] = (texts(served.attributes)["lossd.loss"], events)
    assert found == {
        "named-small": ("huber", []),
        "named-large": ("huber", ["huber"]),
        "named-two": ("cross_entropy", ["huber", "cross_entropy"]),
    }


def evaluate(address: str, provider: TracerProvider, *, is_closed: bool) -> None:
    client = LossClient(address, tracing=provider)
    run = client.evaluation(Accuracy(), timeout=5)
    if is_closed:
        client.close()
    with client, run:
        run.update(predictions=[1], targets=[1])
        run.result()


async def evaluate_in_asyncio(address: str, provider: TracerProvider, *, is_closed: bool) -> None:
    client = AsyncLossClient(address, tracing=provider)
    run = client.evaluation(Accuracy(), timeout=5)
    if is_closed:
        await client.close()
    async with client, run:
        await run.update(predictions=[1], targets=[1])
        await run.result()


def in_loop(address: str, provider: TracerProvider, *, is_closed: bool) -> None:
    asyncio.run(evaluate_in_asyncio(address, provider, is_closed=is_closed))


@pytest.mark.parametrize(
    ("end", "evaluate"),
    [*itertools.product(["good", "nobody answers", "closed"], [evaluate, in_loop])],
)
def test_an_evaluation_has_one_span_that_tells_how_it_ended(
    end: str, evaluate: Callable[..., None], traced: Process
) -> None:
    ended, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(ended))
    address = "127.0.0.1:9" if end == "nobody answers" else traced.address

    with contextlib.nullcontext() if end == "good" else pytest.raises(LossdError):
        evaluate(address, provider, is_closed=end == "closed")

    (span,) = ended.get_finished_spans()
    assert span.status.status_code.name == ("UNSET" if end == "good" else "ERROR")


def test_a_caller_who_samples_nothing_is_not_traced(
    collector: tuple[Collector, str], traced: Process
) -> None:
    unsampled = f"00-{'a' * 32}-{'b' * 16}-00"
    with grpc.insecure_channel(traced.address) as channel:
        ask: Any = channel.unary_unary("/lossd.v1.LossService/GetServerInfo")
        ask(b"", metadata=(("traceparent", unsampled), ("x-request-id", "unsampled")))
        ask(b"", metadata=(("traceparent", "nonsense"), ("x-request-id", "nonsense")))
    collector[0].of("nonsense", SERVER)  # which begins a trace of its own

    assert "unsampled" not in str(collector[0].spans)


def test_times_in_a_scrape_lead_to_traces(
    collector: tuple[Collector, str], traced: Process, provider: TracerProvider
) -> None:
    with LossClient(traced.address, tracing=provider) as client:
        small(client, "exemplar")
    spans = collector[0].of("exemplar", CLIENT, SERVER)
    request = urllib.request.Request(traced.metrics_url)  # noqa: S310 - ours
    request.add_header("Accept", "application/openmetrics-text; version=1.0.0")
    with urllib.request.urlopen(request, timeout=5) as reply:  # noqa: S310
        text = reply.read().decode()
    read: Any = parser.text_string_to_metric_families
    families = read(text)
    found: dict[str, set[str]] = {}  # each bucket has an exemplar, also of calls before this one
    for family in families:
        for sample in family.samples:
            if sample.exemplar:
                found.setdefault(family.name, set()).add(sample.exemplar.labels["trace_id"])

    assert found.keys() == {
        "grpc_server_handling_seconds",
        "lossd_request_duration_seconds",
        "lossd_phase_duration_seconds",
    }
    for trace_ids in found.values():
        assert spans[0][1].trace_id.hex() in trace_ids
        assert collector[0].has_traces(trace_ids)


def test_a_collector_that_is_away_holds_up_neither_calls_nor_the_end() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
        with (
            serve("--backend", "numpy", "--tracing") as server,
            LossClient(server.address) as client,
        ):
            for _ in range(20):
                small(client, "away")
            begin = time.monotonic()
            assert server.end(signal.SIGTERM) == 0

    assert time.monotonic() - begin < 6


def test_a_copied_client_has_the_tracing_of_the_program_that_it_comes_into() -> None:
    with LossClient("127.0.0.1:9", tracing=True) as client:
        copy = pickle.loads(pickle.dumps(client))  # noqa: S301 - ours
        assert copy._connections._is_traced
        copy.close()


def test_tracing_must_be_a_provider() -> None:
    with pytest.raises(InvalidRequestError, match=r"^tracing must be True, False or a Trac.*, got"):
        LossClient(tracing="yes")
