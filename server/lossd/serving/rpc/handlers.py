"""The kinds of functions that the boundary is made of: those that answer calls, and the others.

Services are written to these, and need not know the boundary.
"""

import functools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import grpc

from lossd.serving.call import Call, Received, Trace
from lossd.serving.caller import Caller
from lossd.serving.rpc.admission import AdmissionTicket

Requests = Iterator[bytes]
Handler = Callable[[Received, Call], bytes]
StreamHandler = Callable[[Requests, Call, AdmissionTicket], bytes]
ConversationHandler = Callable[[Requests, Call, AdmissionTicket], Iterator[bytes]]
LetIn = Callable[[str, grpc.ServicerContext, AdmissionTicket], Caller]
Metadata = Iterable[tuple[str, str | bytes]]
# Begins to trace a call from its method, id, metadata, and when it came.
BeginTrace = Callable[[str, str, Metadata, float], Trace | None]


class Pinned(functools.partial[Any]):
    """A method with its first arguments, and the threads that run it.

    gRPC looks for an attribute with exactly this name.
    """

    experimental_thread_pool: ThreadPoolExecutor

    @classmethod
    def to(cls, threads: ThreadPoolExecutor, method: Callable[..., Any], *arguments: Any) -> Self:
        """Pins a method to threads."""
        made = cls(method, *arguments)
        made.experimental_thread_pool = threads
        return made
