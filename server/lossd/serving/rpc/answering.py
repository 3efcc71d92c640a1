"""Answers each call with a reply or a status.

A caller's mistake is answered and counted; ours is logged once, with the id of the request, which
the caller gets instead of any internals.
"""

import functools
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import grpc

from lossd.errors import DeviceLost, InvalidRequest, MemoryFull, ServiceError
from lossd.serving.call import READING_BYTES, REQUEST_ID, Call, Received, Trace
from lossd.serving.rpc.admission import AdmissionTicket
from lossd.serving.rpc.dropping import weight_of, weight_unseen
from lossd.serving.rpc.handlers import (
    BeginTrace,
    ConversationHandler,
    Handler,
    LetIn,
    Metadata,
    Requests,
    StreamHandler,
)
from lossd.serving.rpc.receiving import Receiving
from lossd.serving.rpc.statuses import code_of, status_of
from lossd.serving.rpc.watchdog import Watchdogs
from lossd.serving.telemetry import Telemetry

log = logging.getLogger(__name__)

_FEW_BYTES = 64 << 10  # of a reply that need not be counted

# Of calls that nobody waited for any more: whoever learns of it first, the handler or gRPC.
_UNANSWERED = {grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED}


@dataclass(slots=True)
class Arrival:
    """The facts about a call when it comes in."""

    method: str
    request_id: str
    arrived: float
    has_waited: bool = False

    def age(self) -> float:
        """Returns the seconds since then."""
        return time.perf_counter() - self.arrived


class Answering:
    """Runs the methods of calls that have come in; may be used from many threads.

    Its arguments are those of ``Boundary``; ``receiving`` receives the messages.
    """

    def __init__(
        self,
        methods: Mapping[str, Handler],
        *,
        streams: Mapping[str, StreamHandler],
        conversations: Mapping[str, ConversationHandler],
        receiving: Receiving,
        telemetry: Telemetry,
        watchdogs: Watchdogs,
        device_lost: Callable[[], None],
        let_in: LetIn,
        dropped: Callable[[str, int], object],
        trace: BeginTrace | None,
    ) -> None:
        one = {name: functools.partial(self._answer, each) for name, each in methods.items()}
        many = {name: functools.partial(self._follow, each) for name, each in streams.items()}
        self._methods: Mapping[str, _Answer] = {**one, **many}
        self._conversations = conversations
        self._receiving = receiving
        self._telemetry = telemetry
        self._watchdog = watchdogs.call
        self._first_message = watchdogs.first_message
        self._idle = watchdogs.idle
        self._between = watchdogs.between
        self._device_lost = device_lost
        self._let_in = let_in
        self._dropped = dropped
        self._trace = trace

    def refuse(
        self, arrival: Arrival, error: ServiceError, _: Requests, context: grpc.ServicerContext
    ) -> None:
        """Answers a call with a status, and with nothing else."""
        call = Call(context, arrival.request_id, trace=self._traced(arrival, context))
        if not context.is_active():
            self._dropped(context.peer(), weight_unseen(context, has_waited=arrival.has_waited))
        self._end(arrival, call, context, error)

    def serve(
        self,
        arrival: Arrival,
        ticket: AdmissionTicket,
        requests: Requests,
        context: grpc.ServicerContext,
    ) -> bytes | None:
        """Answers a call with its one reply, or with a status."""
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

    def converse(
        self,
        arrival: Arrival,
        ticket: AdmissionTicket,
        requests: Requests,
        context: grpc.ServicerContext,
    ) -> Iterator[bytes]:
        """Answers a conversation, reply by reply, or with a status."""
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
        self, arrival: Arrival, ticket: AdmissionTicket, context: grpc.ServicerContext
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

    def _traced(self, arrival: Arrival, context: grpc.ServicerContext) -> Trace | None:
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
        arrival: Arrival,
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

    def _sent(self, arrival: Arrival, ticket: AdmissionTicket, call: Call, reply: bytes) -> bytes:
        """Counts a reply until it has been read; the bytes of the request stand for a small one."""
        if len(reply) > max(ticket.held, _FEW_BYTES):
            ticket.hold(len(reply) - ticket.held)
        call.sent(len(reply))
        self._telemetry.sent(arrival.method, len(reply))
        return reply

    def _follow(
        self,
        handler: StreamHandler,
        arrival: Arrival,
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
        arrival: Arrival,
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

    def _ended(self, arrival: Arrival, call: Call, code: grpc.StatusCode) -> None:
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


_Answer = Callable[[Arrival, AdmissionTicket, Requests, Call], bytes]


def _told(error: Exception, number: str) -> ServiceError:
    """Returns the error that the caller is told."""
    if isinstance(error, MemoryError):
        log.warning("memory is short, call is refused", extra={"request_id": number})
        return MemoryFull("request must fit into memory that is free, got one that does not")
    if isinstance(error, ServiceError) and code_of(error) is not grpc.StatusCode.INTERNAL:
        return error
    log.error("internal error", exc_info=error, extra={"request_id": number})
    return ServiceError(f"request must be served, got internal error {number}")
