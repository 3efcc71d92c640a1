"""Spans of calls for OpenTelemetry; the only file of the server that imports it.

Why not OpenTelemetry's own instrumentation of gRPC: what it puts in the place of a method forgets
the threads that the method is to run on, so that calls would run on those that refuse, and health
checks fail.
"""

import importlib.metadata
import os
import re
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from opentelemetry import propagate
from opentelemetry.sdk.resources import (
    SERVICE_NAME,
    SERVICE_VERSION,
    OTELResourceDetector,
    Resource,
)
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context

from lossd.serving.call import Trace
from lossd.serving.config import ConfigError

# More phases of one call are counted and left out: an evaluation may have any number.
_MOST_PHASES = 256
# How long the last spans may take to be sent when the server ends.
_LAST_SECONDS = 1.0
# A header of W3C's Trace Context, and its rules for a state.
_LONGEST_PARENT, _LONGEST_STATE, _MOST_MEMBERS = 512, 8192, 32
_KEY = r"(?:[a-z][_0-9a-z\-*/]{0,255}|[a-z0-9][_0-9a-z\-*/]{0,240}@[a-z][_0-9a-z\-*/]{0,13})"
_MEMBER = re.compile(_KEY + r"=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]")
# What no caller can mend, as OpenTelemetry's conventions have it.
_FAULTS = {
    "UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS",
}  # fmt: skip


class Tracing:
    """Begins the spans of calls, and sends them where the variables ``OTEL_*`` say.

    Raises:
        ConfigError: if these name what is not installed or cannot be used.
    """

    def __init__(self) -> None:
        ours = Resource.create(
            {SERVICE_NAME: "lossd", SERVICE_VERSION: importlib.metadata.version("lossd")}
        )
        named = ours.merge(OTELResourceDetector().detect())
        self._provider = TracerProvider(resource=named, shutdown_on_exit=False)
        for exporter in _exporters():
            self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("lossd.serving")

    def begin(
        self,
        method: str,
        request_id: str,
        metadata: Iterable[tuple[str, str | bytes]],
        arrived: float,
    ) -> Trace | None:
        """Begins the span of a call that came at ``arrived`` of ``time.perf_counter``.

        Returns None if nobody samples it.
        """
        clock = _Clock.now()
        told = {key: value for key, value in metadata if _is_sound(key, value)}
        service, _, name = method[1:].partition("/")
        facts = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": name}
        span = self._tracer.start_span(
            method[1:],
            propagate.extract(told),
            SpanKind.SERVER,
            {**facts, "lossd.request_id": request_id},
            start_time=clock.at(arrived),
        )
        return _CallTrace(self._tracer, span, clock) if span.is_recording() else None

    def close(self) -> None:
        """Sends what is left, for a short while: a collector that is away would hold up the end."""
        sending = threading.Thread(target=self._provider.shutdown, daemon=True)
        sending.start()
        sending.join(_LAST_SECONDS)


def _is_sound(key: str, value: str | bytes) -> bool:
    """Returns whether the library would take a header, and not log for each call what is wrong.

    Baggage is not used.
    """
    if key == "traceparent":
        return isinstance(value, str) and len(value) <= _LONGEST_PARENT
    if key != "tracestate":
        return key != "baggage"
    if not isinstance(value, str) or len(value) > _LONGEST_STATE:
        return False
    members = [one for each in value.split(",") if (one := each.strip(" \t"))]
    return len(members) <= _MOST_MEMBERS and all(map(_MEMBER.fullmatch, members))


@dataclass(frozen=True, slots=True)
class _Clock:
    """Nanoseconds since 1970 that go on evenly, even if somebody sets the clock meanwhile."""

    _offset: int

    @classmethod
    def now(cls) -> "_Clock":
        return cls(time.time_ns() - time.perf_counter_ns())

    def at(self, seconds: float) -> int:
        return round(seconds * 1e9) + self._offset


class _CallTrace:
    """The span of a call, and its phases, which are spans within it."""

    def __init__(self, tracer: Tracer, span: Span, clock: _Clock) -> None:
        self._tracer, self._span, self._clock = tracer, span, clock
        self._inside = set_span_in_context(span)
        self._last: tuple[str, int, int] | None = None  # the phase that may go on, and its times
        self._phases = 0
        context = span.get_span_context()
        self.exemplar = (
            {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}
            if context.trace_flags.sampled
            else None
        )

    def spent(self, phase: str, seconds: float) -> None:
        """Notes a phase that has ended; those that follow on themselves are one."""
        now = time.perf_counter()
        begin, end = self._clock.at(now - seconds), self._clock.at(now)
        if self._last is not None and self._last[0] == phase:
            self._last = (phase, self._last[1], end)
            return
        self._write_last()
        self._last = (phase, begin, end)

    def batch(self, labels: Mapping[str, str]) -> None:
        """Notes that a batch was answered: a conversation has several."""
        self._span.add_event("batch", _attributes(labels))

    def end(self, code: str, number: int, labels: Mapping[str, str]) -> None:
        """Ends the span with gRPC's code, by name and number."""
        self._write_last()
        self._span.set_attributes({"rpc.grpc.status_code": number, **_attributes(labels)})
        if self._phases > _MOST_PHASES:
            self._span.set_attribute("lossd.phases", self._phases)
        if code in _FAULTS:
            self._span.set_attribute("error.type", code)
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end()

    def _write_last(self) -> None:
        if self._last is None:
            return
        self._phases += 1
        if self._phases <= _MOST_PHASES:
            phase, begin, end = self._last
            self._tracer.start_span(phase, self._inside, start_time=begin).end(end)
        self._last = None


def _attributes(labels: Mapping[str, str]) -> dict[str, str]:
    return {f"lossd.{key}": text for key, text in labels.items() if text}


def _exporters() -> list[Any]:
    """Returns the exporters that OTEL_TRACES_EXPORTER names; that of OTLP if it names none.

    Raises:
        ConfigError: if one is not installed or cannot be used.
    """
    variables = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
    protocol = next(filter(None, map(os.environ.get, variables)), "grpc")
    otlp = "otlp_proto_grpc" if protocol == "grpc" else "otlp_proto_http"
    said = os.environ.get("OTEL_TRACES_EXPORTER") or "otlp"
    names = [name.strip() for name in said.split(",")]
    return [_exporter(otlp if name == "otlp" else name) for name in names if name != "none"]


def _exporter(name: str) -> Any:
    found = [*importlib.metadata.entry_points(group="opentelemetry_traces_exporter", name=name)]
    if not found:
        raise ConfigError(
            f"tracing must have an exporter that is installed, got {name}, as "
            "OTEL_TRACES_EXPORTER and OTEL_EXPORTER_OTLP_PROTOCOL say",
            field="tracing",
        )
    try:
        return found[0].load()()
    except Exception as error:
        raise ConfigError(
            f"tracing must have an exporter that starts, got {name} with: {error}", field="tracing"
        ) from error
