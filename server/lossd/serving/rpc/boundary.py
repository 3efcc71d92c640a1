"""Admits calls, or refuses them: where lossd begins for gRPC.

Unary methods are served as if their requests were streams: the wire format is the same, and a call
can be refused before its message is read, which may be hundreds of megabytes.
"""

import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import grpc

from lossd.errors import Draining, Overloaded, ServiceError
from lossd.serving.call import REQUEST_ID
from lossd.serving.rpc.admission import Admission
from lossd.serving.rpc.answering import Answering, Arrival
from lossd.serving.rpc.dispatch import Dispatch, Incoming
from lossd.serving.rpc.giving_way import GivingWay, TurnedAway
from lossd.serving.rpc.handlers import (
    BeginTrace,
    ConversationHandler,
    Handler,
    LetIn,
    Pinned,
    Requests,
    StreamHandler,
)
from lossd.serving.rpc.receiving import ENDING, Receiving
from lossd.serving.rpc.watchdog import Watchdogs
from lossd.serving.telemetry import Telemetry

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
        self._receiving = Receiving(watchdogs, telemetry)
        self._answering = Answering(
            methods,
            streams=streams,
            conversations=conversations,
            receiving=self._receiving,
            telemetry=telemetry,
            watchdogs=watchdogs,
            device_lost=device_lost,
            let_in=let_in,
            dropped=dropped,
            trace=trace,
        )
        self._methods = frozenset((*methods, *streams))
        self._conversations = frozenset(conversations)
        self._admission = admission
        self._telemetry = telemetry
        self._threads = threads
        self._refusing_threads = refusing_threads
        self._dispatch = dispatch
        self._giving_way = GivingWay(admission, turned_away)
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
        arrival = Arrival(details.method, request_id(details), time.perf_counter())
        kind = _conversation if details.method in self._conversations else _unary
        return kind(self.incoming(arrival))

    def incoming(self, arrival: Arrival) -> Incoming:
        """Looks for room for a call, and returns what is to run for it, and where."""
        is_conversation = arrival.method in self._conversations
        try:
            self._check_open()
            ticket = self._admission.enter()
        except Draining as error:
            incoming = Incoming.to(self._dispatch, self._answering.refuse, arrival, error)
            incoming.threads = self._refusing_threads
        except Overloaded as error:
            # The error must not be kept with its traceback, which has this frame.
            late = error.with_traceback(None)
            serve_late = self._converse_late if is_conversation else self._serve_late
            incoming = Incoming.to(self._dispatch, serve_late, arrival, late)
            incoming.threads, incoming.late = self._refusing_threads, late
        else:
            serve = self._answering.converse if is_conversation else self._answering.serve
            incoming = Incoming.to(self._dispatch, serve, arrival, ticket)
            incoming.threads, incoming.ticket = self._threads, ticket
        incoming.door, incoming.arrival = self, arrival
        return incoming

    def again(self, arrival: Arrival) -> Incoming:
        """Looks for room for a call that waited in line, where its caller may have dropped it."""
        arrival.has_waited = True
        return self.incoming(arrival)

    def refuse(
        self,
        arrival: Arrival,
        error: ServiceError,
        requests: Requests,
        context: grpc.ServicerContext,
    ) -> None:
        """Answers a call with a status, and with nothing else."""
        self._answering.refuse(arrival, error, requests, context)

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
        arrival: Arrival,
        error: Overloaded,
        requests: Requests,
        context: grpc.ServicerContext,
    ) -> bytes | None:
        """Serves a call for which another one gives way, or refuses it."""
        with self._giving_way.entered(arrival.method, context) as ticket:
            if ticket is not None:
                return self._answering.serve(arrival, ticket, requests, context)
        self._answering.refuse(arrival, error, requests, context)
        return None

    def _converse_late(
        self,
        arrival: Arrival,
        error: Overloaded,
        requests: Requests,
        context: grpc.ServicerContext,
    ) -> Iterator[bytes]:
        with self._giving_way.entered(arrival.method, context) as ticket:
            if ticket is not None:
                yield from self._answering.converse(arrival, ticket, requests, context)
                return
        self._answering.refuse(arrival, error, requests, context)


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
