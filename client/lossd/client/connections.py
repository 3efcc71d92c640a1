"""The connections of a client, one in each process that it comes into.

A channel does not survive a fork, because its threads stay behind: a data loader that forks workers
after the client was used gets a new channel in each of them.
"""

import os
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from lossd.client.aio_connection import AsyncConnection
from lossd.client.connection import Connection
from lossd.client.errors import InvalidRequestError
from lossd.client.security import PLAIN, Security
from lossd.client.target import Target, checked_target
from lossd.client.tracing import Trace, tracer

Made = TypeVar("Made", bound=Connection | AsyncConnection)


class Connections(Generic[Made]):
    """The connections of a client, one in each process that it comes into; copies have their own.

    Args:
        make: Makes a connection from the target and the channel.
        target: Where to connect to, or a function that says it, unless there is a channel.
        channel: The caller's channel, for all connections.
        security: How they are secured, and what proves who calls.
        tracing: Where spans go: True for the program's own provider, or a ``TracerProvider``; a
            pickled copy has that of the program that it comes into.

    Raises:
        InvalidRequestError: if the target is none, or spans can go nowhere.
    """

    def __init__(
        self,
        make: Callable[[Target, Any, Security, Trace], Made],
        target: Target,
        channel: Any,
        security: Security = PLAIN,
        tracing: Any = False,  # noqa: FBT002 - or a provider
    ) -> None:
        self._make = make
        self._security = security
        self._is_traced = tracing is not False
        self._trace = tracer(tracing)
        is_told = channel is not None or callable(target)
        self._target = target if is_told else checked_target(target)
        self._channel = channel
        # By process. The parent's stays here in a child, where nothing may touch it, not even to
        # free it.
        self._made: dict[int, Made] = {}

    def here(self) -> Made:
        """Returns that of this process.

        Raises:
            InvalidRequestError: if it is a fork that gRPC would do nothing in but wait.
        """
        # setdefault is atomic, where a lock could have been copied locked into a child.
        process = os.getpid()
        return self._made.get(process) or self._made.setdefault(process, self._new())

    def _new(self) -> Made:
        if not all(inherited.survives_fork for inherited in self._made.values()):
            raise InvalidRequestError(
                "client of asyncio must be first used after a fork, got one that the parent used: "
                "start the process with spawn or forkserver"
            )
        made = self._make(self._target, self._channel, self._security, self._trace)
        if any(inherited.is_closed for inherited in self._made.values()):
            made.begin_closed()
        return made

    def __str__(self) -> str:
        """Returns the arguments that made them, without the token."""
        if self._channel is not None:
            return f"channel={self._channel!r}"
        tls = "" if self._security.tls is None else f", tls={self._security.tls}"
        return f"{self._target!r}{tls}{', token=...' if self._security.token else ''}"

    def __reduce__(self) -> tuple[Any, ...]:
        """Returns what is needed to make a copy, here or in another process.

        Raises:
            InvalidRequestError: if the channel is the caller's.
        """
        if self._channel is not None:
            raise InvalidRequestError(
                "client must connect to a target to be copied or pickled, got one with a channel "
                "of its caller",
                field="channel",
            )
        return type(self), (self._make, self._target, None, self._security, self._is_traced)
