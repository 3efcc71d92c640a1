"""Calls that a connection begins beyond its share wait in line; others never do."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import grpc
import pytest

from lossd.errors import Overloaded, ServiceError
from lossd.serving.rpc.admission import Admission
from lossd.serving.rpc.crowd import Crowd
from lossd.serving.rpc.dispatch import Dispatch, Incoming
from lossd.serving.rpc.giving_way import Prospect
from lossd.serving.rpc.threads import Threads
from lossd.serving.rpc.watchdog import Watchdog
from tests.waiting import until

SLOTS = 4
GREEDY, MODEST = "ipv4:192.0.2.1:1", "ipv4:192.0.2.2:1"


class Event:
    """Stands for what gRPC says of a call: whose it is."""

    def __init__(self, peer: str) -> None:
        self.call = self
        self.asked = 0
        self._peer = peer

    def peer(self) -> bytes:
        self.asked += 1
        return self._peer.encode()


@dataclass
class Door:
    """Admits calls as the boundary does, and keeps what becomes of them."""

    calls: Threads
    refusing: Threads
    line: Threads
    ended: set[str] = field(default_factory=set)
    served: list[str] = field(default_factory=list)
    refused: list[ServiceError] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    is_closed: bool = False

    def __post_init__(self) -> None:
        self.admission = Admission(calls=SLOTS, request_bytes=100)
        self.unread = Watchdog(lambda: 3600, every=3600)
        self.silent = Watchdog(lambda: 3600, every=3600)
        self.crowd = Crowd(SLOTS, (self.silent,), self.unread)
        self.dispatch = Dispatch(self.crowd, lambda: self.ended, self.line)
        self.room = threading.Event()
        self.room.set()

    def incoming(self, peer: str) -> Incoming:
        if self.is_closed:
            incoming = Incoming.to(self.dispatch, self.refused.append, Overloaded("closed"))
            incoming.threads = self.refusing
            return incoming
        try:
            ticket = self.admission.enter()
        except Overloaded as error:
            incoming = Incoming.to(self.dispatch, self.late.append, peer)
            incoming.threads, incoming.late = self.refusing, error
        else:
            incoming = Incoming.to(self.dispatch, self.served.append, peer)
            incoming.threads, incoming.ticket = self.calls, ticket
        incoming.door, incoming.arrival = self, peer
        return incoming

    def again(self, peer: str) -> Incoming:
        return self.incoming(peer)

    def refuse(self, peer: str, error: ServiceError) -> None:
        assert peer
        self.refused.append(error)

    def come(self, peer: str, event: Event | None = None) -> Any:
        """Hands over a call as gRPC does."""
        incoming = self.incoming(peer)

        def run(_event: Event, method: Any) -> None:
            assert self.room.wait(10)
            method()

        return self.dispatch.submit(run, event or Event(peer), incoming)

    def hold(self, peer: str, count: int) -> list[Any]:
        """Takes slots for a connection; returns their tickets."""
        tickets = [self.admission.enter() for _ in range(count)]
        for ticket in tickets:
            self.crowd.take(lambda: peer, ticket)
        return tickets

    def want(self) -> None:
        """Has another connection find no slot."""
        self.silent.watch(lambda: None, lambda: GREEDY)
        self.silent.watch(lambda: None, lambda: GREEDY)
        assert self.crowd.turned_away(MODEST) is Prospect.LEFT


def free(tickets: list[Any]) -> None:
    for ticket in tickets:
        ticket.leave()
        ticket.finish()


@contextmanager
def door() -> Iterator[Door]:
    with ExitStack() as ending:
        calls, refusing, line = (Threads(1, name) for name in ("calls", "refusing", "line"))
        for each in (calls, refusing, line):
            ending.callback(each.shutdown)
        made = Door(calls, refusing, line)
        ending.callback(made.room.set)
        yield made


def test_a_call_is_served_and_nobody_asks_whose_it_is_where_there_is_room() -> None:
    with door() as there:
        event = Event(MODEST)
        there.come(MODEST, event).result(10)
        assert there.served == [MODEST]
        assert event.asked == 0


def test_what_a_connection_begins_beyond_its_share_is_refused_in_its_turn() -> None:
    with door() as there:
        there.hold(GREEDY, SLOTS)
        for _ in range(3):
            there.come(GREEDY).result(10)
        assert [str(each) for each in there.refused] == [
            "calls in flight must be at most 4, got 5"
        ] * 3
        assert not there.late


def test_a_late_call_of_another_connection_does_not_wait_in_line() -> None:
    with door() as there:
        there.hold(GREEDY, SLOTS)
        there.room.clear()
        waiting = [there.come(GREEDY) for _ in range(3)]
        there.line.submit(lambda: None)
        other = there.come(MODEST)
        there.room.set()
        other.result(10)
        assert there.late == [MODEST]
        for each in waiting:
            each.result(10)


def test_a_connection_has_half_of_the_slots_while_others_want_some() -> None:
    with door() as there:
        tickets = there.hold(GREEDY, SLOTS // 2)
        there.want()
        there.come(GREEDY).result(10)
        there.come(MODEST).result(10)
        assert there.served == [MODEST]
        assert [each.reason for each in there.refused] == ["TOO_MANY_CALLS"]
        assert there.admission.calls == len(tickets) + 1  # the refused one gave its slot back


def test_a_call_that_waited_is_served_if_there_is_room_by_then() -> None:
    with door() as there:
        tickets = there.hold(GREEDY, SLOTS)
        before = threading.Event()
        there.line.submit(lambda: before.wait(10))
        there.come(GREEDY)
        free(tickets)
        before.set()
        until(lambda: there.served == [GREEDY])
        assert not there.refused


def test_a_call_of_a_connection_that_was_ended_is_refused_in_its_turn() -> None:
    with door() as there:
        there.ended.add(GREEDY)
        there.come(GREEDY).result(10)
        there.come(MODEST).result(10)
        assert there.served == [MODEST]
        assert [each.reason for each in there.refused] == ["ABANDONED"]
        assert there.admission.calls == 1


def test_a_call_that_waits_while_the_server_closes_is_told_so() -> None:
    with door() as there:
        there.hold(GREEDY, SLOTS)
        before = threading.Event()
        there.line.submit(lambda: before.wait(10))
        there.come(GREEDY)
        there.is_closed = True
        before.set()
        until(lambda: [str(each) for each in there.refused] == ["closed"])


def test_calls_beyond_those_that_may_wait_are_refused_by_other_threads() -> None:
    with door() as there:
        there.hold(GREEDY, SLOTS)
        before = threading.Event()
        there.line.submit(lambda: before.wait(60))
        while there.line.waiting < 1024:
            there.come(GREEDY)
        there.come(GREEDY).result(10)
        assert there.late == [GREEDY]
        there.is_closed = True  # which the others are told at once
        before.set()
        until(lambda: not there.line.waiting)


def test_a_refusal_rests_so_that_others_are_served_meanwhile() -> None:
    with door() as there:
        there.hold(GREEDY, SLOTS)
        began = time.monotonic()
        for each in [there.come(GREEDY) for _ in range(20)]:
            each.result(10)
        assert time.monotonic() - began >= 20 * 0.002


def test_grpc_hands_over_whose_call_it_is() -> None:
    """It is found among what gRPC gives its threads, which nobody promises."""
    names = list[str]()

    def method(_: Any, context: grpc.ServicerContext) -> bytes:
        names.append(context.peer())
        return b"served"

    class Late:
        """Finds no room for any call."""

        def again(self, _: None) -> Incoming:
            incoming = Incoming.to(there.dispatch, method)
            incoming.threads, incoming.late = there.calls, Overloaded("no room")
            incoming.door, incoming.arrival = self, None
            return incoming

        def refuse(
            self, _: None, error: ServiceError, _requests: Any, context: grpc.ServicerContext
        ) -> None:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))

    class Handler(grpc.GenericRpcHandler):
        def service(self, _: grpc.HandlerCallDetails) -> Any:
            return grpc.stream_unary_rpc_method_handler(Late().again(None))

    with door() as there:
        server = grpc.server(there.calls, handlers=[Handler()])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        with closing(grpc.insecure_channel(f"127.0.0.1:{port}")) as channel:
            call: Any = channel.unary_unary("/any/Method")
            assert call(b"", timeout=10) == b"served"
            there.hold(names[0], SLOTS)
            with pytest.raises(grpc.RpcError) as refused:
                call(b"", timeout=10)
            assert cast("Any", refused.value).details() == "no room"
        server.stop(None).wait(10)
