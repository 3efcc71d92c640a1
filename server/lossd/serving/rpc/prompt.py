"""Methods that are answered at once, however busy the server is: health and reflection.

They are few and small, anyone may call them, and load balancers and kubelets draw conclusions from
silence.  So they run on threads of their own, and a caller that occupies one silently does not keep
it from the next.
"""

from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeAlias

import grpc
from google.protobuf.message import DecodeError, Message

from lossd.errors import ServiceError
from lossd.serving.rpc.handlers import Pinned
from lossd.serving.rpc.statuses import code_of
from lossd.serving.rpc.threads import BriefThreads

_THREADS = 16
_WAITING = 1000  # callers; an idle stream takes 7 KiB
_LONGEST = 64 << 10  # bytes of a request

Requests = Iterator[Any]
Send = Callable[[Message | None], None]
Answer = Callable[[Requests, grpc.ServicerContext], Message]
Converse = Callable[[Requests, grpc.ServicerContext], Iterator[Message]]
Check = Callable[[grpc.ServicerContext], object]
Subscribe = Callable[[Requests, grpc.ServicerContext, Send], None]
_Method: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


class Type(Protocol):
    """The class of a message, as gRPC needs it."""

    @staticmethod
    def FromString(data: bytes) -> Any: ...  # noqa: D102, N802 - protobuf's
    def SerializeToString(self) -> bytes: ...  # noqa: D102, N802


class _Subscription(Pinned):
    """A method that keeps no thread once it has returned, marked as gRPC expects it."""

    experimental_non_blocking = True


class Prompt:
    """The methods that were added, on threads of their own.

    All of them read their requests as a stream, also those that are unary on the wire: gRPC itself
    would wait, perhaps forever, for the only message of a unary call before it calls the method.
    When too many callers wait, the next ones are told to try again.  A request is parsed here, and
    not by gRPC, whose own thread would make objects of any number of bytes.

    Attributes:
        methods: What was added, by full name.
    """

    def __init__(self) -> None:
        self.threads = BriefThreads(_THREADS, "lossd-prompt")
        self.methods: dict[str, _Method] = {}

    def serve(self, server: grpc.Server) -> None:
        """Has a server, which does not serve yet, answer the methods.

        They are registered, so that gRPC queues the calls of each by themselves: a flood of other
        calls, which has gRPC refuse some, would take the health of the server from all clients.
        """
        for name, method in self.methods.items():
            _, service, short = name.split("/")
            server.add_registered_method_handlers(service, {short: method})

    def answer(self, name: str, request: type[Type], answer: Answer) -> None:
        """Adds a method with one answer, by its full name."""

        def run(requests: Requests, context: grpc.ServicerContext) -> Message:
            self._check_room(context)
            with self.threads.limited(context.cancel):
                return answer(_parsed(request, requests, context), context)

        self.methods[name] = grpc.stream_unary_rpc_method_handler(
            Pinned.to(self.threads, run), None, _encoded
        )

    def converse(
        self, name: str, request: type[Type], converse: Converse, check: Check = lambda _: None
    ) -> None:
        """Adds a method with a stream of answers; ``check`` raises for whom it refuses."""

        def run(requests: Requests, context: grpc.ServicerContext) -> Iterator[Message]:
            self._check_room(context)
            try:
                check(context)
            except ServiceError as error:
                context.abort(code_of(error), str(error))
            with self.threads.limited(context.cancel):
                yield from converse(_parsed(request, requests, context), context)

        self.methods[name] = grpc.stream_stream_rpc_method_handler(
            Pinned.to(self.threads, run), None, _encoded
        )

    def subscribe(self, name: str, request: type[Type], subscribe: Subscribe) -> None:
        """Adds a method whose answers may be sent later, through a function that it is given."""

        def run(requests: Requests, context: grpc.ServicerContext, send: Send) -> None:
            self._check_room(context)
            with self.threads.limited(context.cancel):
                subscribe(_parsed(request, requests, context), context, send)

        self.methods[name] = grpc.stream_stream_rpc_method_handler(
            _Subscription.to(self.threads, run), None, _encoded
        )

    def _check_room(self, context: grpc.ServicerContext) -> None:
        if self.threads.waiting >= _WAITING:
            context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"callers that wait must be at most {_WAITING}, got one more",
            )


def _parsed(kind: type[Type], requests: Requests, context: grpc.ServicerContext) -> Requests:
    for data in requests:
        if len(data) > _LONGEST:
            context.abort(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"request must have at most {_LONGEST} bytes, got {len(data)}",
            )
        try:
            request = kind.FromString(data)
        except DecodeError:
            context.abort(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"request must be an encoded message, got {len(data)} bytes that are not",
            )
        yield request


def _encoded(message: Message) -> bytes:
    return message.SerializeToString()
