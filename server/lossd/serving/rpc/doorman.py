"""Says who may come in, and which call gives way to another."""

import functools

import grpc

from lossd.errors import Overloaded, ServiceError
from lossd.serving.access.gate import Gate
from lossd.serving.caller import HERE, Caller
from lossd.serving.rpc.admission import AdmissionTicket
from lossd.serving.rpc.crowd import Crowd
from lossd.serving.rpc.giving_way import Ask, Prospect
from lossd.serving.rpc.shares import Shares


class Doorman:
    """Lets calls in, each within the slots of its connection and the share of its caller.

    Where there is no gate, all callers are from here.
    """

    def __init__(self, crowd: Crowd, gate: Gate | None, shares: Shares) -> None:
        self._crowd = crowd
        self._gate = gate
        self._shares = shares

    def let_in(self, method: str, context: grpc.ServicerContext, ticket: AdmissionTicket) -> Caller:
        """Returns who makes a call.

        Raises:
            ServiceError: if it is not served.
        """
        slot = self._crowd.take(context.peer, ticket)
        if self._gate is None:
            return HERE
        caller = self._admitted(self._gate, method, context, ticket)
        slot.caller = caller.key
        return caller

    def turned_away(self, method: str, context: grpc.ServicerContext) -> Ask:
        """Returns what tells whether another call gives way to one that found no room, or may soon.

        Who makes the call is found out once, however often that is asked.
        """
        peer = context.peer()
        if self._gate is None:
            return functools.partial(self._crowd.turned_away, peer)
        caller = self._who_may_come(self._gate, method, context)
        if caller is None:
            return lambda: Prospect.NONE
        return functools.partial(self._prospect, peer, caller)

    def _prospect(self, peer: str, caller: Caller) -> Prospect:
        own = None if self._shares.has_room(caller) else caller.key
        return self._crowd.turned_away(peer, own)

    def _admitted(
        self, gate: Gate, method: str, context: grpc.ServicerContext, ticket: AdmissionTicket
    ) -> Caller:
        """Returns the caller, whom a gate admits within his share."""
        caller = gate.admit(method, context)
        try:
            self._shares.take(caller, ticket)
        except Overloaded as error:
            gate.note(error, method=method, peer=context.peer(), caller=caller.name)
            raise
        return caller

    def _who_may_come(
        self, gate: Gate, method: str, context: grpc.ServicerContext
    ) -> Caller | None:
        """Returns the caller; None if it would not be served: for such a one none gives way."""
        try:
            caller = gate.admit(method, context)
        except ServiceError:
            return None
        return caller if self._shares.has_turn(caller) else None
