"""Spans of calls for OpenTelemetry, where a program asks for them; the only file that imports it.

Why not OpenTelemetry's own instrumentation of gRPC: a call of ours may take several attempts and
is one to its caller, and that of asyncio cancels streams that are written to as evaluations are.
"""

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

from lossd.client.errors import InvalidRequestError, LossdError

Metadata = tuple[tuple[str, str], ...]
# Begins the span of a method's call with an id; inside is what the server has to be told.
Trace = Callable[[str, str], AbstractContextManager[Metadata]]

_NOTHING: AbstractContextManager[Metadata] = contextlib.nullcontext(())
_OK = 0  # gRPC's number of it


def untraced(method: str, request_id: str) -> AbstractContextManager[Metadata]:
    """Begins nothing."""
    del method, request_id
    return _NOTHING


def tracer(tracing: Any) -> Trace:
    """Returns what begins spans: True for the program's own provider, or a ``TracerProvider``.

    Raises:
        InvalidRequestError: if it is neither, or OpenTelemetry is not installed.
    """
    if tracing is False:
        return untraced
    if tracing is not True and not callable(getattr(tracing, "get_tracer", None)):
        raise _refusal("be True, False or a TracerProvider", type(tracing).__name__)
    try:
        from opentelemetry import propagate, trace  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise _refusal("have OpenTelemetry", "none: pip install 'lossd[otel]'") from error
    made = trace.get_tracer("lossd.client", tracer_provider=None if tracing is True else tracing)

    def begin(method: str, request_id: str) -> AbstractContextManager[Metadata]:
        service, _, name = method[1:].partition("/")
        facts = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": name}
        span = made.start_span(
            method[1:],
            kind=trace.SpanKind.CLIENT,
            attributes={**facts, "lossd.request_id": request_id},
        )
        carried: dict[str, str] = {}
        propagate.inject(carried, trace.set_span_in_context(span))
        failed = trace.Status(trace.StatusCode.ERROR)
        return _OpenSpan(span, tuple((key.lower(), text) for key, text in carried.items()), failed)

    return begin


class _OpenSpan:
    """A span that ends with its context, and tells how the call did."""

    def __init__(self, span: Any, metadata: Metadata, failed: Any) -> None:
        self._span, self._metadata, self._failed = span, metadata, failed

    def __enter__(self) -> Metadata:
        return self._metadata

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self._span.set_attribute("rpc.grpc.status_code", _OK)
        else:
            name = error.code if isinstance(error, LossdError) else type(error).__name__
            self._span.set_attribute("error.type", name)
            self._span.set_status(self._failed)
        self._span.end()


def _refusal(rule: str, got: str) -> InvalidRequestError:
    return InvalidRequestError(f"tracing must {rule}, got {got}", field="tracing")
