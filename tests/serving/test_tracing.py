"""Headers of a trace are followed where they are sound, and no other leaves a word in the log."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk", reason="needs the extra 'otel'")

from lossd.serving.tracing import Tracing

METHOD = "/lossd.v1.LossService/ComputeLoss"
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"


@pytest.fixture
def tracing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Tracing]:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    made = Tracing()
    yield made
    made.close()


def begin(tracing: Tracing, **headers: str) -> Any:
    return tracing.begin(METHOD, "id", tuple(headers.items()), 0.0)


@pytest.mark.parametrize(
    "headers",
    [
        {"tracestate": "a=1, b@c=2,, "},
        {"tracestate": "A=1"},
        {"tracestate": "a"},
        {"tracestate": "a=1,b==2"},
        {"tracestate": "a=1,a=2"},
        {"tracestate": ",".join(f"k{number}=1" for number in range(33))},
        {"tracestate": "a=" + "x" * 257},
        {"tracestate": "a=1," * 4000},
        {"baggage": "=,;"},
    ],
    ids=range(9),
)
def test_a_state_changes_nothing_of_the_trace(
    headers: dict[str, str], tracing: Tracing, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        trace = begin(tracing, traceparent=PARENT, **headers)
    assert trace.exemplar["trace_id"] == TRACE
    assert not caplog.records


@pytest.mark.parametrize("parent", ["", "00-x", "ff" + PARENT[2:], PARENT + "-1", "0" * 5000])
def test_a_parent_that_is_none_begins_another_trace(
    parent: str, tracing: Tracing, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        trace = begin(tracing, traceparent=parent)
    assert trace.exemplar["trace_id"] != TRACE
    assert not caplog.records
