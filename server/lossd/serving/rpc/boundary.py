"""Admits calls, and answers each with a reply or a status.

A caller's mistake is answered and counted; ours is logged once, with the id of the request, which
the caller gets instead of any internals.

Unary methods are served as if their requests were streams: the wire format is the same, and a call
can be refused before its message is read, which may be hundreds of megabytes.
"""

import functools
import logging
import math
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import grpc

from lossd.errors import (
    DeviceLost,
    Draining,
    InvalidRequest,
    MemoryFull,
    Overloaded,
    ServiceError,
)
from lossd.serving.call import READING_BYTES, REQUEST_ID, Call, Received, Trace
from lossd.serving.rpc.admission import Admission, AdmissionTicket
from lossd.serving.rpc.dispatch import Dispatch, Incoming
from lossd.serving.rpc.dropping import weight_of, weight_unseen
from lossd.serving.rpc.giving_way import GivingWay, TurnedAway
from lossd.serving.rpc.handlers import (
    BeginTrace,
    ConversationHandler,
    Handler,
    LetIn,
    Metadata,
    Pinned,
    Requests,
    StreamHandler,
)
from lossd.serving.rpc.receiving import ENDING, Receiving
from lossd.serving.rpc.statuses import code_of, status_of
from lossd.serving.rpc.watchdog import Watchdogs
from lossd.serving.telemetry import Telemetry

log = logging.getLogger(__name__)

_FEW_BYTES = 64 << 10  # of a reply that need not be counted

# Of calls that nobody waited for any more: whoever learns of it first, the handler or gRPC.
_UNANSWERED = {grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED}

_LEGIBLE = re.compile(r"[!-~]{1,128}")


class Boundary(grpc.GenericRpcHandler):
    """The methods of lossd's services, by full name such as ``/lossd.v1.LossService/ComputeLoss``.

    ``streams`` are the methods that take a stream of messages, and ``conversations`` those that
    answer with one too; they count the bytes that they keep with the call's ticket.

    Calls run on ``threads``, as many as calls may be in flight; refusals, which take no time, run
    on ``refusing_threads``, and so do calls for which another one gave way.  ``dispatch`` hands
    them to these.  ``device_lost`` is called for every call that finds the device lost.

    ``let_in`` says who makes a call and raises for whom it refuses, before the message is read.
    ``turned_away`` is asked whether another call gives way to one that found no room; ``dropped``
    is told the connection of one that ended before it was answered, and how much that counts.
    ``watchdogs`` end calls that take too long, or wait too long for a message: the first one, and
    any other.  ``trace`` begins to trace a call, where there is tracing.
    """

    def __init__(
        self,
        methods: Mapping[str, Handler],
        *,
        streams: Mapping[str, StreamHandler],
        conversations: Mapping[str, ConversationHandler],
        admission: Admission,
        telemetry: Telemetry,
        watchdogs: Watchdogs,
        threads: ThreadPoolExecutor,
        refusing_threads: ThreadPoolExecutor,
        dispatch: Dispatch,
        device_lost: Callable[[], None],
        let_in: LetIn,
        turned_away: TurnedAway,
        dropped: Callable[[str, int], object],
        trace: BeginTrace | None,
    ) -> None:
        one = {name: functools.partial(self._answer, each) for name, each in methods.items()}
        many = {name: functools.partial(self._follow, each) for name, each in streams.items()}
        self._methods: Mapping[str, _Answering] = {**one, **many}
        self._conversations = conversations
        self._admission = admission
        self._telemetry = telemetry
        self._watchdog = watchdogs.call
        self._first_message = watchdogs.first_message
        self._idle = watchdogs.idle
        self._between = watchdogs.between
        self._receiving = Receiving(watchdogs, telemetry)
        self._threads = threads
        self._refusing_threads = refusing_threads
        self._dispatch = dispatch
        self._device_lost = device_lost
        self._let_in = let_in
        self._giving_way = GivingWay(admission, turned_away)
        self._dropped = dropped
        self._trace = trace
        self._is_closed = False
        self.refused = 0  # calls that came since it was closed
        self.looked_at = 0  # calls that came at all
        telemetry.expect(methods, streams, conversations)

    @property
    def calls(self) -> int:
        """The number of calls that it has let in and that are not over."""
        return self._admission.calls

    def service(
        self, details: grpc.HandlerCallDetails
    ) -> "grpc.RpcMethodHandler[bytes, bytes] | None":
        """Admits a call, or refuses it, before any of it is read."""
        self.looked_at += 1
        if details.method not in self._methods and details.method not in self._conversations:
            return None
        self._telemetry.started(details.method)
        arrival = _Arrival(details.method, request_id(details), time.perf_counter())
        kind = _conversation if details.method in self._conversations else _unary
        return kind(self.incoming(arrival))

    def incoming(self, arrival: "_Arrival") -> Incoming:
        """Looks for room for a call, and returns what is to run for it, and where."""
        is_conversation = arrival.method in self._conversations
        try:
            self._check_open()
            ticket = self._admission.enter()
        except Draining as error:
            incoming = Incoming.to(self._dispatch, self.refuse, arrival, error)
            incoming.threads = self._refusing_threads
        except Overloaded as error:
            # The error must not be kept with its traceback, which has this frame.
            late = error.with_traceback(None)
            serve_late = self._converse_late if is_conversation else self._serve_late
            incoming = Incoming.to(self._dispatch, serve_late, arrival, late)
            incoming.threads, incoming.late = self._refusing_threads, late
        else:
            serve = self._converse if is_conversation else self._serve
            incoming = Incoming.to(self._dispatch, serve, arrival, ticket)
            incoming.threads, incoming.ticket = self._threads, ticket
        incoming.door, incoming.arrival = self, arrival
        return incoming

    def again(self, arrival: "_Arrival") -> Incoming:
        """Looks for room for a call that waited in line, where its caller may have dropped it."""
        arrival.has_waited = True
        return self.incoming(arrival)

    def refuse(
        self, arrival: "_Arrival", error: ServiceError, _: Requests, context: grpc.ServicerContext
    ) -> None:
        """Answers a call with a status, and with nothing else."""
        call = Call(context, arrival.request_id, trace=self._traced(arrival, context))
        if not context.is_active():
            self._dropped(context.peer(), weight_unseen(context, has_waited=arrival.has_waited))
        self._end(arrival, call, context, error)

    def close(self) -> None:
        """Refuses all calls from now on, and tells them that others will answer."""
        self._is_closed = True
        self._receiving.close()

    def end_rest(self) -> None:
        """Ends streams that rest between two batches, once it is closed, with a status of its own.

        One that has just been answered has a moment, in which it may end by itself.
        """
        self._receiving.end_rest()

    def _check_open(self) -> None:
        if self._is_closed:
            self.refused += 1
            raise Draining(ENDING)

    def _serve_late(
        self,
        arrival: "_Arrival",
        error: Overloaded,
        requests: Requests,
        context: grpc.ServicerContext,
    ) -> bytes | None:
        """Serves a call for which another one gives way, or refuses it."""
        with self._giving_way.entered(arrival.method, context) as ticket:
            if ticket is not None:
                return self._serve(arrival, ticket, requests, context)
        self.refuse(arrival, error, requests, context)
        return None

    def _converse_late(
        self,
        arrival: "_Arrival",
        error: Overloaded,
        requests: Requests,
        context: grpc.ServicerContext,
    ) -> Iterator[bytes]:
        with self._giving_way.entered(arrival.method, context) as ticket:
            if ticket is not None:
                yield from self._converse(arrival, ticket, requests, context)
                return
        self.refuse(arrival, error, requests, context)

    def _serve(
        self,
        arrival: "_Arrival",
        ticket: AdmissionTicket,
        requests: Requests,
        context: grpc.ServicerContext,
    ) -> bytes | None:
        call = self._begun(arrival, ticket, context)
        try:
            call.caller = self._let_in(arrival.method, context, ticket)
            reply = self._methods[arrival.method](arrival, ticket, requests, call)
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets a status
            self._end(arrival, call, context, error)
            return None
        else:
            self._ended(arrival, call, grpc.StatusCode.OK)
            context.set_trailing_metadata(((REQUEST_ID, arrival.request_id),))
            return reply
        finally:
            ticket.finish()

    def _converse(
        self,
        arrival: "_Arrival",
        ticket: AdmissionTicket,
        requests: Requests,
        context: grpc.ServicerContext,
    ) -> Iterator[bytes]:
        call = self._begun(arrival, ticket, context)
        handler = self._conversations[arrival.method]
        try:
            call.caller = self._let_in(arrival.method, context, ticket)
            call.spent("queue", arrival.age())
            received = self._receiving.all(arrival.method, requests, call, self._between)
            for reply in handler(received, call, ticket):
                self._telemetry.sent(arrival.method, len(reply))
                call.sent(max(len(reply), READING_BYTES))  # a piece has a second at least
                yield reply
                call.read_by = math.inf
        except GeneratorExit:  # nobody reads the rest
            self._ended(arrival, call, grpc.StatusCode.CANCELLED)
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets a status
            self._end(arrival, call, context, error)
        else:
            self._ended(arrival, call, grpc.StatusCode.OK)
            context.set_trailing_metadata(((REQUEST_ID, arrival.request_id),))
        finally:
            ticket.finish()

    def _begun(
        self, arrival: "_Arrival", ticket: AdmissionTicket, context: grpc.ServicerContext
    ) -> Call:
        """Returns the call, whose ticket leaves when it ends, and which is cut off after a time."""
        call = Call(context, arrival.request_id, ticket.hold, ticket.collecting)
        call.trace = self._traced(arrival, context)
        release = self._watchdog.watch(context.cancel, call.who_does_not_read)

        def over(amount: int | None = None) -> None:
            release()
            call.over()
            ticket.leave()
            if not call.is_answered:
                self._dropped(context.peer(), amount or weight_of(call))

        if not context.add_callback(over):  # it ended before it began
            over(weight_unseen(context, has_waited=arrival.has_waited))
        return call

    def _traced(self, arrival: "_Arrival", context: grpc.ServicerContext) -> Trace | None:
        if self._trace is None:
            return None
        metadata: Metadata = context.invocation_metadata()
        try:
            return self._trace(arrival.method, arrival.request_id, metadata, arrival.arrived)
        except Exception as error:  # noqa: BLE001 - of a sampler: no call fails for its trace
            log.warning("call is not traced", extra={"because": str(error) or repr(error)})
            return None

    def _answer(
        self,
        handler: Handler,
        arrival: "_Arrival",
        ticket: AdmissionTicket,
        requests: Requests,
        call: Call,
    ) -> bytes:
        call.spent("queue", arrival.age())
        data = self._receiving.one(arrival.method, requests, call, self._first_message)
        if data is None:
            raise InvalidRequest("request must be one message, got none", reason="NO_MESSAGE")
        ticket.hold(len(data))
        received = Received(data)
        del data
        return self._sent(arrival, ticket, call, handler(received, call))

    def _sent(
        self, arrival: "_Arrival", ticket: AdmissionTicket, call: Call, reply: bytes
    ) -> bytes:
        """Counts a reply until it has been read; the bytes of the request stand for a small one."""
        if len(reply) > max(ticket.held, _FEW_BYTES):
            ticket.hold(len(reply) - ticket.held)
        call.sent(len(reply))
        self._telemetry.sent(arrival.method, len(reply))
        return reply

    def _follow(
        self,
        handler: StreamHandler,
        arrival: "_Arrival",
        ticket: AdmissionTicket,
        requests: Requests,
        call: Call,
    ) -> bytes:
        call.spent("queue", arrival.age())
        received = self._receiving.all(arrival.method, requests, call, self._idle)
        reply = handler(received, call, ticket)
        return self._sent(arrival, ticket, call, reply)

    def _end(
        self,
        arrival: "_Arrival",
        call: Call,
        context: grpc.ServicerContext,
        error: Exception,
    ) -> None:
        """Answers with a status; ``abort_with_status`` raises."""
        if isinstance(error, grpc.RpcError):  # gRPC's own: the caller left while it was read
            # gRPC keeps it in a cycle, and with its traceback all that these frames hold, such as
            # half a batch, until the garbage is collected some day.
            error.with_traceback(None)
            error = call.why_over("call must be waited for, got one that ended while it was read")
        if isinstance(error, DeviceLost):
            self._device_lost()
        told = _told(error, arrival.request_id)
        code = code_of(told)
        self._telemetry.rejected(told.reason)
        self._ended(arrival, call, code)
        context.abort_with_status(status_of(told, code, arrival.request_id))

    def _ended(self, arrival: "_Arrival", call: Call, code: grpc.StatusCode) -> None:
        call.is_answered = code not in _UNANSWERED
        seconds = arrival.age()
        # Its name, which takes two calls of Python's to ask for in the usual way.
        self._telemetry.ended(arrival.method, call, code._name_, seconds)
        if call.trace is not None:
            call.trace.end(code.name, code.value[0], call.last_labels)
        if log.isEnabledFor(logging.DEBUG):
            facts = {"method": arrival.method, "request_id": call.request_id, "code": code.name}
            labels = call.last_labels
            log.debug("call", extra={**facts, "seconds": round(seconds, 6), **labels})


_Answering = Callable[["_Arrival", AdmissionTicket, Requests, Call], bytes]


@dataclass(slots=True)
class _Arrival:
    """The facts about a call when it comes in."""

    method: str
    request_id: str
    arrived: float
    has_waited: bool = False

    def age(self) -> float:
        """Returns the seconds since then."""
        return time.perf_counter() - self.arrived


def _unary(behaviour: Pinned) -> "grpc.RpcMethodHandler[bytes, bytes]":
    return grpc.stream_unary_rpc_method_handler(behaviour)


def _conversation(behaviour: Pinned) -> "grpc.RpcMethodHandler[bytes, bytes]":
    return grpc.stream_stream_rpc_method_handler(behaviour)


def request_id(details: grpc.HandlerCallDetails) -> str:
    """Returns the caller's id of its request if it gave a valid one, else a new one."""
    for key, value in details.invocation_metadata:
        if key == REQUEST_ID:
            given = str(value)
            return given if _LEGIBLE.fullmatch(given) else secrets.token_hex(16)
    return secrets.token_hex(16)


def _told(error: Exception, number: str) -> ServiceError:
    """Returns the error that the caller is told."""
    if isinstance(error, MemoryError):
        log.warning("memory is short, call is refused", extra={"request_id": number})
        return MemoryFull("request must fit into memory that is free, got one that does not")
    if isinstance(error, ServiceError) and code_of(error) is not grpc.StatusCode.INTERNAL:
        return error
    log.error("internal error", exc_info=error, extra={"request_id": number})
    return ServiceError(f"request must be served, got internal error {number}")
